"""Gated MLPs of a width that fast kernels do not take, made wider with zeros.

Tensor cores are fed 16 bytes at a time, eight numbers in half precision.  The vision encoder of Qwen2.5-VL has MLPs
3,420 wide, which is no multiple of eight, and libraries then fall back on kernels of an older generation of GPUs.  So
copies of their weights are padded with zeros, which add nothing to any sum; gate and up go through one product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import give, own, take_back

NUMBERS = 8  # of 16 bits to 16 bytes
WIDTH = 64  # what a width is made a multiple of: tiles are no smaller

_NAMES = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass(frozen=True, eq=False)
class _Wide:
    """The weights of one MLP, padded: (2 × wide, in), (out, wide), and biases."""

    both: Tensor
    bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


def install(model: nn.Module) -> int:
    """Have each such MLP of a model in half precision on CUDA use wider weights; gives how many there are."""
    found = 0
    for module in model.modules():
        if fits(module) and _quick(module):
            widen(module)
            found += 1
    return found


def uninstall(model: nn.Module) -> None:
    """Take back what ``install`` did."""
    take_back(model, _forward)


def widen(mlp: Any) -> None:
    """Have one MLP use wider weights: copies, as they are now."""
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    more = -up.out_features % WIDTH
    with torch.no_grad():
        both = torch.cat([F.pad(gate.weight, (0, 0, 0, more)), F.pad(up.weight, (0, 0, 0, more))])
        bias = None
        if up.bias is not None:
            bias = torch.cat([F.pad(gate.bias, (0, more)), F.pad(up.bias, (0, more))])
        wide = _Wide(both, bias, F.pad(down.weight, (0, more)), down.bias)
    give(mlp, _forward, wide)


def fits(mlp: Any) -> bool:
    """Whether it is ``down(act(gate(x)) * up(x))`` and nothing more, of an awkward width, and nobody's hook on it."""
    layers = [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(type(layer) is nn.Linear for layer in layers) or not all(own(one) for one in (mlp, *layers)):
        return False
    if set(type(mlp).forward.__code__.co_names) != _NAMES or mlp.up_proj.out_features % NUMBERS == 0:
        return False
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    alike = gate.weight.shape == up.weight.shape and (gate.bias is None) == (up.bias is None)
    return alike and bool(up.out_features == down.in_features) and _keeps_zero(mlp)


def _quick(mlp: Any) -> bool:
    """Whether it is where those kernels are."""
    weight: Tensor = mlp.up_proj.weight
    return weight.is_cuda and weight.dtype.itemsize == 2


def _keeps_zero(mlp: Any) -> bool:
    """Whether the padding stays zero: what the activation makes of it is multiplied by up's."""
    weight = mlp.up_proj.weight
    with torch.no_grad():
        found: Tensor = mlp.act_fn(torch.zeros(1, device=weight.device, dtype=weight.dtype))
    return bool(found.isfinite().all())


def _forward(mlp: Any, wide: _Wide, x: Tensor) -> Tensor:
    if torch.is_grad_enabled():  # the module's own weights are what is learned
        out: Tensor = type(mlp).forward(mlp, x)
        return out
    gate, up = F.linear(x, wide.both, wide.bias).chunk(2, dim=-1)
    return F.linear(mlp.act_fn(gate) * up, wide.down, wide.down_bias)
