"""JSON sent through aiohttp's connections, without what its sessions do anew for every request.

``ClientSession.request`` makes URL, headers, authentication, proxy and body into objects, and a task that writes them,
which costs more than all else.  Here, the head of the requests to an address is made once.  The pool of
connections, TLS and the parser of replies are aiohttp's, by methods that its documentation does not name: hence the
upper bound of its version in ``pyproject.toml``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

SWITCHING = 101
"""The only status of 1xx that no other reply follows."""
BUFFER_BYTES = 2**16
"""What is read of a reply before it is taken from the buffer."""


class _Request(ClientRequest):
    """A request that is sent many times."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """By which the pool knows connections to the same server."""
        return super().connection_key


class Posting:
    """Requests of a session to one address, which is reached without a proxy; used in the session's event loop.

    Args:
        headers: of every request, besides those that HTTP needs.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        assert session.connector is not None
        self._connector = session.connector
        self._timeout = session.timeout
        given = {**session.headers, **headers}
        self._request = _Request("POST", URL(url), headers=given, loop=asyncio.get_running_loop(), session=session)
        self._request.headers.popall("Content-Length", None)  # that of an empty body
        lines = [f"{name}: {value}" for name, value in self._request.headers.items()]
        assert not any(mark in line for line in lines for mark in "\r\n\0")
        first = f"POST {self._request.url.raw_path_qs} HTTP/1.1"
        self._head = "\r\n".join((first, *lines, "Content-Length: ")).encode()

    async def send(self, content: bytes) -> Reply:
        """Send a request, and wait for the head of its reply.

        Raises:
            aiohttp.ClientError: as ``ClientSession.request`` does.
        """
        try:
            connection = await self._connector.connect(self._request, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {self._request.url}") from error
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or transport.is_closing():
                raise aiohttp.ClientOSError(f"Can not write request body for {self._request.url}")
            protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=BUFFER_BYTES)
            transport.write(b"".join((self._head, b"%d\r\n\r\n" % len(content), content)))
            message, body = await protocol.read()
            while 100 <= message.code < 200 and message.code != SWITCHING:
                message, body = await protocol.read()
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(
                self._request.request_info, (), status=error.code, message=error.message, headers=error.headers
            ) from error
        except BaseException:
            connection.close()
            raise
        return Reply(message, body, connection)


class Reply:
    """A reply, whose body has not been read.

    At the end of the context, the connection is kept for other requests if request and reply are complete.
    """

    def __init__(
        self, message: RawResponseMessage, content: aiohttp.StreamReader, connection: aiohttp.connector.Connection
    ) -> None:
        self.status = message.code
        self.reason = message.reason
        self.headers: Mapping[str, str] = message.headers
        self.content = content
        self._connection = connection

    async def __aenter__(self) -> Reply:
        return self

    async def __aexit__(self, *_: object) -> None:
        transport = self._connection.transport
        if transport is not None and not transport.get_write_buffer_size():
            self._connection.release()  # closes it if anything of the reply is left
        else:
            self._connection.close()
