"""Root-mean-square norms in one kernel instead of six.

transformers writes them out, operation by operation.  On CUDA each operation reads and writes all that there is, and in
a decode step each is a kernel so short that its launch takes longer.  torch has one kernel for it.  It rounds once
where the other way rounds twice, so that in half precision last digits differ; in fp32 nothing is changed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import give, own, take_back

EPSILON = ("variance_epsilon", "eps", "epsilon")
TOLERANCE = 2e-2  # two roundings in bf16


def install(model: nn.Module) -> int:
    """Have the norms of a model in half precision on CUDA use torch's kernel; gives how many there are."""
    found = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.is_cuda and weight.dtype.itemsize == 2 and fits(module):
            replace(module)
            found += 1
    return found


def uninstall(model: nn.Module) -> None:
    """Take back what ``install`` did."""
    take_back(model, _forward)


def replace(norm: Any) -> None:
    """Have one norm use torch's kernel."""
    epsilon = _epsilon(norm)
    assert epsilon is not None
    give(norm, _forward, epsilon)


def fits(norm: Any) -> bool:
    """Whether it is such a norm, nobody's hook on it: by its name, and by what it gives for drawn numbers.

    (Gemma's, for one, multiplies by one more than its weight.)
    """
    named = type(norm).__name__.endswith("RMSNorm") and own(norm)
    alone = [name for name, _ in norm.named_parameters()] == ["weight"] if named else False
    epsilon = _epsilon(norm)
    if not alone or norm.weight.ndim != 1 or epsilon is None:
        return False
    weight: Tensor = norm.weight
    given = torch.linspace(-3, 2, 4 * len(weight)).sin().view(4, -1).to(weight.device, weight.dtype)
    with torch.no_grad():
        expected, found = norm(given), _forward(norm, epsilon, given)
    return bool(torch.allclose(found.float(), expected.float(), rtol=TOLERANCE, atol=1e-6))


def _epsilon(norm: Any) -> float | None:
    found = [getattr(norm, name) for name in EPSILON if isinstance(getattr(norm, name, None), float)]
    return found[0] if len(found) == 1 else None


def _forward(norm: Any, epsilon: float, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() or x.dtype != norm.weight.dtype:
        own: Tensor = type(norm).forward(norm, x)
        return own
    return F.rms_norm(x, (x.shape[-1],), norm.weight, epsilon)
