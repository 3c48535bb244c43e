"""The ``server`` backend: a model behind any OpenAI-compatible chat endpoint (vLLM, SGLang, TGI, commercial ones).

Nothing is loaded here.  Prompts are those of any backend, put into turns; images go without loss
(``serving/images.py``); decoding is told in full, so that a server's or a checkpoint's own defaults do not apply
(``serving/chat.py``); how many requests are under way suits the server (``serving/gate.py``), and those of one image
stand together (``serving/order.py``).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Event
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint, key_of_environment
from evalkit.errors import UserError
from evalkit.interfaces import Backend, BackendFactory
from evalkit.model.grouping import order_by_images
from evalkit.model.server.chat_api import Chat
from evalkit.model.server.client import Asking
from evalkit.model.server.concurrency import Gate
from evalkit.model.server.discovery import reach
from evalkit.model.server.http import Connection
from evalkit.model.server.image_sizes import Framing, framing
from evalkit.model.server.images import Images
from evalkit.model.token_estimate import costs
from evalkit.types import Batching, ImagePart, ImageSize, Preview, Request, Response, Size

__all__ = ["BACKEND", "ServerBackend"]


class ServerBackend(Backend):
    """Asks a server.

    Args:
        checkpoint: what is served, as ``reach`` found it.
        grouped: requests about the same images are sent one after the other; else in the order that is given.
    """

    name = "server"

    def __init__(self, checkpoint: Checkpoint, *, grouped: bool = True) -> None:
        assert checkpoint.served is not None
        self.served = checkpoint.served
        self.framing: Framing = framing(checkpoint)
        self.gate = Gate(self.served.endpoint.concurrency)
        self.counts: Counter[str] = Counter()
        self._images = Images()
        self._chat = Chat(checkpoint, lambda image: self._images.address(image)[0])
        self._connection = Connection(self.served.endpoint, key_of_environment())
        self._grouped = grouped

    def describe(self) -> Mapping[str, Any]:
        """The server, as far as it tells of itself, and how it was asked."""
        return {
            "backend": self.name,
            "device": "server",
            "device_name": f"{self.served.software} at {self.served.endpoint.base_url}",
            "dtype": "the server's",
            "concurrency": self.served.endpoint.concurrency,
            "concurrency_reached": self.gate.highest,
            "pictures_seen_by": self.framing.source,
            "pictures_known": self.framing.known,
            "fingerprints": list(self._chat.fingerprints),
            "left_out": dict(self._chat.left_out),
            "retries": {name: self.counts[name] for name in ("busy", "away", "broken")},
        }

    def estimate_tokens(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """About how many tokens are to be computed for each request."""
        return costs(requests, sizes, visual=lambda found: [self.framing.tokens(size) for size in found], shared=True)

    def image_size(self, size: Size) -> ImageSize:
        """An image's size, and that at which it is seen."""
        return self.framing.image_size(size)

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, as they come.

        Raises:
            UserError: such requests cannot be put to a chat endpoint.
            RunFailed: the server is gone for good, or answers nothing of what it is asked.
        """
        for request in requests:
            check(request)
        arrived: SimpleQueue[Response | BaseException | None] = SimpleQueue()
        asking = Asking(
            self._connection,
            self._chat,
            self.gate,
            self._images,
            self.framing,
            deliver=arrived.put,
            stop=stop,
            counts=self.counts,
        )
        return _from_thread(asking, order_by_images(requests) if self._grouped else requests, arrived)


def _from_thread(
    asking: Asking, requests: Sequence[Request], arrived: SimpleQueue[Response | BaseException | None]
) -> Iterator[Response]:
    """What arrives; the event loop has a thread of its own, which ends with this iterator, however that ends."""
    loop = asyncio.new_event_loop()
    main = loop.create_task(asking.run(requests))

    def work() -> None:
        try:
            loop.run_until_complete(main)
            arrived.put(None)
        except asyncio.CancelledError:
            arrived.put(None)
        except BaseException as error:  # it is raised where the responses are waited for
            arrived.put(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=work, name="evalkit-server", daemon=True)
    thread.start()
    try:
        while (found := arrived.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(main.cancel)
        thread.join(timeout=10)


def check(request: Request) -> None:
    """Raises ``UserError`` for a request that no chat endpoint can be asked."""
    if request.messages[0].role == "plain":
        raise UserError(
            "--backend server: this family asks in running text around images, outside any chat, and no server has "
            "an endpoint for that; use --backend hf."
        )
    if request.decoding.num_beams > 1:
        raise UserError("--num-beams: chat endpoints search no beams; use --backend hf, or leave it out.")


class _Factory(BackendFactory):
    name = "server"
    remote = True

    def connect(self, model: str | None, endpoint: Endpoint) -> Checkpoint:
        """What the server offers under the name ``model``; without a name, the only model that it has."""
        return reach(model, endpoint)

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """The backend; which dtype is in effect, and whether weights are quantised, only the server knows.

        Raises:
            UserError: a device or dtype was asked for.
        """
        for option, value in (("--device", device), ("--dtype", dtype)):
            if value != "auto":
                raise UserError(f"{option} {value}: the server decides that; leave it out.")
        if checkpoint.adapter is not None:
            raise UserError("--adapter: a server loads its own adapters; give the name it has there as --model.")
        return {"backend": self.name, "dtype": "the server's", "quantization": None}

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """A backend that asks the server."""
        if batching.exact:
            raise UserError("--exact: how a server answers is its own business; --concurrency 1 asks one at a time.")
        return ServerBackend(checkpoint)

    def resizer(self, checkpoint: Checkpoint) -> Callable[[Size], ImageSize]:
        """At which sizes the server's model sees images, as far as that is known."""
        return framing(checkpoint).image_size

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview]:
        """The turns that are sent, with a mark in the place of each image; the server tokenizes them."""
        image_size = framing(checkpoint).image_size
        for request in requests:
            check(request)
            text = "\n".join(
                f"[{message.role}] "
                + "".join("<image>" if isinstance(part, ImagePart) else part.text for part in message.content)
                for message in request.messages
            )
            try:
                image_sizes = tuple(image_size(image.size()) for image in request.images)
            except (OSError, ValueError) as error:
                raise UserError(f"sample {request.id}: {error}.") from error
            yield Preview(text, None, image_sizes)


BACKEND = _Factory()
