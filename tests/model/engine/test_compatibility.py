"""Building an engine: the model is patched for as long as the engine uses it, and restored whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evalkit.checkpoint import resolve_checkpoint
from evalkit.model.backends.hf import HFBackend
from evalkit.model.engine.options import EngineOptions
from evalkit.model.hf.loading import load_model
from evalkit.model.hf.processor_loading import load_processor


@pytest.fixture
def model() -> Any:
    return load_model(resolve_checkpoint("tiny"), device=torch.device("cpu"), dtype="float32")


@pytest.fixture(scope="module")
def processor() -> Any:
    return load_processor(resolve_checkpoint("tiny"))


def _patches(model: Any) -> list[str]:
    """What differs from transformers' own model: replaced forwards and attention implementations."""
    replaced = [name for name, module in model.named_modules() if "forward" in vars(module)]
    attention = {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")}
    return replaced + sorted(attention - {"sdpa"})


def test_model_is_patched_until_it_is_released(model: Any, processor: Any) -> None:
    backend = HFBackend(model, processor)
    assert backend.unfit is None
    assert _patches(model)
    backend.release()
    assert _patches(model) == []


def test_model_is_restored_when_building_raises(
    model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def fail(device: torch.device) -> int:
        raise OSError("no such device")

    monkeypatch.setattr("evalkit.model.hf.memory.free_memory", fail)
    with pytest.raises(OSError, match="no such device"):
        HFBackend(model, processor)
    assert _patches(model) == []


def test_model_is_restored_when_engine_does_not_support_it(
    model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.model.engine.engine.Engine.logits", lambda *_: [(torch.zeros(1), torch.zeros(1))] * 2)
    backend = HFBackend(model, processor, options=EngineOptions(packed_weights=False))
    assert backend.engine is None
    assert backend.unfit is not None
    assert _patches(model) == []

    backend = HFBackend(model, processor)  # generate has packed weights, until the backend is released
    assert backend.engine is None
    assert _patches(model) != []
    backend.release()
    assert _patches(model) == []
