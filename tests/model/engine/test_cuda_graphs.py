"""Captured decode steps: the same tokens.

There are no CUDA graphs on a CPU.  Here a step is traced instead, operation by operation, and the trace is run: as in a
graph, every shape, address and number that Python held when it was captured is what it was then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from evalkit import registry
from evalkit.data import open_data
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine import cuda_graphs
from evalkit.model.engine.cuda_graphs import Step
from evalkit.model.engine.kv_cache import ContiguousKVCache
from evalkit.types import Decoding, PromptSpec, Request, Response


class Traced:
    """Captures by tracing; counts graphs and replays."""

    def __init__(self) -> None:
        self.graphs = self.replays = 0

    def __call__(self, work: Step) -> Step:
        trace: Callable[[], torch.Tensor] = make_fx(work)()
        self.graphs += 1

        def replay() -> torch.Tensor:
            self.replays += 1
            return trace()

        return replay


def _backend(tiny: HFBackend, capture: Any, rows: int) -> HFBackend:
    backend = HFBackend(tiny.model, tiny.processor, batch_size=rows)
    assert backend.engine is not None
    backend.engine.runner.steps.capture = capture
    backend.engine.language.prefix_attention = False  # as on a GPU
    return backend


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Answers of one to forty tokens, several questions an image."""
    family = registry.families.get("qwen2.5-vl")
    found = []
    for name, split, limit in (("refcoco", "testA", 40), ("vqav2", "val", 6)):
        task = registry.tasks.get(name)
        samples = list(task.load(open_data("tiny"), split))[:30]
        spec = PromptSpec(name, task.kind)
        found += [Request(f"{name}-{s.id}", family.prompt(spec, s), Decoding(limit)) for s in samples]
    return found


@pytest.fixture(scope="module")
def expected(requests: list[Request], tiny_backend: HFBackend) -> dict[str, tuple[int, ...]]:
    return _tokens(_backend(tiny_backend, None, 16), requests)


def _tokens(backend: HFBackend, requests: Sequence[Request]) -> dict[str, tuple[int, ...]]:
    found: list[Response] = list(backend.generate(requests))
    assert [r.error for r in found] == [None] * len(requests)
    return {r.id: r.tokens for r in found}


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(16, 128), pytest.param(1, 128, marks=pytest.mark.slow), pytest.param(6, 16, marks=pytest.mark.slow)],
)
def test_same_tokens_with_captured_steps(
    rows: int, columns: int, requests: list[Request], expected: dict[str, tuple[int, ...]],
    tiny_backend: HFBackend, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cuda_graphs, "SLOT_MULTIPLE", columns)
    capture = Traced()
    backend = _backend(tiny_backend, capture, rows)
    assert _tokens(backend, requests) == expected
    assert backend.engine is not None
    assert backend.engine.runner.steps.capture is capture, "it did not give up"
    assert capture.replays > 2 * capture.graphs > 0
    assert _tokens(backend, requests) == expected  # and in the next window


def test_wrong_replay_is_not_used(
    requests: list[Request], expected: dict[str, tuple[int, ...]], tiny_backend: HFBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """As a graph would of a step that keeps a number of Python's: always the column of the capture."""

    class Stuck(Traced):
        def __call__(self, work: Step) -> Step:
            right = super().__call__(work)
            return lambda: right().roll(1, -1)

    caplog.set_level(logging.INFO, "evalkit")
    backend = _backend(tiny_backend, Stuck(), 16)
    assert _tokens(backend, requests) == expected
    assert backend.engine is not None
    assert backend.engine.runner.steps.capture is None
    assert "not captured as CUDA graphs: replayed logits differ by" in caplog.text


def test_failed_capture_is_not_used(
    requests: list[Request], expected: dict[str, tuple[int, ...]], tiny_backend: HFBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refuse(work: Step) -> Step:
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    caplog.set_level(logging.INFO, "evalkit")
    backend = _backend(tiny_backend, refuse, 16)
    assert _tokens(backend, requests) == expected
    assert "operation not permitted when stream is capturing" in caplog.text


def test_traced_step_keeps_python_values(tiny_backend: HFBackend) -> None:
    """The trace does keep what Python held: without the comparison, the wrong column would be written again."""
    at = [0]
    place = torch.zeros(4)

    def work() -> torch.Tensor:
        place[at[0]] = 1.0
        return place.clone()

    replay = Traced()(work)
    place.zero_()
    at[0] = 2
    assert replay().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_graphs_are_reused_by_the_next_run(requests: list[Request], tiny_backend: HFBackend) -> None:
    capture = Traced()
    backend = _backend(tiny_backend, capture, 16)
    assert backend.engine is not None
    steps, cache = backend.engine.runner.steps, backend.engine.scheduler.running.cache
    assert isinstance(cache, ContiguousKVCache)
    first = _tokens(backend, requests)
    shapes, made = set(steps.graphs), capture.graphs
    assert _tokens(backend, requests) == first
    assert set(steps.graphs) >= shapes
    assert capture.graphs - made == len(steps.graphs) - len(shapes), "none twice"
    assert cache.tensors is None
    backend.engine.free_memory()  # as when memory is out
    assert (cache.retained, steps.graphs) == (None, {})
    assert _tokens(backend, requests) == first


def test_abandoned_run_leaves_nothing_behind(
    requests: list[Request], expected: dict[str, tuple[int, ...]], tiny_backend: HFBackend
) -> None:
    backend = _backend(tiny_backend, Traced(), 16)
    some = backend.generate(requests)
    next(some)
    some.close()  # type: ignore[attr-defined]
    assert _tokens(backend, requests) == expected


def test_cache_respects_its_memory_limit(requests: list[Request], tiny_backend: HFBackend) -> None:
    """Room for all rows that could come is not taken where long prompts leave room for a few."""
    from dataclasses import replace

    backend = _backend(tiny_backend, Traced(), 256)
    assert backend.engine is not None
    each = backend.engine.language.shape.bytes(torch.float32)
    backend.engine.scheduler.limits = replace(backend.engine.limits, bytes=2 * 10 * 256 * each)
    made: list[int] = []
    cache = backend.engine.scheduler.running.cache
    assert isinstance(cache, ContiguousKVCache)
    allocate = cache.allocate

    def counted(rows: int, slots: int) -> Any:
        made.append(rows * slots)
        return allocate(rows, slots)

    cache.allocate = counted
    _tokens(backend, requests)
    assert 0 < max(made) <= 10 * 256 + 40 * 256
    assert max(made) < 256 * 128
