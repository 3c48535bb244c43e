"""Send requests to a server concurrently; each is sent until it is answered or fails (``sending.py``)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

from evalkit.errors import RunFailed, UserError
from evalkit.reasoning import REASONING, split
from evalkit.reasoning_tokens import reasoning_end
from evalkit.types import ImageSize, Request, Response

from .chat_api import ChatAPI
from .concurrency import ConcurrencyLimiter
from .errors import BadRequest, FatalError, RequestFailed
from .http import Connection
from .image_sizes import ResizeRule, size_mismatch
from .image_uuids import ServerImages
from .images import ImageCache
from .logprobs import rank_options
from .preparation import Preparation
from .prompt_end import decoded, token_count
from .sending import RESUME, Sender
from .videos import ServerVideos
from .waiting import POLL_SECONDS, Stopping, Waits
from .watch import Unwatched, Waiting, Watched

log = logging.getLogger(__name__)


class Client:
    """Sends a list of requests to a server.

    Args:
        deliver: is called with each response when it arrives.
        stop: once set, nothing more is sent, and requests that wait to be sent again are given up.
        counts: counts answers and errors, by kind.
        sent_images: those that the server has; None: it is sent images with each request.
        server: knows whether the server is being restarted; None for a server that is not evalkit's.
    """

    def __init__(
        self,
        connection: Connection,
        chat: ChatAPI,
        limiter: ConcurrencyLimiter,
        images: ImageCache,
        resize_rule: ResizeRule,
        videos: ServerVideos,
        *,
        deliver: Callable[[Response], None],
        stop: Event | None,
        counts: Counter[str],
        server: Watched | None = None,
        sent_images: ServerImages | None = None,
    ) -> None:
        self.connection = connection
        self.chat = chat
        self.limiter = limiter
        self.images = images
        self.resize_rule = resize_rule
        self.videos = videos
        self.counts = counts
        self.sent_images = ServerImages(images) if sent_images is None else sent_images
        self._deliver = deliver
        self._server = Unwatched() if server is None else server
        self._stop = stop
        self._waits = Waits(limiter, counts, stop)
        self._decoded = False  # whether the server has been requested to decode the end of a prompt
        self._decoding = asyncio.Lock()
        self._tokenizes = True  # until the server turns out not to tokenize texts

    async def run(self, requests: Iterable[Request] | Waiting) -> None:
        """Send all requests in this order, and deliver their responses; ends early if the run is to stop.

        Args:
            requests: all of them, or a queue that others take requests from, too.

        Raises:
            UserError: the server rejects every request.
            RunFailed: the server stopped answering.
            Exception: raised by ``server`` if it cannot be restarted.
        """
        waiting: Waiting = requests if isinstance(requests, Waiting) else deque(requests)
        running: set[asyncio.Task[Response | None]] = set()
        done: deque[asyncio.Task[Response | None]] = deque()
        changed = asyncio.Event()

        def finish(task: asyncio.Task[Response | None]) -> None:
            done.append(task)
            changed.set()

        async def look() -> None:
            """See now and then whether the run is to stop; a timeout of each wait would cost more."""
            while True:
                await asyncio.sleep(POLL_SECONDS)
                changed.set()

        # Images are read and encoded in threads, so that they do not block the event loop.
        self._threads = ThreadPoolExecutor(4)
        self._preparation = Preparation(self.resize_rule, self.images, self.videos, self._threads)
        try:
            async with self.connection.client() as session:
                self._sender = Sender(
                    self.connection, session, self.chat, self.limiter, self._preparation, self._threads,
                    self.sent_images,
                    waits=self._waits, counts=self.counts, server=self._server, stop=self._stop,
                )  # fmt: skip
                looking = asyncio.create_task(look())
                try:
                    while (waiting and not self._waits.stopping) or running:
                        self._start_tasks(waiting, running, finish)
                        if not running:
                            await asyncio.sleep(min(POLL_SECONDS, self.limiter.seconds_paused()))
                            continue
                        # asyncio.wait() would add a callback to each of the running tasks for every answer.
                        await changed.wait()
                        changed.clear()
                        while done:
                            task = done.popleft()
                            running.discard(task)
                            response = task.result()
                            if response is not None:
                                self._deliver(response)
                finally:  # before their connections are closed
                    for task in (*running, looking):
                        task.cancel()
                    await asyncio.gather(*running, looking, return_exceptions=True)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _start_tasks(
        self,
        waiting: Waiting,
        running: set[asyncio.Task[Response | None]],
        finish: Callable[[asyncio.Task[Response | None]], None],
    ) -> None:
        limiter = self.limiter
        while waiting and not self._waits.stopping and len(running) < limiter.limit and not limiter.seconds_paused():
            task = asyncio.ensure_future(self._respond(waiting.popleft()))
            task.add_done_callback(finish)
            running.add(task)
        limiter.record_load(len(running))

    # -------------------------------------------------------------------------------------------------- one request

    async def _respond(self, request: Request) -> Response | None:
        """The response to a request; None if the run is to stop before there is one."""
        started = time.monotonic()
        try:
            image_sizes, prepared = await self._preparation.of(request)
            response = await self._ask(prepared.request)
        except (OSError, ValueError) as error:  # an image that is unreadable, or refused by the processor
            names = ", ".join(medium.name for medium in (*request.images, *request.videos))
            return self._error_response(
                request, f"{type(error).__name__}: {error}" + (f" ({names})" if names else "")
            )  # fmt: skip
        except (BadRequest, RequestFailed) as error:
            return self._error_response(request, f"the server: {self.connection.masked(str(error))}")
        except FatalError as error:
            text = f"{self.connection.endpoint.base_url}: {str(error).rstrip('.')}"
            if self.counts["answered"] == 0:  # it never worked, so the options are wrong
                raise UserError(f"{text}.") from None
            raise RunFailed(f"{text}; {RESUME}.") from None
        if response is None:
            return None
        if not prepared.videos:
            self._check_sizes(request, image_sizes, response)
        elif (mismatch := prepared.mismatch(response.prompt_tokens)) is not None:
            self._check_frames(request, mismatch)
        self.counts["answered"] += 1
        seconds = time.monotonic() - started
        self.limiter.record_answer(seconds)
        seconds /= max(1, self.limiter.limit)
        text = self.connection.masked(response.text)
        reason = None if response.error is None else self.connection.masked(response.error)
        return replace(
            response, text=text, error=reason, image_sizes=image_sizes, seconds=seconds, video_inputs=prepared.videos
        )

    async def _ask(self, request: Request) -> Response | None:
        try:
            if request.continuations:
                return await rank_options(request, self._sender.send)
            # A reply that cannot be parsed is requested again, like one that was cut off.
            response: Response = await self._sender.send(request, {}, lambda reply: self.chat.parse(request, reply))
            if response.finish != "length" and response.reasoning_tokens is not None:
                return response
            return await self._with_reasoning_tokens(request, await self._with_prompt_end(response))
        except Stopping:
            return None

    async def _with_prompt_end(self, response: Response) -> Response:
        """The response with the prompt's end, if a truncated answer may be reasoning that the prompt opened."""
        chat = self.chat
        if response.finish != "length" or response.prompt_end or split(response.text).rule != "none":
            return response
        async with self._decoding:
            if not chat.prompt_end and chat.last_prompt and not self._decoded:
                self._decoded = True
                loop = asyncio.get_running_loop()
                chat.prompt_end = await loop.run_in_executor(
                    self._threads, lambda: decoded(self.connection, chat.model, chat.last_prompt)
                )
        return replace(response, prompt_end=chat.prompt_end)

    async def _with_reasoning_tokens(self, request: Request, response: Response) -> Response:
        """The response with its number of reasoning tokens: all but those of the final answer, which vLLM counts."""
        markers, ended = request.markers or REASONING, response.finish == "stop"
        end = reasoning_end(response.text, response.prompt_end, markers, ended=ended)
        if response.reasoning_tokens or not end or not response.new_tokens:
            return response
        count: int | None = 0
        if end < len(response.text):
            if not self._tokenizes:
                return response
            loop = asyncio.get_running_loop()
            count = await loop.run_in_executor(
                self._threads, lambda: token_count(self.connection, self.chat.model, response.text[end:])
            )
        self._tokenizes = count is not None
        return response if count is None else replace(response, reasoning_tokens=max(0, response.new_tokens - count))

    # ----------------------------------------------------------------------------------------------------- messages

    def _check_sizes(self, request: Request, image_sizes: Sequence[ImageSize], response: Response) -> None:
        mismatch = size_mismatch(request, image_sizes, self.resize_rule.token_side, response.prompt_tokens)
        if mismatch is None:
            return
        self.counts["size_mismatches"] += 1
        if self.counts["size_mismatches"] == 1:
            self._warn(
                f"the server resizes images differently than expected (sample {request.id}: {mismatch}), so boxes in "
                f"pixels are parsed wrongly; evalkit assumes {self.resize_rule.source}. Give the served checkpoint's "
                "folder with --processor, or the --min-pixels and --max-pixels that the server was started with"
            )

    def _check_frames(self, request: Request, mismatch: str) -> None:
        self.counts["frame_mismatches"] += 1
        if self.counts["frame_mismatches"] == 1:
            self._warn(
                f"the server resizes or drops frames, so the model sees others than are recorded (sample {request.id}: "
                f"{mismatch}); give the served checkpoint's folder with --processor, or a rule with smaller frames"
            )

    def _error_response(self, request: Request, error: str) -> Response:
        log.warning("sample %s: %s", request.id, error)
        return Response(id=request.id, finish="error", error=error)

    def _warn(self, text: str) -> None:
        log.warning("%s: %s", self.connection.endpoint.base_url, text)
