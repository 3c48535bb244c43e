"""A chat server that answers at once, in a process of its own, so that only a client's own work is measured.

    python benchmarks/_instant_server.py

Prints its port.  It reads each request's body and throws it away.
"""

from __future__ import annotations

import asyncio
import json

MESSAGE = {"role": "assistant", "content": "yes"}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop", "token_ids": [9693, 151645]}
ANSWER = {"id": "x", "choices": [CHOICE], "usage": {"prompt_tokens": 420, "completion_tokens": 2}}
MODELS = {"object": "list", "data": [{"id": "instant", "object": "model"}]}


def _reply(content: object) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


REPLIES = {b"G": _reply(MODELS), b"P": _reply(ANSWER)}


class Connection(asyncio.BufferedProtocol):
    """One connection: its requests come one after another."""

    def __init__(self) -> None:
        self._buffer = bytearray(1 << 20)
        self._head = bytearray()
        self._left = 0  # bytes of the body that have not come
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left > nbytes:
            self._left -= nbytes
            return
        data = memoryview(self._buffer)[self._left : nbytes]
        if self._left:
            self._left = 0
            self._answer()
        while data:
            seen = len(self._head)
            self._head += data
            end = self._head.find(b"\r\n\r\n", max(0, seen - 3))
            if end < 0:
                return
            body = memoryview(data)[end + 4 - seen :]
            length = 0
            for line in bytes(self._head[:end]).lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            del self._head[end + 4 :]
            if len(body) < length:
                self._left = length - len(body)
                return
            data = body[length:]
            self._answer()

    def _answer(self) -> None:
        assert self._transport is not None
        self._transport.write(REPLIES[bytes(self._head[:1])])
        self._head.clear()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
