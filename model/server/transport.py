"""Exchanges with a server, each with a bound in time and in bytes, whatever the server sends."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import truststore

from evalkit.errors import UserError

from .errors import RequestFailed, ServerUnavailable
from .posting import Posting, Reply

MAX_REPLY_BYTES = 16 * 2**20
"""Decoded bytes of a reply; an error reply is cut there."""
ENCODINGS = "gzip, deflate"
"""Those that are asked for, and decoded piece by piece."""
KEEPALIVE_SECONDS = 30.0
JSON = {"Content-Type": "application/json"}
LARGE_BODY = 2**20
"""Bytes above which a body is sent piece by piece, so that the event loop can do other things in between."""
_Found = TypeVar("_Found")
_reused: ContextVar[bool] = ContextVar("_reused")
"""Whether the connection of a request is one that was kept open."""


@dataclass(frozen=True)
class Exchange:
    """A server's reply: status, headers by their names in lower case, reason phrase, and decoded body."""

    status: int
    headers: Mapping[str, str]
    reason: str
    body: bytes


def open_session(
    base_url: str, headers: Mapping[str, str], *, connections: int, connect_seconds: float, proxy: str | None
) -> Session:
    """A session that keeps its connections open; it follows no redirects, keeps no cookies and reads no ``.netrc``.

    Args:
        headers: of every request.
        connections: the most at a time.
        connect_seconds: for a connection, with the handshake of TLS.
        proxy: from ``proxy_of``.
    """
    secure = base_url.startswith("https:") or (proxy or "").startswith("https:")
    session = aiohttp.ClientSession(
        headers=headers,
        connector=_Connector(
            limit=connections,
            keepalive_timeout=KEEPALIVE_SECONDS,
            resolver=aiohttp.ThreadedResolver(),
            # The operating system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR.
            ssl=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if secure else True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),  # a reply concerns no other request
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        auto_decompress=False,
        proxy=proxy,
    )
    return Session(session, direct=proxy is None)


class Session:
    """Connections to a server, which are closed at the end of the context.

    Args:
        direct: whether no proxy is in between.
    """

    def __init__(self, http: aiohttp.ClientSession, *, direct: bool) -> None:
        self.http = http
        self._direct = direct
        self._postings: dict[str, Posting] = {}

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    def posting(self, url: str) -> Posting | None:
        """What sends JSON to an address in little time; None if a proxy is in between."""
        if self._direct and url not in self._postings:
            self._postings[url] = Posting(self.http, url, JSON)
        return self._postings.get(url)


class _Connector(aiohttp.TCPConnector):
    """Notes which connections are new; aiohttp's own signals (tracing) cost a fifth of what a request does."""

    async def _create_connection(self, *arguments: Any, **options: Any) -> Any:
        _reused.set(False)
        return await super()._create_connection(*arguments, **options)


def proxy_of(base_url: str) -> str | None:
    """The proxy that the environment names for an address.

    Raises:
        UserError: it is of a kind that is not supported.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if proxy_bypass(host) or proxy_bypass(f"{host}:{parts.port}"):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    found = found if "://" in found else f"http://{found}"
    scheme = urlsplit(found).scheme.lower()
    if scheme not in ("http", "https"):
        raise UserError(
            f"{base_url}: the environment names a {scheme} proxy for it, and only http and https proxies "
            f"are supported; unset it, or set NO_PROXY={host}."
        )
    return found


async def exchange(
    session: Session,
    method: str,
    url: str,
    *,
    seconds: float,
    content: bytes | None = None,
    described: Callable[[str], str] = str,
    option: str = "",
    with_body: bool = True,
) -> Exchange:
    """Send a request and read the reply.

    Args:
        seconds: for all of it.
        content: JSON.
        described: makes a message of what is wrong with the connection.
        option: the one that sets ``seconds``, for the message.
        with_body: whether the body is read.

    Raises:
        ServerUnavailable: there is no connection.
        RequestFailed: there is no complete reply within these bounds.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                _reused.set(True)
                try:
                    return await _exchange(session, method, url, content, with_body=with_body)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                    if not _reused.get():  # else the server may just have closed it, since it was idle
                        raise
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
        raise ServerUnavailable(described(_reason(error))) from None
    except TimeoutError:
        timeout = f"no response within {seconds:g} s" + (f" ({option})" if option else "")
        raise RequestFailed(timeout, overload=True, transport=True) from None
    except (aiohttp.ClientError, OSError, zlib.error) as error:
        raise RequestFailed(described(_reason(error)), transport=True) from None


async def _exchange(session: Session, method: str, url: str, content: bytes | None, *, with_body: bool) -> Exchange:
    reply: aiohttp.ClientResponse | Reply
    large = content is not None and len(content) > LARGE_BODY
    if content is not None and not large and (posting := session.posting(url)) is not None:
        async with await posting.send(content) as reply:
            body = await _body(reply)
    else:
        data = io.BytesIO(content) if content is not None and large else content
        headers = {} if content is None else JSON
        async with session.http.request(method, url, data=data, headers=headers, allow_redirects=False) as reply:
            body = await _body(reply) if with_body else b""
    known = {name.lower(): _readable(value) for name, value in reply.headers.items()}
    return Exchange(reply.status, known, _readable(reply.reason or ""), body)


def _readable(text: str) -> str:
    """A header's text, in which bytes that are not UTF-8 are replaced."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")


def _reason(error: Exception) -> str:
    """What is wrong with a connection, without the bytes that came."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses the connection ({error.status} {_readable(error.message)})"
    if isinstance(error, aiohttp.ClientResponseError):  # aiohttp's parser has quoted what it did not understand
        what = error.message.partition("\n")[0].partition(" b'")[0].partition(' b"')[0].strip(" :.,")
        return f"the reply is not valid HTTP ({_readable(what)})"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{name}: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, socket.gaierror):
        return f"{name}: {error.os_error.strerror} ({error.host})"
    return f"{name}: {error}" if str(error) else name


async def _body(reply: aiohttp.ClientResponse | Reply) -> bytes:
    encoding = reply.headers.get("Content-Encoding", "").strip().lower()
    pieces: list[bytes] = []
    length = 0
    source = reply.content.iter_any() if encoding in ("", "identity") else _decoded(reply, encoding)
    async for piece in source:
        pieces.append(piece)
        length += len(piece)
        if length > MAX_REPLY_BYTES:
            if reply.status == 200:
                raise RequestFailed(f"the reply is longer than {MAX_REPLY_BYTES:,} bytes")
            break
    return b"".join(pieces)[:MAX_REPLY_BYTES]


async def _decoded(reply: aiohttp.ClientResponse | Reply, encoding: str) -> AsyncIterator[bytes]:
    """The body's pieces, decoded; a piece of a few bytes cannot become gigabytes."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestFailed(f"the reply has the encoding {encoding[:40]!r}; requests accept {ENCODINGS}")
    decoder: Any = None
    async for piece in reply.content.iter_any():
        if decoder is None and piece:
            # "deflate" is zlib's format, but some servers leave out its header.
            raw = encoding == "deflate" and piece[0] & 0x0F != 8
            decoder = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
        while piece and not decoder.eof:
            yield decoder.decompress(piece, MAX_REPLY_BYTES)
            piece = decoder.unconsumed_tail


def run_in_thread(work: Callable[[], Coroutine[Any, Any, _Found]]) -> _Found:
    """The result of a coroutine; a notebook's own event loop may already run in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
