"""HTTP connection to a server: address, API key, proxies, and the classification of errors.

The key is sent to the given host only: redirects are not followed.  It is removed from every reply (``secrets.py``).
Proxies from the environment are used, except for servers on this machine, which no proxy could reach.
"""

from __future__ import annotations

import ipaddress
import json
import math
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from evalkit.endpoint import KEY_VARIABLE, Endpoint
from evalkit.version import __version__

from .errors import BadRequest, FatalError, RateLimited, RequestFailed, ServerUnavailable
from .events import is_stream, reply_of
from .parsing import parse_reply
from .rejection import FATAL, MODERATED, Rejection
from .secrets import Mask
from .transport import ENCODINGS, Exchange, Session, exchange, open_session, proxy_of, run_in_thread

MAX_MESSAGE_LENGTH = 300
CONNECT_TIMEOUT = 20.0
"""Seconds."""
RATE_LIMIT_STATUSES = (408, 425, 429)
UNAVAILABLE_STATUSES = (502, 503, 504, 520, 521, 522, 523, 524, 529)


def on_this_machine(base_url: str) -> bool:
    """Whether the server runs on this machine, judging by its host name."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost") or host in (socket.gethostname(), socket.getfqdn()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Connection:
    """A server's address, with the API key for it."""

    def __init__(self, endpoint: Endpoint, key: str | None) -> None:
        self.endpoint = endpoint
        self._key = key
        self._mask = Mask(key)
        self._proxy = None if on_this_machine(endpoint.base_url) else proxy_of(endpoint.base_url)

    def client(self, most: int | None = None) -> Session:
        """A client for concurrent requests, which keeps its connections open.

        Args:
            most: connections; None: as many as there are requests at a time.
        """
        headers = {
            "User-Agent": f"evalkit/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": ENCODINGS,
        }
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        most = self.endpoint.concurrency + 4 if most is None else most
        return open_session(
            self.endpoint.base_url, headers, connections=most, connect_seconds=self._short, proxy=self._proxy
        )  # fmt: skip

    def printable(self, text: str) -> str:
        """A server's message on one line, truncated, and without the key."""
        text = " ".join(self._mask.message(text).split())
        return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[: MAX_MESSAGE_LENGTH - 1]}…"

    def masked(self, text: str) -> str:
        """A text that was put together from several texts of replies, without the key."""
        return self._mask.text(text)

    def get(self, url: str) -> Any:
        """The JSON at ``url``; sends one request.  Raises as ``post`` does."""
        return self._once("GET", url)

    def post_json(self, url: str, content: Any) -> Any:
        """The JSON reply to one request with ``content``.  Raises as ``post`` does."""
        return self._once("POST", url, json.dumps(content).encode())

    def _once(self, method: str, url: str, content: bytes | None = None) -> Any:
        async def send() -> Exchange:
            async with self.client(1) as client:
                return await exchange(
                    client, method, url, seconds=self._short, content=content, described=self.printable
                )  # fmt: skip

        try:
            reply = run_in_thread(send)
        except RequestFailed as error:
            if error.transport:
                raise ServerUnavailable(str(error)) from None
            raise
        self._check(reply)
        return self._parse(reply.body)

    @property
    def _short(self) -> float:
        """Seconds for a request that is no work for the server."""
        return min(CONNECT_TIMEOUT, self.endpoint.timeout)

    async def alive(self, client: Session) -> bool:
        """Whether the server responds to a request for its models, be it with an error."""
        url = f"{self.endpoint.base_url}/models"
        try:
            reply = await exchange(client, "GET", url, seconds=self._short, with_body=False)
        except (ServerUnavailable, RequestFailed):
            return False
        return reply.status not in UNAVAILABLE_STATUSES

    async def post(self, client: Session, path: str, content: bytes) -> Any:
        """The JSON reply to a request, without the key.

        Raises:
            BadRequest, FatalError, RateLimited, ServerUnavailable, RequestFailed: see each class.
        """
        reply = await exchange(
            client, "POST", f"{self.endpoint.base_url}{path}", seconds=self.endpoint.timeout, content=content,
            described=self.printable, option="--timeout",
        )  # fmt: skip
        self._check(reply)
        answer = self._content(reply)
        if isinstance(answer, dict) and answer.get("error") and not answer.get("choices"):
            rejection = Rejection.parse(json.dumps(answer).encode())
            self._classify(rejection.status or 500, rejection, reply)
        return answer

    def _content(self, reply: Exchange) -> Any:
        if not is_stream(reply.headers.get("content-type", ""), reply.body):
            return self._parse(reply.body)
        try:
            return self._mask.value(reply_of(reply.body))
        except ValueError as error:
            message = self.printable(str(error))
            raise RequestFailed(f"the reply is an invalid stream of events ({message})") from None

    def _parse(self, body: bytes) -> Any:
        try:
            return self._mask.value(parse_reply(body))
        except ValueError:
            start = self.printable(body[:4000].decode(errors="replace"))[:80]
            raise RequestFailed(f"the reply is not JSON ({start!r})") from None

    def _check(self, reply: Exchange) -> None:
        status = reply.status
        if status == 200:
            return
        if 300 <= status < 400:
            target = self.printable(_without_query(reply.headers.get("location", "")))
            raise FatalError(f"the server redirects to {target}, which is not followed; give the final address", status)
        self._classify(status, Rejection.parse(reply.body), reply)

    def _classify(self, status: int, rejection: Rejection, reply: Exchange) -> None:
        """Raise the error of a reply, by its status and its codes."""
        rejection = replace(rejection, message=self._mask.message(rejection.message))
        message = self.printable(rejection.message) or self.printable(reply.reason)
        if rejection.codes & MODERATED and 400 <= status < 500:
            raise BadRequest(f"{status}: {message}", rejection)
        if status in (401, 403):
            variable = next(iter(self.endpoint.keys), KEY_VARIABLE)
            rejected = f"the server rejects the key in ${variable}"
            advice = rejected if self._key else f"the server needs a key: set ${variable}"
            raise FatalError(f"{advice} ({status}: {message})", status)
        if status in (402, 404, 405) or rejection.codes & FATAL:
            raise FatalError(f"{status}: {message}", status)
        if status in RATE_LIMIT_STATUSES:
            raise RateLimited(f"{status}: {message}", retry_after(reply.headers))
        if status in UNAVAILABLE_STATUSES:
            raise ServerUnavailable(f"{status}: {message}", retry_after(reply.headers), overload=True)
        if status >= 500 or status < 400:
            raise RequestFailed(f"{status}: {message}", overload=True)
        raise BadRequest(f"{status}: {message}", rejection)


def _without_query(address: str) -> str:
    try:
        url = urlsplit(address)
        return f"{url.scheme}://{url.hostname}{url.path}" if url.hostname else url.path
    except ValueError:
        return "an invalid address"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from ``Retry-After-Ms``, or from ``Retry-After``, which is a number or a date; None for anything else."""
    milliseconds, value = (headers.get(name, "").strip() for name in ("retry-after-ms", "retry-after"))
    for text, unit in ((milliseconds, 1000.0), (value, 1.0)):
        if text.isascii() and text.replace(".", "", 1).isdecimal():
            seconds = float(text) / unit
            return seconds if math.isfinite(seconds) else None
    try:
        then = parsedate_to_datetime(value)
        return max(0.0, (then - datetime.now(UTC)).total_seconds()) if then.tzinfo else None
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
