"""The ``server`` backend: a model behind any OpenAI-compatible chat endpoint (vLLM, SGLang, TGI, commercial ones).

Prompts are those of any backend, as chat turns.  Images are sent losslessly (``server/images.py``).  All decoding
fields are sent, so that defaults of the server or the checkpoint do not apply (``server/chat_api.py``).  The number of
concurrent requests adapts to the server (``server/concurrency.py``), and requests about the same image are sent one
after the other (``grouping.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from evalkit import registry
from evalkit.chat_template import check_thinking
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint, api_key
from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import Backend, BackendFactory
from evalkit.model.grouping import order_by_images
from evalkit.model.token_estimate import estimate_tokens
from evalkit.types import Batching, ImageSize, Preview, Request, Response, Size

from .chat_api import ChatAPI
from .client import Client
from .concurrency import ConcurrencyLimiter
from .delivery import run_in_thread
from .discovery import discover
from .errors import RateLimited, ServerUnavailable
from .http import Connection
from .image_sizes import ResizeRule, resize_rule
from .image_uuids import ServerImages, summary
from .images import ImageCache
from .uuid_probe import pays, probe
from .videos import ServerVideos
from .waiting import unless
from .watch import Watched

log = logging.getLogger(__name__)

LONGEST_SHARE = 0.25
"""The share of ``--timeout`` that answers may take before more requests are sent at the start of a run."""


class ServerBackend(Backend):
    """Sends requests to a server.

    Args:
        checkpoint: a served model, from ``discover``.
        grouped: whether requests about the same images are sent one after the other, not in the given order.
    """

    name = "server"

    def __init__(self, checkpoint: Checkpoint, *, grouped: bool = True) -> None:
        assert checkpoint.served is not None
        self.served = checkpoint.served
        self.resize_rule: ResizeRule = resize_rule(checkpoint)
        endpoint = self.served.endpoint
        self.limiter = ConcurrencyLimiter(endpoint.concurrency, slow=endpoint.timeout * LONGEST_SHARE)
        self.counts: Counter[str] = Counter()
        self._images = ImageCache()
        self._sent_images = [ServerImages(self._images)]
        self.videos = ServerVideos.of(checkpoint, registry.families.get(self.served.family))
        self._chat = ChatAPI(checkpoint, lambda image: self._images.data_url(image)[0], self.videos)
        self._connection = Connection(self.served.endpoint, api_key(self.served.endpoint))
        self._grouped = grouped

    def describe(self) -> Mapping[str, Any]:
        """The server, as far as it describes itself, and how requests were sent to it."""
        return {
            "backend": self.name,
            "device": "server",
            "device_name": f"{self.served.software} at {self.served.endpoint.base_url}",
            "dtype": "the server's",
            "concurrency": self.served.endpoint.concurrency,
            "concurrency_reached": self.limiter.highest,
            "pictures_seen_by": self.resize_rule.source,
            "pictures_known": self.resize_rule.known,
            "videos": self.videos.how,
            "image_uuids": summary(self._sent_images),
            "fingerprints": list(self._chat.fingerprints),
            "left_out": dict(self._chat.left_out),
            "retries": {
                "busy": self.counts["rate_limited"],
                "away": self.counts["unavailable"],
                "broken": self.counts["failed"],
            },
        }

    def estimate_tokens(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """The estimated number of tokens to compute for each request."""
        tokens = self.resize_rule.tokens
        return estimate_tokens(requests, sizes, visual=lambda images: [tokens(size) for size in images], shared=True)

    def image_size(self, size: Size) -> ImageSize:
        """An image's size, and the size to which the server resizes it."""
        return self.resize_rule.image_size(size)

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, in the order of their arrival.

        Raises:
            UserError: a chat endpoint does not support such requests, or the server rejects all of them.
            RunFailed: the server stopped answering.
        """
        for request in requests:
            check_supported(request)
        if any(request.videos for request in requests):
            self._probe_videos(requests)
        self._probe_uuids(requests, stop)
        return run_in_thread(lambda deliver: self._answer(requests, deliver, stop))

    async def _answer(
        self, requests: Sequence[Request], deliver: Callable[[Response], None], stop: Event | None
    ) -> None:
        """Answer all requests; ``deliver`` is called with each response when it arrives."""
        client = self._client(self._connection, self.limiter, self._sent_images[0], deliver, stop)
        await client.run(order_by_images(requests) if self._grouped else requests)

    def _client(
        self,
        connection: Connection,
        limiter: ConcurrencyLimiter,
        sent_images: ServerImages,
        deliver: Callable[[Response], None],
        stop: Event | None,
        server: Watched | None = None,
        model: str | None = None,
    ) -> Client:
        chat = self._chat if model is None else self._chat.named(model)
        return Client(
            connection, chat, limiter, self._images, self.resize_rule, self.videos,
            deliver=deliver, stop=stop, counts=self.counts, server=server, sent_images=sent_images,
        )  # fmt: skip

    def _probe_uuids(self, requests: Sequence[Request], stop: Event | None) -> None:
        """Find out whether vLLM takes images by their uuids, before anything is sent, if enough images repeat."""
        untried = [images for images in self._sent_images if images.problem is None]
        if self.served.says.get("owned_by") != "vllm" or not untried or not pays(requests):
            return
        with ThreadPoolExecutor(1) as thread:  # the caller's may have an event loop
            problem = thread.submit(asyncio.run, unless(stop, probe(self._connection, self._chat))).result()
        for images in untried:
            images.problem = problem
        self._images.named = problem == ""

    def _probe_videos(self, requests: Sequence[Request]) -> None:
        """Find out how the server takes videos, before anything is sent.

        Raises:
            UserError: the times of frames would be lost, and requests need them.
            RunFailed: it did not answer.
        """
        url = self.served.endpoint.base_url
        if self.videos.problem is None:
            probe = self.videos.probe(self._connection, self._chat.model)
            try:
                with ThreadPoolExecutor(1) as thread:  # the caller's may have an event loop
                    problem = thread.submit(asyncio.run, probe).result()
            except (RateLimited, ServerUnavailable) as error:
                raise RunFailed(f"{url}: it did not answer whether it takes videos ({error}); run again.") from None
            if problem:
                log.warning("%s: the frames of videos are sent as images: %s", url, problem)
        if self.videos.problem and any(request.times for request in requests):
            raise UserError(
                f"{url}: temporal grounding needs the times of frames, which would be lost: {self.videos.problem}. "
                "Start vLLM with --trust-request-mm-kwargs, or use --backend hf."
            )


def check_supported(request: Request) -> None:
    """Raise ``UserError`` for a request that chat endpoints do not support."""
    if request.messages[0].role == "plain":
        raise UserError(
            "--backend server: this family's prompts are plain text around images, not chat turns, and no server has "
            "an endpoint for that; use --backend hf."
        )
    if request.decoding.num_beams > 1:
        raise UserError("--num-beams: chat endpoints do not support beam search; use --backend hf, or leave it out.")


class ServerBackendFactory(BackendFactory):
    name = "server"
    remote = True

    def connect(self, model: str | None, endpoint: Endpoint) -> Checkpoint:
        """The model that the server offers as ``model``; if that is None, its only model."""
        return discover(model, endpoint)

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """The backend; only the server knows the dtype in effect, and whether weights are quantised.

        Raises:
            UserError: a device, dtype or adapter was given.
        """
        for option, value in (("--device", device), ("--dtype", dtype)):
            if value != "auto":
                raise UserError(f"{option} {value}: the server chooses it; leave it out.")
        if checkpoint.adapter is not None:
            raise UserError("--adapter: a server loads its own adapters; give the adapter's name there as --model.")
        return {"backend": self.name, "dtype": "the server's", "quantization": None}

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """A backend that sends requests to the server."""
        if batching.exact:
            raise UserError("--exact: this does not apply to servers; --concurrency 1 sends one request at a time.")
        return ServerBackend(checkpoint)

    def check(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> None:
        """Check that the chat template has a switch for thinking, if that is set and the template is known."""
        served = checkpoint.served
        assert served is not None
        told = [request for request in requests if request.thinking is not None]
        if told and served.switches is None:
            log.warning(
                "%s: its chat template is not known here, so whether --thinking has an effect is not either; it is "
                "sent as chat_template_kwargs",
                served.endpoint.base_url,
            )
            return
        for request in told:
            try:
                check_thinking(request, served.switches or (), served.prompt_end)
            except UserError as error:
                raise UserError(f"--model {checkpoint.name}: {error}") from error

    def resizer(self, checkpoint: Checkpoint) -> Callable[[Size], ImageSize]:
        """How the server resizes images, as far as that is known."""
        return resize_rule(checkpoint).image_size

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview]:
        """The turns that are sent, with a marker for each image; the server tokenizes them."""
        image_size = resize_rule(checkpoint).image_size
        for request in requests:
            check_supported(request)
            text = "\n".join(f"[{message.role}] {message.text()}" for message in request.messages)
            try:
                image_sizes = tuple(image_size(image.size()) for image in request.images)
            except (OSError, ValueError) as error:
                raise UserError(f"sample {request.id}: {error}.") from error
            yield Preview(text, None, image_sizes)
