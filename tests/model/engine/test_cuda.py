"""On a GPU: the same tokens as ``generate`` one sample at a time, with decode steps captured as CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest
import torch

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.loading import load_model
from evalkit.model.hf.processor_loading import load_processor
from evalkit.types import Decoding, PromptSpec, Request, Response, Shot

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = torch.device("cuda")


def _requests() -> list[Request]:
    family = registry.families.get("qwen2.5-vl")
    found = []
    for name, split, limit in (("refcoco", "testA", 40), ("vqav2", "val", 8)):
        task = registry.tasks.get(name)
        samples = list(task.load(open_data("tiny"), split))[:80]
        spec = PromptSpec(name, task.kind)
        shots = [Shot(s, family.answer(spec, s, family.image_size(s.images[0].size()))) for s in samples[-4:]]
        for at, sample in enumerate(samples[:60]):
            found.append(Request(f"{name}-{at}", family.prompt(spec, sample), Decoding(limit)))
            if at % 7 == 0:
                found.append(Request(f"{name}-{at}-shots", family.prompt(spec, sample, shots[:2]), Decoding(limit)))
    return found


def _backend(dtype: str, **settings: object) -> HFBackend:
    checkpoint = resolve_checkpoint("tiny")
    model = load_model(checkpoint, device=DEVICE, dtype=dtype)
    return HFBackend(model, load_processor(checkpoint), **settings)  # type: ignore[arg-type]


def _tokens(backend: HFBackend, requests: Sequence[Request]) -> dict[str, tuple[int, ...]]:
    found: list[Response] = list(backend.generate(requests))
    assert [r.error for r in found] == [None] * len(requests)
    return {r.id: r.tokens for r in found}


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return _requests()


@pytest.fixture(scope="module")
def alone(requests: list[Request]) -> dict[str, tuple[int, ...]]:
    return _tokens(_backend("float32", exact=True), requests)


@pytest.mark.parametrize("rows", [3, 16, 64, None])
@pytest.mark.parametrize("capture", [True, False])
def test_same_tokens_as_generate(
    rows: int | None, capture: bool, requests: list[Request], alone: dict[str, tuple[int, ...]]
) -> None:
    backend = _backend("float32", batch_size=rows, options=EngineOptions(cuda_graphs=capture))
    assert backend.engine is not None, backend.unfit
    found = _tokens(backend, requests)
    different = [key for key, tokens in alone.items() if found[key] != tokens]
    assert different == []
    steps = backend.engine.runner.steps
    assert (steps.capture is not None) is capture
    assert bool(steps.graphs) is capture


@pytest.mark.parametrize("off", ["fused_kernels", "async_scheduling", "prefix_sharing"])
def test_options_change_no_token(off: str, requests: list[Request], alone: dict[str, tuple[int, ...]]) -> None:
    backend = _backend("float32", batch_size=16, options=EngineOptions(**{off: False}))
    assert backend.engine is not None, backend.unfit
    assert backend.engine.scheduler.async_scheduling is (off != "async_scheduling")
    found = _tokens(backend, requests)
    assert [key for key, tokens in alone.items() if found[key] != tokens] == []


def test_no_synchronization_except_for_tokens(requests: list[Request]) -> None:
    """As ``test_device_sync.py`` shows on a fake GPU, reported by CUDA itself."""
    backend = _backend("bfloat16", batch_size=64, options=EngineOptions(cuda_graphs=False))
    assert backend.engine is not None, backend.unfit
    _tokens(backend, requests[:20])  # warm up
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _tokens(backend, requests)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [str(one.message) for one in caught if "synchronizing" in str(one.message)] == []


def test_captured_steps_in_half_precision(requests: list[Request]) -> None:
    backend = _backend("bfloat16")
    assert backend.engine is not None, backend.unfit
    found = _tokens(backend, requests)
    assert backend.engine.runner.steps.capture is not None
    plain = _tokens(_backend("bfloat16", options=EngineOptions(cuda_graphs=False)), requests)
    different = [key for key, tokens in plain.items() if found[key] != tokens]
    assert len(different) <= 0.1 * len(plain)
