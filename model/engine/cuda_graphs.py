"""Decode steps captured as CUDA graphs and replayed.

A decode step is hundreds of short kernels, which a GPU runs faster than Python can launch them.  A graph launches all
of them together, but always with the same shapes and addresses.  So rows are rounded up to a power of two and slots to
a multiple of ``SLOT_MULTIPLE``; the cache stays in place (``ContiguousKVCache``), tokens and positions are copied to
the addresses of the capture, and the slot to write is a number on the device.

A shape is captured once it has come up a few times, which shapes of short answers may not.  The first replay is
compared with the step that it repeats.  Where they differ, or capture fails (a model that synchronizes within a step
cannot be captured), later steps are launched kernel by kernel, and a message is logged.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from .kv_cache import SLOT_MULTIPLE
from .kv_tensors import GraphShape, KVTensors
from .language_model import LanguageModel, relative_error

log = logging.getLogger(__name__)

MIN_ROWS = 8
CAPTURE_AFTER = 2  # steps of a shape: capture costs about three, and serves until the cache is replaced
MAX_GRAPHS = 32  # each keeps kernel arguments and its logits

Step = Callable[[], torch.Tensor]


class GraphCapture(Protocol):
    """Captures work on tensors that stay in place; its replay returns the same tensor each time."""

    def __call__(self, step: Step) -> Step: ...


class CudaGraphCapture:
    """Captures CUDA graphs, which share one memory pool because they run one after another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> Step:
        with torch.cuda.device(self.device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(side):
                step()  # the first call sets things up, which must not be captured
                # Not torch.cuda.graph: it frees all cached memory first, which would soon be allocated again.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    out = step()
                finally:
                    graph.capture_end()
            current.wait_stream(side)

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return replay


@dataclass
class _CapturedStep:
    """A captured step and its input tensors."""

    rows: int
    ids: torch.Tensor
    positions: torch.Tensor
    write_slot: torch.Tensor
    replay: Step

    def __call__(self, ids: torch.Tensor, positions: torch.Tensor, cache: KVTensors, slot: int) -> torch.Tensor:
        live = len(ids)
        self.ids[:live] = ids
        self.positions[:live] = positions
        self.write_slot.fill_(slot)
        # Unused rows attend at least to themselves: attention to nothing would be NaN, which spreads.
        cache.valid[: self.rows, slot] = True
        return self.replay()[:live]


class DecodeSteps:
    """Runs decode steps: captured ones if possible, otherwise the language model's own.

    Args:
        capture: None to capture nothing.

    Attributes:
        graphs: the captured steps by (rows, slots), all of one cache.
    """

    def __init__(self, language: LanguageModel, capture: GraphCapture | None = None) -> None:
        self.language = language
        self.capture = capture
        self.graphs: dict[tuple[int, int], _CapturedStep] = {}
        self._seen: Counter[tuple[int, int]] = Counter()
        self._cache: weakref.ref[KVTensors] | None = None

    def __call__(self, ids: torch.Tensor, positions: torch.Tensor, cache: KVTensors) -> torch.Tensor:
        """Compute one more token of each row: (rows,) ids and positions to logits (rows, vocabulary) in float32.

        The next step overwrites the logits.
        """
        if self.capture is None or cache.prefix_levels():  # whose tensors would be those of the capture
            return self.language.decode(ids, positions, cache)
        if self._cache is None or self._cache() is not cache:
            self.forget()
            self._cache = weakref.ref(cache)
        shape = _graph_shape(cache)
        if (step := self.graphs.get(shape)) is not None:
            logits = step(ids, positions, cache, cache.filled)
            cache.advance(1)
            return logits
        self._seen[shape] += 1
        logits = self.language.decode(ids, positions, cache)
        if self._seen[shape] == CAPTURE_AFTER and len(self.graphs) < MAX_GRAPHS:
            self._capture(shape, ids, positions, cache, logits)
        return logits

    def forget(self) -> None:
        """Drop all graphs."""
        self.graphs.clear()
        self._seen.clear()
        self._cache = None

    def _capture(
        self, shape: tuple[int, int], ids: torch.Tensor, positions: torch.Tensor, cache: KVTensors,
        expected: torch.Tensor,
    ) -> None:  # fmt: skip
        """Capture the step that was just run, and keep the capture if it reproduces the step's logits."""
        assert self.capture is not None
        rows, slots = shape
        inputs, places, write_slot = (torch.zeros(n, dtype=torch.long, device=ids.device) for n in (rows, rows, 1))
        inputs[: len(ids)], places[: len(ids)] = ids, positions
        slot = cache.filled - 1
        write_slot.fill_(slot)
        cache.valid[:rows, slot] = True
        fixed = GraphShape(rows, slots, write_slot)
        proxy = weakref.proxy(cache)  # a capture must not keep a cache alive that was dropped
        try:
            replay = self.capture(lambda: self.language.decode_captured(inputs, places, proxy, fixed))
            step = _CapturedStep(rows, inputs, places, write_slot, replay)
            found = step(ids, positions, cache, slot)
            if bool(expected.isnan().any()):
                return  # nothing to compare with
            error = relative_error(expected, found)
            reason = f"replayed logits differ by {error:.1e} of their spread"
        except Exception as failure:  # a driver or model may refuse in any way, and decoding works without
            error, reason = (
                float("inf"),
                f"{type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}",
            )
        if error <= self.language.tolerance:
            self.graphs[shape] = step
            return
        log.info("decode steps are not captured as CUDA graphs: %s", reason)
        self.capture = None
        self.forget()
        # The capture has run, too, and may have written anything into the step's slot.
        cache.filled -= 1
        self.language.decode(ids, positions, cache)


def _graph_shape(cache: KVTensors) -> tuple[int, int]:
    """The rows and slots of a captured step: those in use, rounded up within the size of the cache."""
    rows = max(MIN_ROWS, 1 << (cache.rows - 1).bit_length())
    slots = -(-(cache.filled + 1) // SLOT_MULTIPLE) * SLOT_MULTIPLE
    return min(rows, cache.max_rows), min(slots, cache.max_slots)
