"""The ``hf`` backend: a transformers checkpoint in this process.

A request gets the same answer in every batch, except at near-ties in half precision.  Decoding is greedy search unless
the request says otherwise; a checkpoint's own sampling settings and repetition penalty are ignored, as they are not
part of any benchmark's protocol. The engine (``model/engine``) answers where it supports the model, and computes shared
prefixes once.  Otherwise, and with ``exact``, the model's own ``generate`` does (``model/hf/generate.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

import torch
import transformers
from transformers import GenerationConfig

from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import Backend, BackendFactory
from evalkit.model.engine.compatibility import UnsupportedModel, build_engine
from evalkit.model.hf.adapter import read_adapter
from evalkit.model.hf.devices import pick_device, pick_places, spread
from evalkit.model.hf.dtypes import dtype_in_effect, pick_dtype
from evalkit.model.hf.embedding import embed
from evalkit.model.hf.generate import GenerateRunner
from evalkit.model.hf.generation_config import not_applied
from evalkit.model.hf.loading import identity, load_model
from evalkit.model.hf.memory import memory_in_use
from evalkit.model.hf.planned import PlannedRequest
from evalkit.model.hf.planning_thread import PlanningThread, WindowPlan, split_into_windows
from evalkit.model.hf.preflight import check_embeddings, check_requests
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.hf.responses import Responses, error_response
from evalkit.model.hf.restore import borrowed_model
from evalkit.model.hf.stop_tokens import pad_token, stop_tokens, turn_end_token
from evalkit.model.hf.video_notice import VideoNotice
from evalkit.model.token_estimate import estimate_tokens
from evalkit.model.verify.checks import verify
from evalkit.model.workers.ray_pool import ray_pool
from evalkit.types import Batching, Check, Cluster, ImageRef, ImageSize, Preview, Request, Response, Size

from ..engine.answering import answer_window, plan_window
from ..engine.encoder_sharing import EncoderSharing
from ..engine.engine import Engine
from ..engine.options import EngineOptions
from ..engine.packed_generate import pack_weights, unpack_weights
from ..engine.requests import engine_sequence
from ..engine.sequence import Sequence as EngineSequence
from ..workers.backend import HFWorkerPool, local_pool

__all__ = ["BACKEND", "HFBackend", "dtype_in_effect", "pick_device", "pick_dtype"]

log = logging.getLogger(__name__)


class HFBackend(Backend):
    """Answers requests with a loaded model and its processor.

    Args:
        model: a transformers image-text-to-text model in eval mode.
        processor: its processor; conversations need a chat template.
        batch_size: sequences decoded together; None adapts to the device.
        max_batch_tokens: tokens of the prompts that are computed together; None adapts to the device.
        exact: batch size 1 through the model's own ``generate``.
        options: options of the engine.

    Attributes:
        stops: the tokens that end a text.
        turn_stops: those that end an answer in a conversation.
        unfit: why the engine is not used; None if it is.
        not_applied: fields of the checkpoint's generation config that are ignored.
    """

    name = "hf"

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        batch_size: int | None = None,
        max_batch_tokens: int | None = None,
        exact: bool = False,
        options: EngineOptions = EngineOptions(),
    ) -> None:
        self.model = model
        self.processor = processor
        self.inputs = Inputs(processor)
        self.tokenizer = self.inputs.tokenizer
        configured = model.generation_config
        self.stops = stop_tokens(model, self.tokenizer)
        # Qwen-VL's files name only the token that ends a text; its chat code adds those that end a turn.
        turn_end = turn_end_token(self.inputs)
        of_turns = (*getattr(processor, "turn_stop_ids", ()), *(() if turn_end is None else (turn_end,)))
        self.turn_stops = tuple(dict.fromkeys((*self.stops, *of_turns)))
        pad = pad_token(model, self.tokenizer, self.stops)
        self._notice = VideoNotice(model, self.inputs)
        self._responses = Responses(self.tokenizer, self._stops)
        self.not_applied = not_applied(configured, type(model).__name__)
        # generate() takes its defaults from here: Qwen2.5-VL's file, for example, has a repetition penalty.
        model.generation_config = GenerationConfig(
            eos_token_id=list(self.stops),
            pad_token_id=pad,
            decoder_start_token_id=getattr(configured, "decoder_start_token_id", None),
        )
        self.plain = GenerateRunner(
            model,
            self.inputs,
            stops=self._stops,
            pad=pad,
            batch_size=1 if exact else batch_size,
            max_tokens=None if exact else max_batch_tokens,
            around=EncoderSharing(model, self.inputs).batch if options.encoder_sharing and not exact else None,
        )
        self.engine: Engine | None = None
        self.unfit: str | None = "--exact runs one sample at a time" if exact else None
        if not exact:
            try:
                self.engine = build_engine(
                    model, self.inputs, rows=batch_size, tokens=max_batch_tokens, options=options
                )
            except UnsupportedModel as error:
                self.unfit = str(error)
                log.warning(
                    "%s runs through transformers' generate, in batches of up to %d: the engine does not support it "
                    "(%s). Where images have several questions, a vLLM server is clearly faster, if it supports the "
                    "model (--backend vllm, docs/speed.md)",
                    type(model).__name__,
                    self.plain.batch_size,
                    error,
                )
        self._packed = not exact and self.engine is None and options.packed_weights and pack_weights(model, self.inputs)

    def _stops(self, planned: PlannedRequest) -> tuple[int, ...]:
        """The stop tokens of a request."""
        return self.stops if planned.request.messages[0].role == "plain" else self.turn_stops

    @property
    def batch_size(self) -> int:
        """The current number of sequences decoded together."""
        return self.engine.limits.rows if self.engine is not None else self.plain.batch_size

    def describe(self) -> Mapping[str, Any]:
        """Device, dtype, batch sizes and library versions, for the run's manifest."""
        device = self.model.device
        return {
            "backend": self.name,
            "device": str(device),
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "batch_size": self.batch_size,
            "max_batch_tokens": self.engine.limits.tokens if self.engine is not None else self.plain.max_tokens,
            "videos": self._notice.how,
            "engine": "shared prefixes" if self.engine is not None else f"generate: {self.unfit}",
            "not_applied": self.not_applied,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def image_size(self, size: Size) -> ImageSize:
        """An image's size in the file and after resizing."""
        return self.inputs.image_size(size)

    def estimate_tokens(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """Estimated number of computed tokens per request."""
        return estimate_tokens(requests, sizes, visual=self.inputs.visual, shared=self.engine is not None)

    def memory(self) -> int:
        """Bytes: the peak of a CUDA device for this process; elsewhere the memory in use."""
        return memory_in_use(self.model.device)

    def release(self) -> None:
        """Restore the model, except for its generation config."""
        self.plain.around = None
        if self.engine is not None:
            self.engine.close()
            self.engine = None
        if self._packed:
            unpack_weights(self.model)
            self._packed = False

    def close(self) -> None:
        """Free the engine's memory; the model's is free once nothing refers to it."""
        self.release()

    # ------------------------------------------------------------------------------------------------------ answering

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request.  Requests are planned in windows, ahead of time, grouped by their images."""
        return self.stream(split_into_windows(requests), stop)

    def stream(self, windows: Iterator[Sequence[Request]], stop: Event | None = None) -> Iterator[Response]:
        """As ``generate``, for a stream of windows; the next one is taken before one is started.

        An empty window means that none is available yet: no more are taken until all so far are answered.
        """
        self._responses.clear()
        with PlanningThread(windows, self._plan) as plans:
            while (plan := plans.wait()) is not None:
                for request, error in plan.failed:
                    yield error_response(request, error)
                for outcome in answer_window(
                    plan, plans, stop, engine=self.engine, plain=self.plain, sequence=self._sequence
                ):
                    yield from self._responses.add(outcome)
                if stop is not None and stop.is_set():
                    return

    def _plan(self, requests: Sequence[Request]) -> WindowPlan:
        if any(request.videos for request in requests):
            self._notice.videos(native=self.engine is not None and self.engine.supports_videos)
        return plan_window(requests, self.inputs, self.engine)

    def _sequence(self, row: PlannedRequest) -> EngineSequence:
        return engine_sequence(row, self._stops(row), self._responses.has_stop_string)

    # ------------------------------------------------------------------------------------------------------ embedding

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """A unit vector per image.  Raises as ``model.hf.embedding.embed`` does."""
        return embed(self.model, self.inputs, images)


def _backend(model: Any, processor: Any, batching: Batching, options: EngineOptions = EngineOptions()) -> HFBackend:
    return HFBackend(
        model, processor, batch_size=batching.size, max_batch_tokens=batching.tokens, exact=batching.exact,
        options=options,
    )  # fmt: skip


class HFBackendFactory(BackendFactory):
    name = "hf"

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """The backend, the dtype in effect, and the quantization method.

        Raises:
            UserError: transformers has no such model.
        """
        return identity(checkpoint, pick_places(device)[0][0], dtype)

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """Load a checkpoint with transformers' Auto classes; pickles and remote code only if allowed."""
        pool = self.worker_pool(device=device, dtype=dtype, batching=batching)
        if pool is not None:
            return pool.open(checkpoint)
        (place,) = pick_places(device)
        processor = load_processor(checkpoint)
        model = load_model(checkpoint, device=place[0], dtype=dtype, placed=spread(place))
        return _backend(model, processor, batching)

    def worker_pool(
        self, *, device: str, dtype: str, batching: Batching = Batching(), cluster: Cluster | None = None
    ) -> HFWorkerPool | None:
        """Workers on several devices, or in a Ray cluster."""
        options = {"dtype": dtype, "batching": batching}
        if cluster is not None:
            return ray_pool(cluster, device, options)
        places = pick_places(device)
        pick_dtype(dtype, places[0][0])  # fails early
        return local_pool(places, options) if len(places) > 1 else None

    @contextmanager
    def wrap(self, model: Any, processor: Any, *, batching: Batching = Batching()) -> Iterator[Backend]:
        """A backend over a model in memory; model, processor and random states are restored at the end."""
        with borrowed_model(model, processor) as bare:
            check_embeddings(bare, processor.tokenizer)
            # The model's owner may read its weights at any time.
            backend = _backend(bare, processor, batching, EngineOptions(packed_weights=False))
            try:
                yield backend
            finally:
                backend.release()

    def check(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> None:
        """Check the adapter's files, the processor, its vocabulary, and how the chat template renders the requests."""
        if checkpoint.adapter is not None:
            read_adapter(checkpoint.adapter, pickled=checkpoint.allow_pickled_weights)
        check_requests(checkpoint, load_processor(checkpoint), requests)

    def resizer(self, checkpoint: Checkpoint) -> Callable[[Size], ImageSize]:
        """A function from an image's size to the size after the processor's resizing."""
        return Inputs(load_processor(checkpoint)).image_size

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview]:
        """The model's input per request, from the processor alone."""
        inputs = Inputs(load_processor(checkpoint))
        return (inputs.preview(request) for request in requests)

    def verify(self, checkpoint: Checkpoint, *, device: str, dtype: str, forward: bool) -> Iterator[Check]:
        """Check whether a checkpoint is complete and works."""
        return verify(checkpoint, device=device, dtype=dtype, forward=forward, make_backend=_backend)


BACKEND = HFBackendFactory()
