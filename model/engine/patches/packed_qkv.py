"""The query, key and value projections of attention as one product with packed weights (``packed_linear``).

With grouped queries, those of keys and values are so narrow that calling them takes longer than multiplying.  All
three have the same input: whichever is called first computes the others' outputs, too, which wait for their calls.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import override_forward, restore_forward
from .packed_linear import MIN_NUMBERS, can_pack, free_weight, pack_weight, product

NAMES = ("q_proj", "k_proj", "v_proj")


@dataclass(eq=False)
class Joined:
    """The joined projections of one attention module.

    Attributes:
        sizes: numbers of outputs.
        given: the input of the latest product whose outputs have not all been taken.
        waiting: those outputs, by the number of their projection.
    """

    packed: Tensor
    bias: Tensor | None
    sizes: tuple[int, ...]
    given: Tensor | None = None
    waiting: dict[int, Tensor] = field(default_factory=dict)

    def output(self, number: int, x: Tensor) -> Tensor:
        """The output of projection ``number`` for ``x``."""
        if self.given is not x or number not in self.waiting:
            parts = product(x, self.packed, self.bias).split(self.sizes, -1)
            self.given, self.waiting = x, dict(enumerate(parts))
        found = self.waiting.pop(number)
        if not self.waiting:
            self.given = None
        return found

    def weights(self) -> tuple[Tensor, ...]:
        """The weights of the projections."""
        return self.packed.to_dense().split(self.sizes)


def install(model: nn.Module) -> int:
    """Join the projections of a model's causal attention modules.  Returns how many layers were packed."""
    users = Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))
    count = 0
    for module in model.modules():
        layers: list[Any] = [getattr(module, name, None) for name in NAMES]
        if _can_join(module, layers) and all(users[id(layer.weight)] == 1 for layer in layers):
            try:
                _join(layers)
            except (AttributeError, RuntimeError):  # as packed_linear says
                break
            count += len(layers)
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``; the weights are the same bits as before."""
    for module in model.modules():
        layers: list[Any] = [getattr(module, name, None) for name in NAMES]
        if (joined := joined_of(module)) is not None:
            for layer, weight in zip(layers, joined.weights(), strict=True):
                layer.weight.data = weight.clone()  # of its own: saving refuses weights that share memory
    restore_forward(model, _forward)


def joined_of(module: Any) -> Joined | None:
    """The joined projections of an attention module, if they are joined."""
    layer: Any = getattr(module, NAMES[0], None)
    override: Any = vars(layer).get("forward") if isinstance(layer, nn.Module) else None
    return override.args[1] if getattr(override, "func", None) is _forward else None


def _can_join(module: Any, layers: list[Any]) -> bool:
    """Whether a module applies three plain linear layers to the same input, judged by its being causal attention."""
    if getattr(module, "is_causal", False) is not True or not all(can_pack(layer, least=1) for layer in layers):
        return False
    same_input = (
        len({layer.in_features for layer in layers}) == 1 and len({layer.bias is None for layer in layers}) == 1
    )
    return same_input and sum(layer.weight.numel() for layer in layers) >= MIN_NUMBERS


def _join(layers: list[Any]) -> None:
    with torch.no_grad():
        weight = torch.cat([layer.weight for layer in layers])
        bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    joined = Joined(pack_weight(weight, bias), bias, tuple(layer.out_features for layer in layers))
    for number, layer in enumerate(layers):
        override_forward(layer, _forward, joined, number)
        free_weight(layer)


def _forward(linear: nn.Linear, joined: Joined, number: int, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or torch.is_grad_enabled():
        return F.linear(x, joined.weights()[number].to(x.dtype), linear.bias)
    return joined.output(number, x)
