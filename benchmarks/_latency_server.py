"""A chat server whose answers take as long as those of a real one would, in a process of its own.

    python benchmarks/_latency_server.py MODEL PORT

It works on all requests that it has, and shares its speed among them.  Its answers a second, by the number of requests:

- ``batches``: 16 n / (n + 4): more requests, larger batches, up to the speed of the hardware.
- ``wide``: 16 n / (n + 8): as above, of a larger GPU.
- ``slots``: 8, of which 4 at a time: the others wait in a queue.
- ``overloaded``: as ``batches`` up to 32 requests, then slower: by an eighth with 64, by a quarter with 128.
- ``capped``: as ``batches``; with more than 12 requests it refuses the next one (429).
- ``unavailable``: as ``batches``; with more than 24 requests it refuses the next one, and asks for a pause (503).
- ``limited``: 10 requests a second, ten at once; it refuses others, and asks for a pause of a second (429).

Requests need different amounts of work (lognormal, σ = 0.4), which depend on the request's text alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

SIGMA = 0.4


@dataclass(frozen=True)
class Model:
    """How fast a server is, and what it refuses.

    Attributes:
        speed: answers a second, by the number of requests that it works on.
        slots: the requests that it works on; the others wait.
        room: the requests that it accepts.
        rate, burst: the requests a second that it accepts, and how many at once.
        status, pause: of its refusals; ``pause`` in seconds, as Retry-After has it.
    """

    speed: Callable[[int], float]
    slots: int = 10**6
    room: int = 10**6
    rate: float = math.inf
    burst: float = math.inf
    status: int = 429
    pause: int | None = None


def saturating(half: float) -> Callable[[int], float]:
    return lambda count: 16 * count / (count + half)


MODELS = {
    "batches": Model(saturating(4)),
    "wide": Model(saturating(8)),
    "slots": Model(lambda count: 2.0 * count, slots=4),
    "overloaded": Model(lambda count: saturating(4)(count) * min(1.0, (32 / count) ** 0.2)),
    "capped": Model(saturating(4), room=12),
    "unavailable": Model(saturating(4), room=24, status=503, pause=1),
    "limited": Model(lambda count: float(count), rate=10, burst=10, pause=1),
}


class Engine:
    """Works on requests; each has an equal share of the speed."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._left: dict[asyncio.Future[None], float] = {}  # work, by request, in order of arrival
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._allowance, self._allowed_at = model.burst, 0.0

    def accepts(self) -> bool:
        """Whether there is room for another request now."""
        now = asyncio.get_running_loop().time()
        gained = (now - self._allowed_at) * self.model.rate if math.isfinite(self.model.rate) else 0.0
        self._allowance, self._allowed_at = min(self.model.burst, self._allowance + gained), now
        if len(self._left) >= self.model.room or self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def work(self, amount: float) -> None:
        """Work on a request until it is done; 1 is the average amount."""
        self._advance()
        future = asyncio.get_running_loop().create_future()
        self._left[future] = amount
        self._schedule()
        await future

    def _active(self) -> list[asyncio.Future[None]]:
        return list(self._left)[: self.model.slots]

    def _advance(self) -> None:
        now = asyncio.get_running_loop().time()
        active = self._active()
        for future in active:
            self._left[future] -= (now - self._at) * self.model.speed(len(active)) / len(active)
        self._at = now
        for future in active:
            if self._left[future] <= 1e-9:
                del self._left[future]
                future.set_result(None)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if active := self._active():
            seconds = min(self._left[future] for future in active) * len(active) / self.model.speed(len(active))
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._finish)

    def _finish(self) -> None:
        self._advance()
        self._schedule()


def amount_of(body: bytes) -> float:
    """The work of a request: lognormal, with the mean 1."""
    uniform = (int.from_bytes(hashlib.sha256(body).digest()[:6], "big") + 0.5) / 2**48
    return math.exp(SIGMA * NormalDist().inv_cdf(uniform) - SIGMA**2 / 2)


class Server:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                writer.write(await self._reply(lines[0], body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, line: str, body: bytes) -> bytes:
        if line.startswith("GET"):
            return _response(200, {"object": "list", "data": [{"id": "latency", "object": "model"}]})
        if not self._engine.accepts():
            model = self._engine.model
            return _response(model.status, {"error": {"message": "too many requests"}}, model.pause)
        await self._engine.work(amount_of(body))
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _response(200, {"id": "x", "choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})


def _response(status: int, content: object, pause: int | None = None) -> bytes:
    body = json.dumps(content).encode()
    wait = "" if pause is None else f"Retry-After: {pause}\r\n"
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n{wait}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main(name: str, port: int) -> None:
    engine = Engine(MODELS[name])
    server = await asyncio.start_server(Server(engine).serve, "127.0.0.1", port, limit=1 << 26)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
