"""Asking a server many things at a time, and what happens when it does not answer.

Three sorts of trouble are told apart:

- the server is busy or away (429, 502, 503, no connection): the request waits and is sent again.  That is not its
  fault and is not counted; only once nothing at all has been answered for ``--patience`` seconds does the run end;
- the request breaks (500, a cut connection, nonsense, no answer in time) though the server is there: it is sent
  again, up to ``ATTEMPTS`` times in all; then its sample has failed;
- the server does not take the request (400, 422): its sample has failed; or no request can be answered (a wrong key or
  model): the run ends.

Waits grow from half a second to half a minute and are spread at random, so that those who were refused together do not
come back together; a ``Retry-After`` is kept to.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

from evalkit.endpoint import PATIENCE
from evalkit.errors import RunFailed, UserError
from evalkit.types import ImageSize, Request, Response

from .chat_api import Chat
from .concurrency import Gate
from .http import Away, Broken, Busy, Connection, Fatal, Refused
from .image_sizes import Framing, disagreement
from .images import Images
from .logprobs import ranked

log = logging.getLogger(__name__)

ATTEMPTS = 5
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
LOOK_EVERY = 0.2
"""Seconds between looks at whether the run is to stop."""
KEPT = "what was answered is kept, and the same command continues"

Deliver = Callable[[Response], None]


class Asking:
    """One list of requests on its way through a server.

    Args:
        deliver: is given each response as it arrives.
        stop: once set, nothing new is sent, and what waits to be sent again is given up.
        counts: how often what happened, for the record.
    """

    def __init__(
        self,
        connection: Connection,
        chat: Chat,
        gate: Gate,
        images: Images,
        framing: Framing,
        *,
        deliver: Deliver,
        stop: Event | None,
        counts: Counter[str],
    ) -> None:
        self.connection = connection
        self.chat = chat
        self.gate = gate
        self.images = images
        self.framing = framing
        self.counts = counts
        self._deliver = deliver
        self._stop = stop
        self._patience = PATIENCE if connection.endpoint.patience is None else connection.endpoint.patience
        self._heard = time.monotonic()  # when the server last answered anything
        self._silent = False

    async def run(self, requests: Sequence[Request]) -> None:
        """Answer them all, begun in this order, or as many as there are until the run is to stop.

        Raises:
            UserError: it answers nothing of what it is asked, and never has.
            RunFailed: it does not any more.
        """
        waiting = deque(requests)
        running: set[asyncio.Task[Response | None]] = set()
        # Reading and encoding images keeps the loop from nothing: it happens in threads, two to a core at most.
        self._threads = ThreadPoolExecutor(4)
        try:
            async with self.connection.client() as self._client:
                while (waiting and not self._stopping) or running:
                    self._send(waiting, running)
                    if not running:
                        await asyncio.sleep(min(LOOK_EVERY, self.gate.pause()))
                        continue
                    done, _ = await asyncio.wait(
                        running, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED
                    )  # fmt: skip
                    for task in done:
                        running.discard(task)
                        response = task.result()
                        if response is not None:
                            self._deliver(response)
        finally:
            for task in running:
                task.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _stopping(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _send(self, waiting: deque[Request], running: set[asyncio.Task[Response | None]]) -> None:
        while waiting and not self._stopping and len(running) < self.gate.limit and not self.gate.pause():
            running.add(asyncio.ensure_future(self._answered(waiting.popleft())))
        if len(running) < self.gate.limit:
            self.gate.idle()

    # -------------------------------------------------------------------------------------------------- one request

    async def _answered(self, request: Request) -> Response | None:
        """Its response; None where the run is to stop before there is one."""
        began = time.monotonic()
        try:
            image_sizes = await self._image_sizes(request)
            response = await self._response(request)
        except (OSError, ValueError) as error:  # an image that cannot be read, or no processor takes
            names = ", ".join(image.name for image in request.images)
            return self._failed(request, f"{type(error).__name__}: {error}" + (f" ({names})" if names else ""))
        except (Refused, Broken) as error:
            return self._failed(request, f"the server: {error}")
        except Fatal as error:
            said = f"{self.connection.endpoint.base_url}: {error}"
            if self.counts["answered"] == 0:  # it never worked, so it is what was asked for that is wrong
                raise UserError(f"{said}.") from None
            raise RunFailed(f"{said}; {KEPT}.") from None
        if response is None:
            return None
        self._check(request, image_sizes, response)
        self.counts["answered"] += 1
        self.gate.answered()
        return replace(response, image_sizes=image_sizes, seconds=(time.monotonic() - began) / max(1, self.gate.limit))

    async def _image_sizes(self, request: Request) -> tuple[ImageSize, ...]:
        def found() -> tuple[ImageSize, ...]:
            return tuple(self.framing.image_size(self.images.address(image)[1]) for image in request.images)

        return await asyncio.get_running_loop().run_in_executor(self._threads, found)

    async def _response(self, request: Request) -> Response | None:
        if request.continuations:
            try:
                return await ranked(request, self.chat, self._post)
            except _Stopping:
                return None
        try:
            # A reply that says nothing readable is asked for again, as one that is cut off is.
            response: Response = await self._tried(request, {}, lambda reply: self.chat.read(request, reply))
            return response
        except _Stopping:
            return None

    async def _post(self, request: Request, more: Mapping[str, Any]) -> Any:
        return await self._tried(request, more, lambda reply: reply)

    async def _tried(self, request: Request, more: Mapping[str, Any], read: Callable[[Any], Any]) -> Any:
        """The reply to a request, as often as it has to be sent.

        Raises:
            Refused, Broken: it cannot be had.
            Fatal: no reply can be had.
            RunFailed: the server has answered nothing for too long.
        """
        attempts = waits = 0
        while True:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self._threads, lambda: self.chat.body(request, **more))
            began = time.monotonic()
            after: float | None = None
            try:
                found = read(await self.connection.post(self._client, "/chat/completions", content))
                self._answers()
                return found
            except Refused as error:
                self._answers()
                done = self.chat.adapt(content, str(error), error.text)
                if done is None:
                    raise
                if done:
                    self._tell(f"{done} ({error})")
                continue
            except (Busy, Away) as error:
                trouble: Exception = error
                after = error.after
                self.counts["busy" if isinstance(error, Busy) else "away"] += 1
                if error.overload:
                    self.gate.refused(began, after or 0.0)
            except Broken as error:
                trouble = error
                self.counts["broken"] += 1
                if error.overload:
                    self.gate.refused(began)
                if await self.connection.alive(self._client):
                    self._answers()
                    attempts += 1
                    if attempts >= ATTEMPTS:
                        raise Broken(f"{error}, {attempts} times") from None
            self._check_patience(trouble, after)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**waits) * random.uniform(0.5, 1.5)
            waits += 1
            await self._sleep(wait if after is None else after + random.uniform(0, FIRST_WAIT))

    async def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping:
                raise _Stopping
            await asyncio.sleep(min(left, LOOK_EVERY))
        if self._stopping:
            raise _Stopping

    # ------------------------------------------------------------------------------------------- what is said of it

    def _answers(self) -> None:
        """The server answered something."""
        self._heard = time.monotonic()
        if self._silent:
            self._silent = False
            self._tell("it answers again")

    def _check_patience(self, trouble: Exception, after: float | None) -> None:
        silent = time.monotonic() - self._heard
        address = self.connection.endpoint.base_url
        if silent + (after or 0.0) > self._patience:
            raise RunFailed(
                f"{address}: nothing has been answered for {silent:.0f} s (--patience {self._patience:g}), and the "
                f"last request came to: {trouble}; {KEPT}."
                if after is None or silent > self._patience
                else f"{address}: it asks for {after:.0f} s of rest, longer than --patience {self._patience:g} allows "
                f"({trouble}); {KEPT}."
            )
        if not self._silent and silent > 2.0:
            self._silent = True
            self._tell(f"nothing is answered ({trouble}); waiting for it, up to {self._patience:g} s (--patience)")

    def _check(self, request: Request, image_sizes: Sequence[ImageSize], response: Response) -> None:
        said = disagreement(request, image_sizes, self.framing.side, response.prompt_tokens)
        if said is None:
            return
        self.counts["sizes differ"] += 1
        if self.counts["sizes differ"] == 1:
            self._tell(
                f"it does not see images at the sizes that evalkit expects (sample {request.id}: {said}), so boxes "
                f"in pixels are read wrongly; evalkit goes by {self.framing.source}: give --processor FOLDER, the "
                "served checkpoint's, or the --min-pixels and --max-pixels that the server was started with"
            )

    def _failed(self, request: Request, said: str) -> Response:
        log.warning("sample %s: %s", request.id, said)
        return Response(id=request.id, finish="error", error=said)

    def _tell(self, said: str) -> None:
        log.warning("%s: %s", self.connection.endpoint.base_url, said)


class _Stopping(Exception):
    """The run is to stop; the request is given up."""
