"""What the tests of the native Qwen-VL share: the original's outputs, where they are, and a small random model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "qwen_vl"


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    if not GOLDEN.is_dir():
        pytest.skip("the original Qwen-VL's outputs (shared/golden/qwen_vl) are not here")
    return GOLDEN


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> SimpleNamespace:
    """``arrays`` by name, and ``cases``, the metadata."""
    from safetensors.torch import load_file

    arrays: dict[str, torch.Tensor] = {}
    for name in ("cases_pixels", "cases_vision", "cases"):
        arrays |= load_file(golden_folder / f"{name}.safetensors")
    return SimpleNamespace(arrays=arrays, cases=json.loads((golden_folder / "cases.json").read_text("utf-8")))


@pytest.fixture(scope="session")
def small() -> Callable[..., Any]:
    """A random model with images of 56 × 56 that become 16 tokens, trained (so to say) on 32 tokens."""
    from evalkit.model.qwen_vl import QwenVLConfig, QwenVLForConditionalGeneration

    def make(seed: int = 0, attention: str = "sdpa", visual: dict[str, Any] | None = None, **changes: Any) -> Any:
        eye = {"image_size": 56, "patch_size": 14, "width": 32, "layers": 2, "heads": 2, "mlp_ratio": 2.03}
        eye |= {"output_dim": 128, "image_start_id": 90, "n_queries": 16} | (visual or {})
        settings = {"vocab_size": 96, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        settings |= {"intermediate_size": 192, "kv_channels": 32, "seq_length": 32, "initializer_range": 0.2}
        config = QwenVLConfig(**(settings | changes), visual=eye, attn_implementation=attention)
        torch.manual_seed(seed)
        model = QwenVLForConditionalGeneration(config).eval()
        model.generation_config.pad_token_id = 95
        return model

    return make
