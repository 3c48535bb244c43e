"""The short way of sending JSON does what aiohttp's own does, whatever the server replies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from evalkit.model.server import transport
from evalkit.model.server.errors import RequestFailed, ServerUnavailable
from evalkit.model.server.transport import Exchange, Session, exchange, open_session

HEADERS = {"User-Agent": "evalkit/0", "Accept": "application/json", "Authorization": "Bearer secret"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REPLIES = {
    "whole": OK,
    "continued": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "empty": b"HTTP/1.1 204 No Content\r\nX-One: a\r\nX-One: b\r\n\r\n",
    "odd header": b"HTTP/1.1 429 \xff\r\nRetry-After: \xff3\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 307 Elsewhere\r\nLocation: http://x.invalid/\r\nContent-Length: 0\r\n\r\n",
    "too short": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
    "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    "too much": OK + b"HTTP/1.1 200 OK\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
    "not gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "brotli": b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
}


class Server:
    """Replies to each request with the same bytes.

    Args:
        closing: whether it then closes the connection.
        reading: whether it reads the bodies.
    """

    def __init__(self, reply: bytes, *, closing: bool = False, reading: bool = True) -> None:
        self.reply = reply
        self.closing = closing
        self.reading = reading
        self.requests: list[bytes] = []
        self.connections = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:")
                self.requests.append(head + (await reader.readexactly(length) if self.reading else b""))
                writer.write(self.reply)
                await writer.drain()
                if self.closing:
                    break
                if not self.reading:
                    await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def run(self, use: Callable[[Session, str], Awaitable[None]], *, direct: bool) -> None:
        """Use the server, by the short way if ``direct``."""

        async def main() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions?v=1"
            async with open_session(url, HEADERS, connections=4, connect_seconds=5.0, proxy=None) as session:
                if not direct:
                    session = Session(session.http, direct=False)
                await use(session, url)
            server.close()

        asyncio.run(main())


def _in_order(request: bytes) -> list[bytes]:
    """A request's lines in alphabetic order; that of ``Host`` without the port, which is another for each server."""
    lines = request.split(b"\r\n")
    assert any(re.fullmatch(rb"Host: 127\.0\.0\.1:\d+", line) for line in lines)
    return sorted(b"Host" if line.startswith(b"Host: ") else line for line in lines)


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("name", REPLIES)
def test_both_ways_do_the_same(name: str, closing: bool) -> None:
    if not closing and name in ("until the end", "too short", "cut chunk", "no HTTP", "nothing"):
        closing = True  # else both wait for more
    found: dict[bool, tuple[list[Exchange | str], list[list[bytes]], int]] = {}
    for direct in (True, False):
        outcomes: list[Exchange | str] = []

        async def use(session: Session, url: str, outcomes: list[Exchange | str] = outcomes) -> None:
            address = url.partition("/v1")[0]
            for number in range(3):
                try:
                    content = b'{"number": %d}' % number
                    outcomes.append(await exchange(session, "POST", url, seconds=5, content=content))
                except (RequestFailed, ServerUnavailable) as error:
                    outcomes.append(f"{type(error).__name__} {error.overload} {error}".replace(address, ""))

        server = Server(REPLIES[name], closing=closing)
        server.run(use, direct=direct)
        found[direct] = outcomes, [_in_order(request) for request in server.requests], server.connections
    assert found[True] == found[False]


def test_a_connection_with_an_unread_request_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGE_BODY", 2**25)
    content = b"x" * 2**24  # more than sockets hold

    async def use(session: Session, url: str) -> None:
        for _ in range(2):
            reply = await exchange(session, "POST", url, seconds=5, content=content)
            assert reply.status == 413

    server = Server(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n", reading=False)
    server.run(use, direct=True)
    assert server.connections == 2


def test_a_connection_is_used_again() -> None:
    async def use(session: Session, url: str) -> None:
        for _ in range(20):
            assert (await exchange(session, "POST", url, seconds=5, content=b"{}")).body == b"{}"

    server = Server(OK)
    server.run(use, direct=True)
    assert server.connections == 1
    assert all(request.lower().count(b"content-length") == 1 for request in server.requests)
