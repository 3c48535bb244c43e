"""Joined projections compute the same as the original ones, and give their weights back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLAttention

from evalkit.model.engine.patches import packed_linear
from evalkit.model.engine.patches import packed_qkv as patch

NAMES = patch.NAMES


def _attention(width: int = 512) -> Any:
    torch.manual_seed(0)
    config = Qwen2_5_VLTextConfig(hidden_size=width, num_attention_heads=8, num_key_value_heads=2)
    return Qwen2_5_VLAttention(config, layer_idx=0)


def _outputs(attention: Any, x: torch.Tensor) -> list[torch.Tensor]:
    return [getattr(attention, name)(x) for name in NAMES]


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (5, 1), (1, 40)])
def test_joining_changes_outputs_by_rounding_only(shape: tuple[int, ...]) -> None:
    attention, given = _attention(), torch.randn(*shape, 512)
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    with torch.inference_mode():
        expected = _outputs(attention, given)
        assert patch.install(attention) == 3
        assert packed_linear.install(attention) == 1  # the output's
        found = _outputs(attention, given)
        other = _outputs(attention, given + 1.0)
    for one, two, three in zip(expected, found, other, strict=True):
        assert one.shape == two.shape
        assert torch.allclose(one, two, atol=1e-5)
        assert not torch.allclose(one, three, atol=1e-2)
    weights = [getattr(attention, name).weight for name in NAMES]
    assert all(weight.isnan().all() and weight.untyped_storage().nbytes() == 4 for weight in weights)
    packed_linear.uninstall(attention)
    patch.uninstall(attention)
    assert not any("forward" in vars(module) for module in attention.modules())
    assert all(torch.equal(value, before[name]) for name, value in attention.state_dict().items())
    assert len({getattr(attention, name).weight.untyped_storage().data_ptr() for name in NAMES}) == 3


def test_outputs_wait_for_no_other_input() -> None:
    attention = _attention()
    one, other = torch.randn(3, 1, 512), torch.randn(3, 1, 512)
    with torch.inference_mode():
        expected = [attention.q_proj(one), attention.k_proj(other), attention.v_proj(one), attention.q_proj(one)]
        patch.install(attention)
        found = [attention.q_proj(one), attention.k_proj(other), attention.v_proj(one), attention.q_proj(one)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))


def test_nothing_is_held_when_all_outputs_are_taken() -> None:
    attention = _attention()
    patch.install(attention)
    with torch.inference_mode():
        _outputs(attention, torch.randn(3, 1, 512))
    joined = vars(attention.q_proj)["forward"].args[1]
    assert joined.given is None
    assert not joined.waiting


def test_gradients_are_those_of_the_weights() -> None:
    attention, given = _attention(), torch.randn(2, 1, 512)
    expected = torch.autograd.grad(attention.k_proj(x := given.clone().requires_grad_()).sum(), x)[0]
    patch.install(attention)
    found = torch.autograd.grad(attention.k_proj(x := given.clone().requires_grad_()).sum(), x)[0]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("case", ["hooked", "shared", "half", "small", "bidirectional", "adapter"])
def test_others_are_left_alone(case: str) -> None:
    attention = _attention(128 if case == "small" else 512)
    if case == "hooked":
        attention.k_proj.forward = attention.k_proj.forward
    elif case == "shared":
        attention.v_proj.weight = attention.k_proj.weight
    elif case == "half":
        attention.to(torch.bfloat16)
    elif case == "bidirectional":
        attention.is_causal = False
    elif case == "adapter":
        attention.k_proj = nn.Sequential(attention.k_proj)
    assert patch.install(attention) == 0
