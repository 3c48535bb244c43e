"""Gated MLPs padded with zeros to widths for which there are fast kernels.

Tensor cores take 16 bytes at a time, eight numbers in half precision.  The MLPs of Qwen2.5-VL's vision encoder are
3,420 wide, which is not a multiple of eight, so libraries fall back on kernels for older GPUs.  Copies of the weights
are padded with zeros, which do not change any sum, and gate and up projection become one product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import has_own_forward, override_forward, restore_forward

ALIGNED = 8  # 16-bit numbers in 16 bytes
PADDED_MULTIPLE = 64  # tiles are at least this wide

_FORWARD_NAMES = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass(frozen=True, eq=False)
class _PaddedWeights:
    """The padded weights of one MLP: gate and up (2 × width, in), down (out, width), and their biases."""

    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


def install(model: nn.Module) -> int:
    """Pad the MLPs of a model in half precision on CUDA.  Returns how many were padded."""
    count = 0
    for module in model.modules():
        if can_pad(module) and _has_fast_kernels(module):
            pad(module)
            count += 1
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``."""
    restore_forward(model, _forward)


def pad(mlp: Any) -> None:
    """Make one MLP use padded copies of its current weights."""
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    padding = -up.out_features % PADDED_MULTIPLE
    with torch.no_grad():
        gate_up = torch.cat([F.pad(gate.weight, (0, 0, 0, padding)), F.pad(up.weight, (0, 0, 0, padding))])
        bias = None
        if up.bias is not None:
            bias = torch.cat([F.pad(gate.bias, (0, padding)), F.pad(up.bias, (0, padding))])
        weights = _PaddedWeights(gate_up, bias, F.pad(down.weight, (0, padding)), down.bias)
    override_forward(mlp, _forward, weights)


def is_gated(mlp: Any) -> bool:
    """Whether it computes exactly ``down(act(gate(x)) * up(x))`` with linear layers, and is not hooked."""
    layers = [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(type(layer) is nn.Linear for layer in layers) or not has_own_forward(mlp):
        return False
    return set(type(mlp).forward.__code__.co_names) == _FORWARD_NAMES


def can_pad(mlp: Any) -> bool:
    """Whether it is gated, has an unaligned width, and none of its layers is hooked."""
    if not is_gated(mlp) or not all(map(has_own_forward, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))):
        return False
    if mlp.up_proj.out_features % ALIGNED == 0:
        return False
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    same_shape = gate.weight.shape == up.weight.shape and (gate.bias is None) == (up.bias is None)
    return same_shape and bool(up.out_features == down.in_features) and _activation_is_finite_at_zero(mlp)


def _has_fast_kernels(mlp: Any) -> bool:
    weight: Tensor = mlp.up_proj.weight
    return weight.is_cuda and weight.dtype.itemsize == 2


def _activation_is_finite_at_zero(mlp: Any) -> bool:
    """Whether padding stays zero: the activation of a padded gate is multiplied by the padded up projection's zero."""
    weight = mlp.up_proj.weight
    with torch.no_grad():
        found: Tensor = mlp.act_fn(torch.zeros(1, device=weight.device, dtype=weight.dtype))
    return bool(found.isfinite().all())


def _forward(mlp: Any, weights: _PaddedWeights, x: Tensor) -> Tensor:
    if torch.is_grad_enabled():  # gradients belong to the module's own weights
        out: Tensor = type(mlp).forward(mlp, x)
        return out
    gate, up = F.linear(x, weights.gate_up, weights.gate_up_bias).chunk(2, dim=-1)
    return F.linear(mlp.act_fn(gate) * up, weights.down, weights.down_bias)
