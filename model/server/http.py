"""HTTP connection to a server: address, API key, proxies, and the classification of errors.

The key is sent to the given host only: redirects are not followed, and messages from the server are shown without it.
Proxies from the environment are used, except for servers on this machine, which no proxy could reach.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from evalkit.endpoint import KEY_VARIABLE, Endpoint
from evalkit.jsonl import parse
from evalkit.version import __version__

from .events import is_stream, reply_of
from .rejection import FATAL, MODERATED, Rejection

for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

MAX_REPLY_BYTES = 64 * 2**20
MAX_MESSAGE_LENGTH = 300
CONNECT_TIMEOUT = 20.0
"""Seconds."""
RATE_LIMIT_STATUSES = (408, 425, 429)
UNAVAILABLE_STATUSES = (502, 503, 504, 520, 521, 522, 523, 524, 529)


class BadRequest(Exception):
    """The server rejects this request (400, 413, 422, …), and would reject it again.

    Attributes:
        rejection: what the server's reply says; its message may contain the key: do not show it.
    """

    def __init__(self, message: str, rejection: Rejection | None = None) -> None:
        super().__init__(message)
        self.rejection = Rejection(message) if rejection is None else rejection


class FatalError(Exception):
    """No request can be answered: the key, address or model is wrong, or a required field is not supported.

    Attributes:
        status: the HTTP status; None if the error is not a reply of the server.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(Exception):
    """Too many requests.

    Attributes:
        retry_after: seconds, from the Retry-After header; None without one.
        overload: whether the server has too much to do.
    """

    overload = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerUnavailable(Exception):
    """The server cannot be reached, or is temporarily unavailable.

    Attributes:
        retry_after: seconds, from the Retry-After header; None without one.
        overload: whether it may have too much to do.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, overload: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.overload = overload


class RequestFailed(Exception):
    """This request failed: an internal error, a closed connection, a timeout, an invalid reply.

    Attributes:
        overload: whether the server may have too much to do.
    """

    def __init__(self, message: str, *, overload: bool = False) -> None:
        super().__init__(message)
        self.overload = overload


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

    def _options(self) -> dict[str, Any]:
        headers = {"User-Agent": f"evalkit/{__version__}", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return {
            "headers": headers,
            "trust_env": not on_this_machine(self.endpoint.base_url),
            "follow_redirects": False,
        }

    def client(self) -> httpx.AsyncClient:
        """A client for concurrent requests, which keeps its connections open."""
        most = self.endpoint.concurrency + 4
        return httpx.AsyncClient(
            **self._options(),
            timeout=httpx.Timeout(self.endpoint.timeout, connect=min(CONNECT_TIMEOUT, self.endpoint.timeout)),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=30.0),
        )

    def printable(self, text: str) -> str:
        """A server's message on one line, truncated, and without the key."""
        if self._key is not None:
            text = text.replace(self._key, "***")
        text = " ".join(text.split())
        return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[: MAX_MESSAGE_LENGTH - 1]}…"

    def get(self, url: str) -> Any:
        """The JSON at ``url``; sends one request.  Raises as ``post`` does."""
        return self._once("GET", url)

    def post_json(self, url: str, content: Any) -> Any:
        """The JSON reply to one request with ``content``.  Raises as ``post`` does."""
        return self._once("POST", url, json=content)

    def _once(self, method: str, url: str, **more: Any) -> Any:
        try:
            with httpx.Client(**self._options(), timeout=CONNECT_TIMEOUT) as client:
                reply = client.request(method, url, **more)
                content = reply.content
        except httpx.HTTPError as error:
            raise ServerUnavailable(self._describe(error)) from None
        self._check(reply, content)
        return self._parse(content)

    async def alive(self, client: httpx.AsyncClient) -> bool:
        """Whether the server responds to a request for its models, be it with an error."""
        try:
            reply = await client.get(f"{self.endpoint.base_url}/models", timeout=CONNECT_TIMEOUT)
        except httpx.HTTPError:
            return False
        return reply.status_code not in UNAVAILABLE_STATUSES

    async def post(self, client: httpx.AsyncClient, path: str, content: bytes) -> Any:
        """The JSON reply to a request.

        Raises:
            BadRequest, FatalError, RateLimited, ServerUnavailable, RequestFailed: see each class.
        """
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout),
                client.stream(
                    "POST",
                    f"{self.endpoint.base_url}{path}",
                    content=content,
                    headers={"Content-Type": "application/json"},
                ) as reply,
            ):
                pieces: list[bytes] = []
                length = 0
                async for piece in reply.aiter_bytes():
                    pieces.append(piece)
                    length += len(piece)
                    if length > MAX_REPLY_BYTES:
                        raise RequestFailed(f"the reply is longer than {MAX_REPLY_BYTES:,} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise ServerUnavailable(self._describe(error)) from None
        except (TimeoutError, httpx.TimeoutException):
            timeout = f"no response within {self.endpoint.timeout:g} s (--timeout)"
            raise RequestFailed(timeout, overload=True) from None
        except httpx.HTTPError as error:
            raise RequestFailed(self._describe(error)) from None
        body = b"".join(pieces)
        self._check(reply, body)
        answer = self._content(reply, body)
        if isinstance(answer, dict) and answer.get("error") and not answer.get("choices"):
            rejection = Rejection.parse(json.dumps(answer).encode())
            self._classify(rejection.status or 500, rejection, reply)
        return answer

    def _content(self, reply: httpx.Response, body: bytes) -> Any:
        if not is_stream(reply.headers.get("content-type", ""), body):
            return self._parse(body)
        try:
            return reply_of(body)
        except ValueError as error:
            raise RequestFailed(f"the reply is an invalid stream of events ({error})") from None

    def _describe(self, error: Exception) -> str:
        return self.printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def _parse(self, body: bytes) -> Any:
        try:
            return parse(body)
        except ValueError:
            start = self.printable(body[:80].decode(errors="replace"))
            raise RequestFailed(f"the reply is not JSON ({start!r})") from None

    def _check(self, reply: httpx.Response, body: bytes) -> None:
        status = reply.status_code
        if status == 200:
            return
        if 300 <= status < 400:
            url = urlsplit(reply.headers.get("location", ""))
            target = self.printable(f"{url.scheme}://{url.hostname}{url.path}" if url.hostname else url.path)
            raise FatalError(f"the server redirects to {target}, which is not followed; give the final address", status)
        self._classify(status, Rejection.parse(body), reply)

    def _classify(self, status: int, rejection: Rejection, reply: httpx.Response) -> None:
        """Raise the error of a reply, by its status and its codes."""
        message = self.printable(rejection.message) or reply.reason_phrase
        if rejection.codes & MODERATED and 400 <= status < 500:
            raise BadRequest(f"{status}: {message}", rejection)
        if status in (401, 403):
            rejected = f"the server rejects the key in ${KEY_VARIABLE}"
            advice = rejected if self._key else f"the server needs a key: set ${KEY_VARIABLE}"
            raise FatalError(f"{advice} ({status}: {message})", status)
        if status in (402, 404, 405) or rejection.codes & FATAL:
            raise FatalError(f"{status}: {message}", status)
        if status in RATE_LIMIT_STATUSES:
            raise RateLimited(f"{status}: {message}", _retry_after(reply.headers))
        if status in UNAVAILABLE_STATUSES:
            raise ServerUnavailable(f"{status}: {message}", _retry_after(reply.headers), overload=True)
        if status >= 500 or status < 400:
            raise RequestFailed(f"{status}: {message}", overload=True)
        raise BadRequest(f"{status}: {message}", rejection)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from ``Retry-After-Ms``, or from ``Retry-After``, which is a number or a date."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds.replace(".", "", 1).isdecimal() and milliseconds.isascii():
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal() and value.isascii():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, (then - datetime.now(UTC)).total_seconds()) if then.tzinfo else None
