"""Norms through torch's kernel: what transformers' own give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from evalkit.model.engine.patches import rms_norm
from evalkit.model.qwen_vl import QwenVLConfig
from evalkit.model.qwen_vl.decoder import QwenVLRMSNorm


def _drawn(norm: Any, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        norm.weight.normal_()
    return norm.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: Qwen2RMSNorm(48), lambda: QwenVLRMSNorm(QwenVLConfig(hidden_size=48))])
def test_same_output_as_original(make: Any, dtype: torch.dtype) -> None:
    norm = _drawn(make(), dtype)
    given = torch.randn(5, 7, 48).mul(3).to(dtype)
    assert rms_norm.can_fuse(norm)
    with torch.inference_mode():
        expected = norm(given)
        rms_norm.fuse(norm)
        found = norm(given)
        assert found.dtype == dtype
        if dtype == torch.float32:
            assert torch.equal(found, expected)
        assert torch.allclose(found.float(), expected.float(), rtol=2e-2)
        norm.weight.mul_(2)  # the module's own, not a copy
        assert torch.equal(norm(given), found * 2)
    rms_norm.uninstall(norm)
    assert "forward" not in vars(norm)


def test_epsilon_is_used() -> None:
    norm = _drawn(Qwen2RMSNorm(16, eps=0.5))
    given = torch.randn(3, 16) * 0.1
    with torch.inference_mode():
        expected = norm(given)
        rms_norm.fuse(norm)
        assert torch.allclose(norm(given), expected, rtol=1e-5)


class _Odd(Qwen2RMSNorm):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = super().forward(hidden_states)
        return found + 0.1


def test_other_modules_are_unchanged() -> None:
    hooked = _drawn(Qwen2RMSNorm(16))
    hooked.forward = lambda x: x
    for other in (_drawn(GemmaRMSNorm(16)), _drawn(_Odd(16)), nn.LayerNorm(16), nn.RMSNorm(16), hooked):
        assert not rms_norm.can_fuse(other), other


def test_gradients_and_other_dtypes_use_original() -> None:
    norm = _drawn(Qwen2RMSNorm(16))
    rms_norm.fuse(norm)
    norm(torch.randn(2, 16)).sum().backward()
    assert norm.weight.grad is not None
    model = nn.ModuleList([_drawn(Qwen2RMSNorm(16)), _drawn(Qwen2RMSNorm(16), torch.bfloat16)])
    assert rms_norm.install(model) == 1, "on a CPU in float32 only"
