"""RMS norms as one kernel.

transformers computes them operation by operation.  On CUDA each operation reads and writes the whole tensor, and in a
decode step each is a kernel that is shorter than its launch.  torch has one kernel for the norm.  It rounds once
instead of twice, so last digits differ in half precision.  On a CPU torch does the same operations as transformers, but
in one call; it is used in float32 only, where the result is the same to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import has_own_forward, override_forward, restore_forward

EPSILON_NAMES = ("variance_epsilon", "eps", "epsilon")
TOLERANCE = 2e-2  # two roundings in bf16


def install(model: nn.Module) -> int:
    """Make the norms of a model use torch's: in half precision on CUDA, in float32 on a CPU.  Returns how many do."""
    count = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        half_on_cuda = weight.is_cuda and weight.dtype.itemsize == 2
        full_on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        if (half_on_cuda or full_on_cpu) and can_fuse(module):
            fuse(module)
            count += 1
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``."""
    restore_forward(model, _forward)


def fuse(norm: Any) -> None:
    """Make one norm use torch's kernel."""
    epsilon = _epsilon(norm)
    assert epsilon is not None
    override_forward(norm, _forward, epsilon)


def can_fuse(norm: Any) -> bool:
    """Whether it is a plain RMS norm, judged by its name and its output for synthetic input, and is not hooked.

    (Gemma's, for example, multiplies by one plus its weight.)
    """
    named = type(norm).__name__.endswith("RMSNorm") and has_own_forward(norm)
    only_weight = [name for name, _ in norm.named_parameters()] == ["weight"] if named else False
    epsilon = _epsilon(norm)
    if not only_weight or norm.weight.ndim != 1 or epsilon is None:
        return False
    weight: Tensor = norm.weight
    x = torch.linspace(-3, 2, 4 * len(weight)).sin().view(4, -1).to(weight.device, weight.dtype)
    with torch.no_grad():
        expected, found = norm(x), _forward(norm, epsilon, x)
    if weight.dtype == torch.float32:
        return torch.equal(found, expected)
    return bool(torch.allclose(found.float(), expected.float(), rtol=TOLERANCE, atol=1e-6))


def fused_epsilon(norm: Any) -> float | None:
    """The epsilon of a norm that uses torch's kernel; None for any other module."""
    override: Any = vars(norm).get("forward")
    return override.args[1] if getattr(override, "func", None) is _forward else None


def _epsilon(norm: Any) -> float | None:
    found = [getattr(norm, name) for name in EPSILON_NAMES if isinstance(getattr(norm, name, None), float)]
    return found[0] if len(found) == 1 else None


def _forward(norm: Any, epsilon: float, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() or x.dtype != norm.weight.dtype:
        out: Tensor = type(norm).forward(norm, x)
        return out
    return F.rms_norm(x, (x.shape[-1],), norm.weight, epsilon)
