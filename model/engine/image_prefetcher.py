"""Reads, decodes and preprocesses images and videos in threads before their sequences are prefilled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from evalkit.model.hf.threads import threads
from evalkit.model.videos import SelectedVideo
from evalkit.types import ImageRef, image_key

from .preprocess import EncoderInput
from .vision import ImageProcessor, ProcessedImage


def media_key(medium: ImageRef | SelectedVideo) -> str:
    """Equal for references to the same content."""
    return medium.key if isinstance(medium, SelectedVideo) else image_key(medium)


class ImagePrefetcher:
    """Prefetches images and videos in the order in which they will be needed.

    Args:
        order: the images and videos, the first needed first.
        workers: number of threads; 0 to read each image when it is needed.
        max_pixels: how many pixels may be ready or in progress (the next image or video always may).
    """

    def __init__(
        self,
        order: Sequence[ImageRef | SelectedVideo],
        processor: ImageProcessor,
        *,
        workers: int,
        max_pixels: int,
    ) -> None:
        self._processor = processor
        self._order = iter({media_key(medium): medium for medium in order}.values())
        self._next = next(self._order, None)
        self._pool = threads(workers) if workers else None
        self._max_pixels = max_pixels
        self._futures: dict[str, tuple[Future[Any], int]] = {}
        self._pixels = 0

    def close(self) -> None:
        """Stop prefetching; images and videos are then read when they are asked for."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            self._futures.clear()

    def image(self, image: ImageRef) -> ProcessedImage:
        """Return the image.  Raises ``OSError`` or ``ValueError`` if it cannot be read."""
        found: ProcessedImage = self._get(image)
        return found

    def video(self, video: SelectedVideo) -> Sequence[EncoderInput]:
        """Return the pixels of a video's frame groups.  Raises ``OSError`` or ``ValueError``."""
        found: Sequence[EncoderInput] = self._get(video)
        return found

    def _get(self, medium: ImageRef | SelectedVideo) -> Any:
        self._submit()
        future, pixels = self._futures.pop(media_key(medium), (None, 0))
        try:
            return self._load(medium) if future is None else future.result()
        finally:
            self._pixels -= pixels
            self._submit()

    def _load(self, medium: ImageRef | SelectedVideo) -> Any:
        if isinstance(medium, SelectedVideo):
            return self._processor.preprocess_video(medium)
        return self._processor.preprocess(medium.load())

    def _submit(self) -> None:
        while self._pool is not None and self._next is not None:
            pixels = _pixels(self._next)
            if self._futures and self._pixels + pixels > self._max_pixels:
                return
            self._futures[media_key(self._next)] = self._pool.submit(self._load, self._next), pixels
            self._pixels += pixels
            self._next = next(self._order, None)


def _pixels(medium: ImageRef | SelectedVideo) -> int:
    if isinstance(medium, SelectedVideo):
        return medium.pixels
    try:
        width, height = medium.size()
    except (OSError, ValueError):
        return 0  # loading it will raise the error
    return width * height
