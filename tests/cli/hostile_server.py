"""Ways in which a server can misbehave: raw replies to requests for answers and for its list of models.

Each is a function of the handler, which may write whatever it likes to the connection.
"""

from __future__ import annotations

import gzip
import http.server
import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

KEY = "sk-SECRET/secret+0123456789"
SENT = f"Bearer {KEY}"
ANSWERED, FAILED, ENDED = "answered", "failed", "ended"
"""What must become of a run: every sample is answered; every sample has failed; the run ends with a sentence."""

Write = Callable[["Handler"], None]


@dataclass(frozen=True)
class Case:
    """A misbehaviour.

    Attributes:
        reply: writes the reply to a request for an answer.
        models: writes the list of models; by default, a regular one.
        result: what must become of the run.
        slow: whether it takes the client seconds to give up.
        ranked: whether options are ranked by log-likelihood.
        text: the answer that must be recorded, if there is one.
        paths: replies to requests for other paths.
    """

    reply: Write
    models: Write
    result: str
    slow: bool = False
    ranked: bool = False
    text: str | None = "red"
    paths: Mapping[str, Write] | None = None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what a case writes, and closes the connection; a question names the number of its case."""

    cases: Sequence[Case]

    def log_message(self, *_: Any) -> None:
        pass

    def write(self, raw: bytes) -> None:
        self.wfile.write(raw)
        self.wfile.flush()

    def do_GET(self) -> None:
        self._answer((self.cases[0].paths or {}).get(self.path, self.cases[0].models))

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        found = re.search(rb"case (\d+)", sent)
        case = self.cases[int(found[1]) if found else 0]
        self._answer((case.paths or {}).get(self.path, case.reply))

    def _answer(self, write: Write) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client has closed the connection
            write(self)


class HostileServer:
    """A server for some cases; the first has its list of models."""

    def __init__(self, *cases: Case) -> None:
        bound = type("Bound", (Handler,), {"cases": cases})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# --------------------------------------------------------------------------------------------------------- raw replies


def raw(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> Write:
    """A reply with this status line, these headers, and a length, which may be wrong."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}", "", ""]
    return lambda handler: handler.write("\r\n".join(lines).encode("latin-1") + body)


def content(value: Any, *headers: str, status: str = "200 OK") -> Write:
    return raw(json.dumps(value).encode(), *headers, status=status)


def bare(text: str | bytes) -> Write:
    """These bytes and nothing else."""
    return lambda handler: handler.write(text if isinstance(text, bytes) else text.encode())


def endless(head: str, piece: bytes, pause: float = 0.0) -> Write:
    """A reply that does not end: ``piece`` again and again, with ``pause`` seconds between."""

    def write(handler: Handler) -> None:
        handler.write(head.encode())
        until = time.monotonic() + 60
        while time.monotonic() < until:
            handler.write(piece)
            time.sleep(pause)

    return write


def hang(handler: Handler) -> None:
    handler.connection.settimeout(60)
    handler.connection.recv(1)  # until the client closes the connection


CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chat(message: Any = None, finish: Any = "stop", **fields: Any) -> dict[str, Any]:
    """A regular reply, but for these values; ``message`` without a dictionary is its content."""
    if not isinstance(message, dict):
        message = {"role": "assistant", "content": "red" if message is None else message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields}


def choice(**fields: Any) -> dict[str, Any]:
    reply = chat()
    reply["choices"][0] |= fields
    return reply


def stream(*events: Any, done: bool = True) -> Write:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"] * done
    return raw("".join(lines).encode(), "Content-Type: text/event-stream")


def delta(finish: str | None = None, **message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": message, "finish_reason": finish}]}


def error(message: str, status: str, **fields: Any) -> Write:
    return content({"error": {"message": message, **fields}}, status=status)


def bomb() -> bytes:
    """A gigabyte of zeros, compressed to a megabyte."""
    return gzip.compress(bytes(2**24), 9) * 64


def models(*entries: Any, **fields: Any) -> Write:
    return content({"object": "list", "data": list(entries), **fields})


def raw_deflate(body: bytes) -> bytes:
    packed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packed.compress(body) + packed.flush()
