"""Send one request until it is answered, or has failed.

Errors fall into three classes:

- The server is overloaded or unavailable (429, 502, 503, no connection): the request is sent again after a wait, as
  often as needed.  The run ends only when the server has not answered anything for ``--patience`` seconds.
- The request fails (500, connection closed, invalid reply, timeout) although the server is up: it is sent again, up to
  ``MAX_ATTEMPTS`` times in all; then its sample fails.
- The server rejects the request (400, 422): its sample fails.  If it would reject every request (wrong key or model),
  the run ends.

Waits grow from half a second to half a minute, with random jitter so that requests that were refused together are not
sent again together.  ``Retry-After`` is respected.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from threading import Event
from typing import Any

from evalkit.endpoint import PATIENCE
from evalkit.errors import RunFailed
from evalkit.types import Request

from .chat_api import ChatAPI
from .concurrency import ConcurrencyLimiter
from .errors import BadRequest, FatalError, RateLimited, RequestFailed, ServerUnavailable
from .http import Connection
from .image_uuids import ServerImages, Uuids
from .preparation import Preparation
from .replies import prompt_tokens
from .transport import Session
from .waiting import Stopping, Waits
from .watch import Watched

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
SILENCE_BEFORE_WARNING = 2.0
"""Seconds without an answer after which a warning says so."""
RESUME = "answers so far are saved; run the same command to resume"


class _UuidsRefused(Exception):
    """A request was not answered that had images without their data."""


class Sender:
    """Sends the requests of a client, each until it is answered.

    Args:
        images: those that the server has.
        session: connections to the server.
        preparation: of the requests' images.
        threads: encode images.
        stop: once set, requests that wait to be sent again are given up.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        chat: ChatAPI,
        limiter: ConcurrencyLimiter,
        preparation: Preparation,
        threads: Executor,
        images: ServerImages,
        *,
        waits: Waits,
        counts: Counter[str],
        server: Watched,
        stop: Event | None,
    ) -> None:
        self._connection = connection
        self._session = session
        self._chat = chat
        self._limiter = limiter
        self._preparation = preparation
        self._threads = threads
        self._images = images
        self._waits = waits
        self._counts = counts
        self._server = server
        self._stop = stop
        self._patience = PATIENCE if connection.endpoint.patience is None else connection.endpoint.patience
        self._last_reply = time.monotonic()
        self._silence_reported = False

    async def send(self, request: Request, fields: Mapping[str, Any], parse: Callable[[Any], Any]) -> Any:
        """Send a request until it is answered, and return the parsed reply.

        Args:
            fields: further fields of the request.

        Raises:
            BadRequest, RequestFailed: this request has no reply.
            FatalError: no request will have a reply.
            RunFailed: the server has not answered anything for too long.
        """
        failures = waits = 0
        refused = False  # whether its images have to be sent, since the server did not take their uuids
        while True:
            if await self._server.available(self._stop):  # it has been restarted meanwhile
                waits = 0
                self._last_reply = time.monotonic()
                if self._waits.stopping:
                    raise Stopping
            uuids = None if refused else self._images.uuids(self._server.restarts)
            content = await self._body(request, uuids, fields)
            if waits:  # it may have been refused because others are in flight
                await self._waits.turn()
            sent = time.monotonic()
            retry_after: float | None = None
            try:
                parsed = await self._answer(content, request, uuids, parse)
                self._record_reply()
                if uuids is not None:
                    self._images.answered(uuids)
                elif refused:
                    self._images.resent(self._connection.endpoint.base_url)
                return parsed
            except _UuidsRefused:
                assert uuids is not None
                self._record_reply()
                self._images.refused(uuids)
                refused = True
                continue
            except BadRequest as error:
                self._record_reply()
                change = self._chat.adapt(content, str(error), error.rejection)
                if change is None:
                    raise
                if change:
                    self._warn(f"{change} ({error})")
                continue
            except (RateLimited, ServerUnavailable) as error:
                trouble: Exception = error
                retry_after = error.retry_after
                self._counts["rate_limited" if isinstance(error, RateLimited) else "unavailable"] += 1
                if error.overload:
                    self._limiter.record_overload(sent, retry_after or 0.0, refused=True)
                elif isinstance(error, ServerUnavailable):
                    self._record_loss()
            except RequestFailed as error:
                trouble = error
                self._counts["failed"] += 1
                if error.overload:
                    self._limiter.record_overload(sent)
                elif error.transport:
                    self._record_loss()
                if await self._connection.alive(self._session):
                    self._record_reply()
                    failures += 1
                    if failures >= MAX_ATTEMPTS:
                        raise RequestFailed(f"{error}, {failures} times") from None
            self._check_patience(trouble, retry_after)
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(waits, 20)) * random.uniform(0.5, 1.5)
            waits += 1
            if retry_after is not None:
                await self._waits.sleep(retry_after + random.uniform(0, FIRST_WAIT))
            else:
                # Where the server answers others, it has room for this one again.
                await self._waits.sleep(wait, until_answer=isinstance(trouble, RateLimited | ServerUnavailable))

    async def _body(self, request: Request, uuids: Uuids | None, fields: Mapping[str, Any]) -> bytes:
        if self._preparation.is_cached(request):
            return self._chat.body(request, uuids, **fields)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: self._chat.body(request, uuids, **fields))

    async def _answer(
        self, content: bytes, request: Request, uuids: Uuids | None, parse: Callable[[Any], Any]
    ) -> Any:  # fmt: skip
        """The parsed reply to one request.  Raises ``_UuidsRefused`` for any error that its uuids may have caused."""
        if uuids is None or not uuids.alone:
            return parse(await self._post(content))
        try:
            reply = await self._post(content)
            parsed = parse(reply)
        except (BadRequest, FatalError, RequestFailed) as error:
            if isinstance(error, RequestFailed) and error.transport:
                raise
            raise _UuidsRefused from None
        if isinstance(reply, dict) and 0 < prompt_tokens(reply) < self._preparation.visual_tokens(request):
            self._images.stop(self._connection.endpoint.base_url, "a prompt has fewer tokens than its images")
            raise _UuidsRefused
        return parsed

    async def _post(self, content: bytes) -> Any:
        self._limiter.record_sent()
        try:
            return await self._connection.post(self._session, "/chat/completions", content)
        finally:
            self._limiter.record_done()
            self._waits.wake()

    def _record_loss(self) -> None:
        """Record that the connection was lost: somebody may have put another server in the place of this one."""
        if self._server.restarts is None:
            self._images.stop(self._connection.endpoint.base_url, None)

    def _record_reply(self) -> None:
        """Record that the server replied."""
        self._last_reply = time.monotonic()
        if self._silence_reported:
            self._silence_reported = False
            self._warn("the server responds again")

    def _check_patience(self, trouble: Exception, retry_after: float | None) -> None:
        silent = time.monotonic() - self._last_reply
        address = self._connection.endpoint.base_url
        if silent > self._patience and self._server.unresponsive(silent):
            self._last_reply = time.monotonic()
            return
        if silent + (retry_after or 0.0) > self._patience:
            raise RunFailed(
                f"{address}: no response for {silent:.0f} s (--patience {self._patience:g}), giving up; the last "
                f"error: {trouble}; {RESUME}."
                if retry_after is None or silent > self._patience
                else f"{address}: the server asks to retry after {retry_after:.0f} s, longer than --patience "
                f"{self._patience:g} ({trouble}); {RESUME}."
            )
        if not self._silence_reported and silent > SILENCE_BEFORE_WARNING:
            self._silence_reported = True
            self._warn(f"the server does not respond ({trouble}); retrying for up to {self._patience:g} s (--patience)")

    def _warn(self, text: str) -> None:
        log.warning("%s: %s", self._connection.endpoint.base_url, text)
