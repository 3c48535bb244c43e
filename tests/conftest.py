from __future__ import annotations

import base64
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("evalkit", deadline=None)
settings.load_profile("evalkit")

# No test may reach for the network: evalkit must work where there is none.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
# Frames of videos are decoded, and not found in the user's cache, unless a test is about the cache.
os.environ["EVALKIT_VIDEO_CACHE_GB"] = "0"
# Of several processes, each has one core: torch would take them all in each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
SAFE_PATH = os.environ.get("PYTHONSAFEPATH")


@pytest.fixture(autouse=True)
def _python_path_of_children() -> Iterator[None]:
    """The command line, run in this process, changes what Python processes started later import; undo that."""
    yield
    if SAFE_PATH is None:
        os.environ.pop("PYTHONSAFEPATH", None)


REAL = ROOT.parent / "shared" / "data" / "real"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: give --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_root() -> str:
    """A small root of real images in the official formats; it lies beside the checkout, where there is one."""
    if not REAL.is_dir():
        pytest.skip("the real-image data root is not here")
    return str(REAL)


@pytest.fixture(scope="session")
def tiny_backend():  # type: ignore[no-untyped-def]
    """The bundled checkpoint on the CPU in fp32, opened as any checkpoint is."""
    from evalkit import registry
    from evalkit.checkpoint import resolve_checkpoint
    from evalkit.types import Batching

    return registry.backends.get("hf").open(
        resolve_checkpoint("tiny"), device="cpu", dtype="float32", batching=Batching(16)
    )


