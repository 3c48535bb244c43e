"""Parts of transformer layers in few operations, on a CPU, for ``decoder_layer`` and ``vision_block``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .packed_linear import add_product, gated_product
from .rms_norm import fused_epsilon

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # relative, of a layer's output


@dataclass(eq=False)
class Rotation:
    """The cosines and sines of a forward pass, in the form in which all layers use them.

    Attributes:
        given: the tensors that transformers passes to each layer.
    """

    given: tuple[Tensor, Tensor] | None = None
    cos: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None

    def prepare(self, position_embeddings: tuple[Tensor, Tensor]) -> None:
        """Take over the tensors of a forward pass, unless it has been done for another layer."""
        if self.given is not None and self.given[0] is position_embeddings[0]:
            return
        cos, sin = (tensor.unsqueeze(-2) for tensor in position_embeddings)  # (…, tokens, 1, width)
        half = cos.shape[-1] // 2
        self.given, self.cos, self.low, self.high = position_embeddings, cos, sin[..., :half], sin[..., half:]

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate (…, tokens, heads, width)."""
        assert self.cos is not None
        assert self.low is not None
        assert self.high is not None
        half = x.shape[-1] // 2
        out = x * self.cos
        out[..., :half].addcmul_(x[..., half:], self.low, value=-1)
        out[..., half:].addcmul_(x[..., :half], self.high)
        return out


class Norm:
    """An RMS norm of which the mean is taken in one operation; torch's own takes six on a CPU.

    Args:
        norm: a module that ``rms_norm`` has fused; any other one is called.
    """

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.scaled: Tensor | None = None
        epsilon = fused_epsilon(norm)
        if epsilon is not None:
            count = norm.weight.shape[0]
            self.scaled = norm.weight.detach() * count**0.5
            self.least = torch.tensor((count * epsilon) ** 0.5)

    def __call__(self, x: Tensor) -> Tensor:
        if self.scaled is None:
            found: Tensor = self.norm(x)
            return found
        # sqrt(sum of squares + count × epsilon)
        length = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least)
        return (x * self.scaled).div_(length)


def add_mlp(to: Tensor, mlp: Any, x: Tensor, gated: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
    """``to + mlp(x)`` for (rows, width).

    Args:
        gated: the packed weights of a gated MLP; None for one of another kind.
    """
    if gated is None:
        # A mixture of experts takes (batch, tokens, width).
        out: Tensor = to + mlp(x[None])[0]
        return out
    gate, up, down = gated
    return add_product(to, gated_product(mlp, gate, up, x), down, mlp.down_proj.bias)


def same_output(module: Any, own: Callable[[], Any], fused: Callable[[], Tensor]) -> bool:
    """Whether a module's own forward and the one that is to replace it give the same for synthetic input.

    False if either raises an error: other versions of transformers pass other arguments.
    """
    try:
        with torch.no_grad():
            expected, found = own(), fused()
    except Exception as error:
        log.info("%s keeps its own forward: %s: %s", type(module).__name__, type(error).__name__, error)
        return False
    if not isinstance(expected, Tensor) or expected.shape != found.shape:
        return False
    return bool((expected - found).norm() <= TOLERANCE * expected.norm())
