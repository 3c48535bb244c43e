"""What is done with a request before it is sent: its images are encoded, once for all questions about them."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from evalkit.types import ImageSize, Request

from .image_sizes import ResizeRule
from .images import ImageCache
from .videos import PreparedRequest, ServerVideos


class Preparation:
    """Prepares requests in threads, so that images are not read and encoded by the event loop's.

    Decoding and encoding release the interpreter.
    """

    def __init__(self, resize_rule: ResizeRule, images: ImageCache, videos: ServerVideos, threads: Executor) -> None:
        self._resize_rule = resize_rule
        self._images = images
        self._videos = videos
        self._threads = threads
        self._begun: dict[tuple[str, ...], asyncio.Event] = {}  # by the names of images and videos

    def is_cached(self, request: Request) -> bool:
        """Whether a request can be sent without reading, decoding or encoding anything."""
        return not request.videos and all(map(self._images.has, request.images))

    def visual_tokens(self, request: Request) -> int:
        """The tokens of a prepared request's images; 0 if it is not known how images become tokens."""
        rule = self._resize_rule
        if rule.token_side is None:
            return 0
        return sum(rule.tokens(self._images.data_url(image)[1]) for image in request.images)

    async def of(self, request: Request) -> tuple[tuple[ImageSize, ...], PreparedRequest]:
        """The sizes of a request's images, which are then encoded, and the request as it is sent.

        Questions about an image come one after another: the others wait until the first has encoded it.

        Raises:
            OSError, ValueError: an image or a video cannot be read, or is refused by the processor.
        """
        if self.is_cached(request):
            return self._prepare(request)  # a few microseconds; a thread would cost more
        names = tuple(medium.name for medium in request.media)
        while (begun := self._begun.get(names)) is not None:
            await begun.wait()
        if self.is_cached(request):
            return self._prepare(request)
        self._begun[names] = done = asyncio.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare, request)
        finally:
            del self._begun[names]
            done.set()

    def _prepare(self, request: Request) -> tuple[tuple[ImageSize, ...], PreparedRequest]:
        sizes = tuple(self._resize_rule.image_size(self._images.data_url(image)[1]) for image in request.images)
        return sizes, self._videos.prepare(request)