class HTTPServer:
    """A small chat server over HTTP that misbehaves when told to; what it answers is worked out from the request.

    Its "model" finds a letter, a yes, or a box of the image's middle: the same for the same request, always.

    Attributes:
        misbehave: called with a request's number and its body; a name from ``MISCHIEF`` or None.
        replace: called with a request's number and its body; (status, content) of another reply, or None.
        paths: other paths, each with what makes the reply to a request there; ``pages`` those that are only read.
        key: what it wants as a bearer token; None for no key.
        models: its list of models, or (status, content) of another reply to requests for it.
        bodies: the requests that it answered properly; ``seen`` all that came, ``headers`` those of each.
        most: how many requests it had at one time, at most.
        keeps: how many images it keeps by their uuids, as vLLM does; None: it knows nothing of uuids.
        told: for each request of ``seen``, how many images it had by their uuids alone; ``lengths`` its bytes.
        mixed_up: uuids that came with different images.
    """

    MISCHIEF = ("429", "500", "503", "cut", "half", "garbage", "empty", "hang", "400", "404", "401", "redirect")

    def __init__(self, port: int = 0) -> None:
        self.misbehave: Any = lambda number, body: None
        self.replace: Any = lambda number, body: None
        self.paths: dict[str, Any] = {}
        self.pages: dict[str, Any] = {}
        self.key: str | None = None
        self.models: Any = [{"id": "one", "object": "model", "owned_by": "nobody", "created": 1}]
        self.refused_fields: tuple[str, ...] = ()
        self.logprobs = True
        self.retry_after: str | None = None
        self.redirect = "/elsewhere"
        self.delay = 0.0
        self.bodies: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.keeps: int | None = None
        self.images: dict[str, str] = {}
        self.told: list[int] = []
        self.lengths: list[int] = []
        self.mixed_up: list[str] = []
        self.most = self._now = 0
        self.lock = threading.Lock()
        self.start(port)

    def start(self, port: int = 0) -> None:
        outer = self

        class Handler(_Handler):
            server_of_tests = outer

        self.stopped = False
        self.ended = threading.Event()
        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Gone, with every connection."""
        self.stopped = True
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def restore(self, body: dict[str, Any]) -> str | None:
        """Put the images in that a request has by their uuids alone; why that is not possible, in vLLM's words."""
        parts = [part for message in body.get("messages", ()) if isinstance(message.get("content"), list)
                 for part in message["content"] if part["type"] == "image_url"]  # fmt: skip
        self.told.append(sum(part["image_url"] is None for part in parts))
        for index, part in enumerate(parts if self.keeps is not None else ()):
            uuid = part.get("uuid")
            if part["image_url"] is None and uuid not in self.images:
                return f"Cache miss for image at index {index} but data is not provided."
            if uuid is None:
                continue
            url = self.images.pop(uuid, None)
            if part["image_url"] is None:
                part["image_url"] = {"url": url}
            elif url is not None and url != part["image_url"]["url"]:
                self.mixed_up.append(uuid)
            self.images[uuid] = part["image_url"]["url"]
            if len(self.images) > (self.keeps or 0):
                del self.images[next(iter(self.images))]
        return None

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A reply that depends on nothing but the request."""
        last = body["messages"][-1]["content"]
        parts = last if isinstance(last, list) else [{"type": "text", "text": last}]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url" and part["image_url"]]
        said = "yes"
        if "bbox" in text and images:
            with Image.open(io.BytesIO(base64.b64decode(images[-1].partition(",")[2]))) as image:
                w, h = image.size
            said = f'{{"bbox_2d": [{w // 4}, {h // 4}, {3 * w // 4}, {3 * h // 4}], "label": "it"}}'
        elif "\nOptions:" in text:
            said = "B"
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "stop",
        }
        if body.get("logprobs") and self.logprobs:
            tops = [{"token": t, "logprob": v} for t, v in (("The", -0.1), (" B", -1.0), ("C", -2.0), ("B", -3.0))]
            choice["logprobs"] = {"content": [{"token": "The", "logprob": -0.1, "top_logprobs": tops}]}
        return {"id": "x", "choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 3}}


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes its connection is no error; anything else is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of_tests: HTTPServer

    def setup(self) -> None:
        super().setup()
        self.server_of_tests.connections += 1

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def refused(self) -> bool:
        mine = self.server_of_tests
        if mine.stopped:  # a connection that was kept open
            self.close_connection = True
            return True
        mine.headers.append(dict(self.headers.items()))
        if mine.key is not None and self.headers.get("Authorization") != f"Bearer {mine.key}":
            self.reply(401, {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}})
            return True
        return False

    def do_GET(self) -> None:
        if self.refused():
            return
        if self.path == "/v1/models":
            models = self.server_of_tests.models
            self.reply(*(models if isinstance(models, tuple) else (200, {"object": "list", "data": models})))
        elif self.path in self.server_of_tests.pages:
            self.reply(200, self.server_of_tests.pages[self.path])
        else:
            self.reply(404, {"error": {"message": "there is nothing here"}})

    def do_POST(self) -> None:
        mine = self.server_of_tests
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:  # the client has closed its connection
            self.close_connection = True
            return
        body = json.loads(content)
        if self.refused():
            return
        if self.path not in mine.paths and not self.path.endswith("/chat/completions"):
            self.reply(404, {"error": {"message": "there is nothing here"}})
            return
        with mine.lock:
            number = len(mine.seen)
            mine.seen.append(body)
            mine.lengths.append(length)
            dropped = mine.restore(body)
            mine._now += 1
            mine.most = max(mine.most, mine._now)
        replaced = mine.paths[self.path](body) if self.path in mine.paths else None
        other = mine.replace(number, body) if replaced is None else (200, replaced)
        if dropped is not None:
            other = 400, {"error": {"message": dropped, "type": "BadRequestError", "param": None, "code": 400}}
        try:
            if other is not None:
                self.reply(*other)
            else:
                self.answered(mine, mine.misbehave(number, body), body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with mine.lock:
                mine._now -= 1

    def answered(self, mine: HTTPServer, mischief: str | None, body: dict[str, Any]) -> None:
        time.sleep(mine.delay)
        found = sorted(set(body) & set(mine.refused_fields))
        if found:
            self.reply(422, {"detail": f"Unexpected fields in the request: {set(found)}"})
        elif mischief is None:
            with mine.lock:
                mine.bodies.append(body)
            self.reply(200, mine.answer(body))
        elif mischief == "redirect":
            self.reply(307, {}, Location=mine.redirect)
        elif mischief in ("429", "503"):
            self.reply(
                int(mischief),
                {"error": {"message": "slowly"}},
                **({"Retry_After": mine.retry_after} if mine.retry_after else {}),
            )
        elif mischief.isdecimal():
            self.reply(int(mischief), {"error": {"message": f"on purpose {self.headers.get('Authorization')}"}})
        elif mischief == "garbage":
            self.reply(200, b"<html>an error page</html>")
        elif mischief == "empty":
            self.reply(200, {"choices": []})
        elif mischief == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif mischief == "hang":
            mine.ended.wait(120)  # longer than any --timeout of the tests
            self.close_connection = True
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@pytest.fixture
def http_server() -> Iterator[HTTPServer]:
    """A chat server on this machine."""
    server = HTTPServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def evalkit() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, from its arguments to its exit code, in this process: importing torch takes seconds.

    What escapes it, as a traceback would, fails the test.
    """

    from evalkit.cli import main

    def call(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in [name for name in os.environ if name.startswith("EVALKIT_")]:
                patch.delenv(name)
            for name, value in {"COLUMNS": "160", "PYTHONSAFEPATH": "1", **environment}.items():
                patch.setenv(name, value)
            patch.chdir(cwd)
            patch.setattr(sys, "argv", ["evalkit", *arguments])
            with pytest.raises(SystemExit) as end:
                main()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), out.getvalue(), err.getvalue())

    return call
