"""Padded MLPs compute the same as the original ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

from evalkit.model.engine.patches import mlp as patch


def _mlp(width: int = 108, bias: bool = True) -> Any:
    torch.manual_seed(0)
    config: Any = Qwen2_5_VLVisionConfig(hidden_size=40, intermediate_size=width)
    return Qwen2_5_VLMLP(config, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_padding_does_not_change_output(bias: bool) -> None:
    mlp, given = _mlp(bias=bias), torch.randn(7, 40)
    assert patch.can_pad(mlp)
    with torch.inference_mode():
        expected = mlp(given)
        patch.pad(mlp)
        wide = mlp.forward.args[1]
        assert (wide.gate_up.shape, wide.down.shape) == ((2 * 128, 40), (40, 128))
        assert torch.allclose(mlp(given), expected, atol=1e-6)
        with torch.no_grad():
            wide.gate_up[0] += 1  # it is really used
        assert not torch.allclose(mlp(given), expected, atol=1e-6)
    patch.uninstall(mlp)
    assert "forward" not in vars(mlp)
    with torch.inference_mode():
        assert torch.equal(mlp(given), expected)


def test_gradients_reach_original_weights() -> None:
    mlp = _mlp()
    patch.pad(mlp)
    mlp(torch.randn(3, 40)).sum().backward()
    assert mlp.up_proj.weight.grad is not None


class _Scaled(Qwen2_5_VLMLP):
    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(hidden_state)) * self.up_proj(hidden_state))
        return found.mul(2)


class _Log(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.log()  # of zero, no number


def test_other_modules_are_unchanged() -> None:
    config: Any = Qwen2_5_VLVisionConfig(hidden_size=40, intermediate_size=108)
    hooked, wrapped, odd = _mlp(), _mlp(), _mlp()
    hooked.forward = lambda x: x
    wrapped.up_proj = nn.Sequential(wrapped.up_proj)
    odd.act_fn = _Log()
    for other in (_mlp(width=112), _Scaled(config), nn.Linear(40, 108), hooked, wrapped, odd):
        assert not patch.can_pad(other), other


def test_only_on_cuda() -> None:
    model = nn.ModuleList([_mlp()])
    assert patch.install(model) == 0, "on a CPU, or in full precision, every width is as good"
    assert patch.install(model.bfloat16()) == 0
