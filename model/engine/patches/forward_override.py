"""Overriding the ``forward`` of single modules, and restoring it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn


def override_forward(module: nn.Module, forward: Callable[..., Any], *arguments: Any) -> None:
    """Make a module call ``forward(module, *arguments, input)`` instead of its class's forward."""
    module.forward = partial(forward, module, *arguments)


def has_own_forward(module: Any) -> bool:
    """Whether a module uses its class's forward; otherwise something (such as offloading) has hooked it."""
    return "forward" not in vars(module)


def restore_forward(model: nn.Module, forward: Callable[..., Any]) -> None:
    """Undo ``override_forward`` with this function in all modules of a model."""
    for module in model.modules():
        override: Any = vars(module).get("forward")
        if isinstance(override, partial) and override.func is forward:
            del module.forward
