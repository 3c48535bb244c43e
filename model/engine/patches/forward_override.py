"""Modules that compute the same in another way for as long as the engine has the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn


def give(module: nn.Module, forward: Callable[..., Any], *more: Any) -> None:
    """Have a module call ``forward(module, *more, input)`` instead of its own."""
    module.forward = partial(forward, module, *more)


def own(module: Any) -> bool:
    """Whether a module has its class's forward; another is somebody's hook (offloading, say), which is left alone."""
    return "forward" not in vars(module)


def take_back(model: nn.Module, forward: Callable[..., Any]) -> None:
    """Undo ``give`` of this function in all of a model's modules."""
    for module in model.modules():
        mine: Any = vars(module).get("forward")
        if isinstance(mine, partial) and mine.func is forward:
            del module.forward
