"""Decode steps of fixed shapes, recorded once and replayed: CUDA graphs.

A decode step is hundreds of short kernels, and a GPU runs them faster than Python can launch them.  A graph launches
all of them at once, but always with the same shapes and addresses.  So rows are rounded up to a power of two and
columns to a multiple of ``COLUMNS``; the cache stays where it is (``Pool``), tokens and positions are copied to where
they lay when the graph was recorded, and which column is written is a number on the device.

A shape is recorded once it has come up a few times, which short answers' shapes may not.  The first replay is compared
with the step that it repeats; where they differ, or recording fails (a model that waits for the device in mid-step
cannot be recorded), steps go on unrecorded, and a line of the log says so.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from .kv_cache import Columns, Fixed
from .model_runner import Language, apart

log = logging.getLogger(__name__)

ROWS = 8  # the fewest of a recorded step
COLUMNS = 128
# Recording costs about three steps, and serves until memory is short or rows become longer.
AFTER = 2
# Each keeps its kernels' addresses, and the logits of its rows.
MOST = 32

Work = Callable[[], torch.Tensor]


class Recorder(Protocol):
    """Makes of some work on tensors that stay where they are a replay of it, which gives the same tensor each time."""

    def __call__(self, work: Work) -> Work: ...


class CudaGraphs:
    """Records CUDA graphs, which share one pool of memory: they run one after another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        with torch.cuda.device(self.device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(side):
                work()  # what is set up at a first call is not recorded
                # Not torch.cuda.graph, which gives all free memory back first; it would be wanted again at once.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    out = work()
                finally:
                    graph.capture_end()
            current.wait_stream(side)

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return replay


@dataclass
class _Step:
    """A recorded step, with the places of what goes in."""

    rows: int
    ids: torch.Tensor
    positions: torch.Tensor
    at: torch.Tensor
    replay: Work

    def __call__(self, ids: torch.Tensor, positions: torch.Tensor, cache: Columns, at: int) -> torch.Tensor:
        live = len(ids)
        self.ids[:live] = ids
        self.positions[:live] = positions
        self.at.fill_(at)
        # Rows beyond the live ones see at least themselves: nothing seen would be NaN, which spreads.
        cache.valid[: self.rows, at] = True
        return self.replay()[:live]


class Steps:
    """Takes decode steps: recorded ones where that is possible, the language model's own otherwise.

    Args:
        recorder: None for no recording.
    """

    def __init__(self, language: Language, recorder: Recorder | None = None) -> None:
        self.language = language
        self.recorder = recorder
        self._cache: weakref.ref[Columns] | None = None
        self._known: dict[tuple[int, int], _Step] = {}
        self._asked: Counter[tuple[int, int]] = Counter()

    def __call__(self, ids: torch.Tensor, positions: torch.Tensor, cache: Columns) -> torch.Tensor:
        """One more token for each row: (rows,) tokens and positions; gives logits (rows, vocabulary) in float32.

        They are overwritten by the next step.
        """
        if self.recorder is None:
            return self.language.step(ids, positions, cache)
        if self._cache is None or self._cache() is not cache:
            self.forget()
            self._cache = weakref.ref(cache)
        key = _shape(cache)
        if (known := self._known.get(key)) is not None:
            logits = known(ids, positions, cache, cache.at)
            cache.step(1)
            return logits
        self._asked[key] += 1
        logits = self.language.step(ids, positions, cache)
        if self._asked[key] == AFTER and len(self._known) < MOST:
            self._record(key, ids, positions, cache, logits)
        return logits

    def forget(self) -> None:
        """Let all recordings go; they belong to one cache."""
        self._known.clear()
        self._asked.clear()
        self._cache = None

    def _record(
        self, key: tuple[int, int], ids: torch.Tensor, positions: torch.Tensor, cache: Columns, expected: torch.Tensor
    ) -> None:
        """Record the step that was just taken, and keep it if it gives what the step gave."""
        assert self.recorder is not None
        rows, columns = key
        given, places, at = (torch.zeros(n, dtype=torch.long, device=ids.device) for n in (rows, rows, 1))
        given[: len(ids)], places[: len(ids)] = ids, positions
        at.fill_(cache.at - 1)
        cache.valid[:rows, cache.at - 1] = True
        fixed = Fixed(rows, columns, at)
        # Weakly: recordings must not keep a cache alive that the pool has let go.
        weak = weakref.proxy(cache)
        try:
            replay = self.recorder(lambda: self.language.fixed_step(given, places, weak, fixed))
            step = _Step(rows, given, places, at, replay)
            found = step(ids, positions, cache, cache.at - 1)
            if bool(expected.isnan().any()):
                return  # nothing to compare with
            off = apart(expected, found)
            wrong = f"replayed, logits come out otherwise, by {off:.1e} of their spread"
        except Exception as error:  # whatever a driver or a model has against it: steps work without
            off, wrong = float("inf"), f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        if off <= self.language.tolerance:
            self._known[key] = step
            return
        log.info("decode steps are not recorded as CUDA graphs: %s", wrong)
        self.recorder = None
        self.forget()
        # What was recorded has run, too, and may have written anything into the step's column.
        cache.at -= 1
        self.language.step(ids, positions, cache)


def _shape(cache: Columns) -> tuple[int, int]:
    """The rows and columns of a recorded step: those in use, rounded up as far as the cache goes."""
    rows = max(ROWS, 1 << (cache.rows - 1).bit_length())
    columns = -(-(cache.at + 1) // COLUMNS) * COLUMNS
    return min(rows, cache.store.shape[2]), min(columns, cache.width)
