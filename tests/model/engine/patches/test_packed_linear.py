"""Packed linear layers compute the same as the original ones, and give their weights back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

from evalkit.model.engine.patches import packed_linear as patch


def _linear(inputs: int = 320, outputs: int = 512, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (5,), (16,), (100,), (1, 1), (3, 7)])
def test_packing_changes_output_by_rounding_only(bias: bool, shape: tuple[int, ...]) -> None:
    linear, given = _linear(bias=bias), torch.randn(*shape, 320)
    before = linear.weight.detach().clone()
    with torch.inference_mode():
        expected = linear(given)
        assert patch.install(linear) == 1
        found = linear(given)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5)
    assert linear.weight.isnan().all()  # its memory is free, and nobody can mistake it for the weight
    assert linear.weight.untyped_storage().nbytes() == 4
    assert (linear.weight.shape, linear.weight.dtype, linear.weight.device.type) == (before.shape, before.dtype, "cpu")
    parameter = linear.weight
    patch.uninstall(linear)
    assert "forward" not in vars(linear)
    assert linear.weight is parameter
    assert torch.equal(linear.weight, before)
    with torch.inference_mode():
        assert torch.equal(linear(given), expected)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_gated_mlp_is_fused(rows: int) -> None:
    torch.manual_seed(0)
    config: Any = Qwen2_5_VLVisionConfig(hidden_size=384, intermediate_size=512)
    mlp, given = Qwen2_5_VLMLP(config, bias=True), torch.randn(rows, 1, 384)
    before = {name: value.clone() for name, value in mlp.state_dict().items()}
    with torch.inference_mode():
        expected = mlp(given)
        assert patch.install(mlp) == 3
        assert "forward" in vars(mlp)
        found = mlp(given)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-5)
    mlp(given.requires_grad_()).sum().backward()
    assert given.grad is not None
    patch.uninstall(mlp)
    assert not any("forward" in vars(module) for module in mlp.modules())
    assert all(torch.equal(value, before[name]) for name, value in mlp.state_dict().items())


def test_other_activations_are_not_fused() -> None:
    config: Any = Qwen2_5_VLVisionConfig(hidden_size=384, intermediate_size=512, hidden_act="gelu")
    mlp, given = Qwen2_5_VLMLP(config, bias=True), torch.randn(5, 384)
    with torch.inference_mode():
        expected = mlp(given)
        assert patch.install(mlp) == 3
        assert "forward" not in vars(mlp)
        assert torch.allclose(mlp(given), expected, atol=1e-5)


def test_tensors_of_inference_mode() -> None:
    """Models may be loaded, and layers called, inside it or outside."""
    with torch.inference_mode():
        linear = _linear()
        assert patch.install(linear) == 1
    with torch.no_grad():
        found = linear(torch.ones(2, 320))
    with torch.inference_mode():
        patch.uninstall(linear)
        assert torch.allclose(linear(torch.ones(2, 320)), found, atol=1e-5)


def test_gradients_pass_through() -> None:
    linear, given = _linear(), torch.randn(3, 320, requires_grad=True)
    (expected,) = torch.autograd.grad(linear(given).sum(), given)
    patch.install(linear)
    (found,) = torch.autograd.grad(linear(given).sum(), given)
    assert torch.allclose(found, expected, atol=1e-5)


class _Scaled(nn.Linear):
    pass


def _hooked() -> nn.Linear:
    linear = _linear()
    linear.forward = lambda input: input  # type: ignore[method-assign]
    return linear


@pytest.mark.parametrize(
    "module",
    [_linear(8, 8), _linear().to(torch.bfloat16), _Scaled(320, 512), _hooked(), nn.Conv1d(320, 512, 1)],
    ids=["small", "half precision", "subclass", "hooked", "convolution"],
)
def test_other_modules_are_left_alone(module: Any) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert patch.install(module) == 0
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_shared_weights_are_left_alone() -> None:
    """Tied embeddings are looked up row by row."""
    head, embedding = _linear(bias=False), nn.Embedding(512, 320)
    head.weight = embedding.weight
    assert patch.install(nn.ModuleList([head, embedding])) == 0
    assert not embedding.weight.isnan().any()


def test_without_onednn_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(patch, "pack", missing)
    linear = _linear()
    assert patch.install(linear) == 0
    assert not linear.weight.isnan().any()
