"""Exchanges with a server, each with a bound in time and in bytes, whatever the server sends."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2 as httpx

from .errors import RequestFailed, ServerUnavailable

MAX_REPLY_BYTES = 16 * 2**20
"""Decoded bytes of a reply; an error reply is cut there."""
ENCODINGS = "gzip, deflate"
"""Those that are asked for, and decoded piece by piece."""
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Exchange:
    """A server's reply: its status, its headers, the reason phrase, and its decoded body."""

    status: int
    headers: httpx.Headers
    reason: str
    body: bytes


async def exchange(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    seconds: float,
    content: bytes | None = None,
    described: Callable[[Exception], str] = repr,
    option: str = "",
    with_body: bool = True,
) -> Exchange:
    """Send a request and read the reply.

    Args:
        seconds: for all of it.
        content: JSON.
        described: makes the message of an error of the connection.
        option: the one that sets ``seconds``, for the message.
        with_body: whether the body is read.

    Raises:
        ServerUnavailable: there is no connection.
        RequestFailed: there is no complete reply within these bounds.
    """
    headers = {} if content is None else {"Content-Type": "application/json"}
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream(method, url, content=content, headers=headers) as reply,
        ):
            body = await _body(reply) if with_body else b""
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise ServerUnavailable(described(error)) from None
    except (TimeoutError, httpx.TimeoutException):
        timeout = f"no response within {seconds:g} s" + (f" ({option})" if option else "")
        raise RequestFailed(timeout, overload=True, transport=True) from None
    except (httpx.HTTPError, httpx.InvalidURL, zlib.error) as error:
        raise RequestFailed(described(error), transport=True) from None
    return Exchange(reply.status_code, reply.headers, reply.reason_phrase, body)


async def _body(reply: httpx.Response) -> bytes:
    pieces: list[bytes] = []
    length = 0
    async for piece in _decoded(reply):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_REPLY_BYTES:
            if reply.status_code == 200:
                raise RequestFailed(f"the reply is longer than {MAX_REPLY_BYTES:,} bytes")
            break
    return b"".join(pieces)[:MAX_REPLY_BYTES]


async def _decoded(reply: httpx.Response) -> AsyncIterator[bytes]:
    """The body's pieces, decoded; a piece of a few bytes cannot become gigabytes."""
    encoding = reply.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        async for piece in reply.aiter_raw():
            yield piece
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestFailed(f"the reply has the encoding {encoding[:40]!r}; requests accept {ENCODINGS}")
    decoder: Any = None
    async for piece in reply.aiter_raw():
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
