"""Talking to a server: addresses, the key, proxies, and what its replies mean for a request and for a run.

The key goes to the host that was named and nowhere else: redirects are not followed, and whatever a server says is
shown without it.  Proxies of the environment are used, but for servers on this machine, which no proxy could reach.
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

from evalkit.endpoint import KEY, Endpoint
from evalkit.version import __version__

for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

LONGEST = 64 * 2**20
"""Bytes of a reply that are read; none is so long."""
SHOWN = 300
CONNECTING = 20.0
"""Seconds that it may take to connect."""
BUSY = (408, 425, 429)
AWAY = (502, 503, 504, 520, 521, 522, 523, 524, 529)


class Refused(Exception):
    """The server does not take this request (400, 413, 422, …): it would not take it another time either.

    ``text`` is all that it said, not to be shown.
    """

    def __init__(self, said: str, text: str = "") -> None:
        super().__init__(said)
        self.text = text


class Fatal(Exception):
    """No request can be answered: the key, the address or the model is wrong."""


class Busy(Exception):
    """Not now: too many requests.  ``after`` is for how many seconds it asks to be left alone."""

    overload = True

    def __init__(self, said: str, after: float | None = None) -> None:
        super().__init__(said)
        self.after = after


class Away(Exception):
    """There is no server, for the time being.  ``after`` as for ``Busy``; ``overload``: it may have too much to do."""

    def __init__(self, said: str, after: float | None = None, *, overload: bool = False) -> None:
        super().__init__(said)
        self.after = after
        self.overload = overload


class Broken(Exception):
    """Something went wrong with this request: an internal error, a cut connection, no reply in time, no JSON."""

    def __init__(self, said: str, *, overload: bool = False) -> None:
        super().__init__(said)
        self.overload = overload


def on_this_machine(base_url: str) -> bool:
    """Whether the server runs here, by the name of its host."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost") or host in (socket.gethostname(), socket.getfqdn()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Connection:
    """A server's address with the key that goes there."""

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
        """For many requests at a time, whose connections are kept."""
        most = self.endpoint.concurrency + 4
        return httpx.AsyncClient(
            **self._options(),
            timeout=httpx.Timeout(self.endpoint.timeout, connect=min(CONNECTING, self.endpoint.timeout)),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=30.0),
        )

    def shown(self, text: str) -> str:
        """What a server said, on one line, not too long, and without the key."""
        if self._key is not None:
            text = text.replace(self._key, "***")
        text = " ".join(text.split())
        return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"

    def get(self, url: str) -> Any:
        """The JSON at ``url``, asked for once.  Raises as ``post`` does."""
        try:
            with httpx.Client(**self._options(), timeout=CONNECTING) as client:
                reply = client.get(url)
                content = reply.content
        except httpx.HTTPError as error:
            raise Away(self._trouble(error)) from None
        self._check(reply, content)
        return self._parsed(content)

    async def alive(self, client: httpx.AsyncClient) -> bool:
        """Whether the server answers anything."""
        try:
            reply = await client.get(f"{self.endpoint.base_url}/models", timeout=CONNECTING)
        except httpx.HTTPError:
            return False
        return bool(reply.status_code < 500)

    async def post(self, client: httpx.AsyncClient, path: str, content: bytes) -> Any:
        """The reply to a request.

        Raises:
            Refused, Fatal, Busy, Away, Broken: as it says.
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
                    if length > LONGEST:
                        raise Broken(f"a reply of more than {LONGEST:,} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise Away(self._trouble(error)) from None
        except (TimeoutError, httpx.TimeoutException):
            raise Broken(f"no answer within {self.endpoint.timeout:g} s (--timeout)", overload=True) from None
        except httpx.HTTPError as error:
            raise Broken(self._trouble(error)) from None
        body = b"".join(pieces)
        self._check(reply, body)
        return self._parsed(body)

    def _trouble(self, error: Exception) -> str:
        return self.shown(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def _parsed(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            start = self.shown(body[:80].decode(errors="replace"))
            raise Broken(f"a reply that is not JSON ({start!r})") from None

    def _check(self, reply: httpx.Response, body: bytes) -> None:
        status = reply.status_code
        if status == 200:
            return
        text = _message(body)
        said = self.shown(text) or reply.reason_phrase
        if 300 <= status < 400:
            where = urlsplit(reply.headers.get("location", ""))
            target = self.shown(f"{where.scheme}://{where.hostname}{where.path}" if where.hostname else where.path)
            raise Fatal(f"it redirects to {target}, which was not followed; give the address itself")
        if status in (401, 403):
            wrong = f"it does not take the key in ${KEY}" if self._key else f"it wants a key: set ${KEY}"
            raise Fatal(f"{wrong} ({status}: {said})")
        if status in (402, 404, 405):
            raise Fatal(f"{status}: {said}")
        if status in BUSY:
            raise Busy(f"{status}: {said}", _after(reply.headers))
        if status in AWAY:
            raise Away(f"{status}: {said}", _after(reply.headers), overload=True)
        if status >= 500 or status < 400:
            raise Broken(f"{status}: {said}", overload=True)
        raise Refused(f"{status}: {said}", text)


def _message(body: bytes) -> str:
    """The sentence inside an error's JSON, in any of the forms that servers have for it."""
    text = body[:20_000].decode(errors="replace")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return text
    for _ in range(3):
        if not isinstance(content, dict):
            break
        content = next((content[k] for k in ("error", "message", "detail") if content.get(k)), content)
    return content if isinstance(content, str) else json.dumps(content)


def _after(headers: Mapping[str, str]) -> float | None:
    """The seconds that ``Retry-After`` asks for: a number, or a date."""
    value = headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal() and value.isascii():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, (then - datetime.now(UTC)).total_seconds()) if then.tzinfo else None
