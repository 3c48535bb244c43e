"""Names of layers in adapters that an earlier transformers wrote.

Names changed with transformers 4.52 (``model.layers`` became ``model.language_model.layers``, ``visual`` became
``model.visual``).  transformers converts those of checkpoints when it loads them; here they are converted for adapters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

PREFIX = "base_model.model."
"""peft's, of every tensor's name in an adapter's file."""
PATTERNS = ("rank_pattern", "alpha_pattern")
LISTS = ("target_modules", "exclude_modules", "modules_to_save")


def rename_layers(model: Any, config: Mapping[str, Any], weights: Path) -> tuple[bytes, bytes] | None:
    """The contents of an adapter's two files with the names of layers in ``model``; None if nothing is to be renamed.

    Raises:
        OSError, ValueError, RuntimeError: the file of tensors cannot be read.
    """
    names = LayerNames(model)
    read = load_file if weights.suffix == ".safetensors" else _unpickled
    tensors: Mapping[str, torch.Tensor] = read(weights)
    renamed = {PREFIX + names.current(name.removeprefix(PREFIX)): tensor for name, tensor in tensors.items()}
    if all(not name.startswith(PREFIX) for name in tensors) or renamed.keys() == tensors.keys():
        return None
    layers = sorted({name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in renamed if ".lora_" in name})
    changed = _renamed_config(config, names.current, [re.sub(r"\.lora_[^.]*$", "", layer) for layer in layers])
    return json.dumps(changed).encode(), save({name: tensor.contiguous() for name, tensor in renamed.items()})


class LayerNames:
    """Converts names of modules, and of tensors in them, to those of ``model``."""

    def __init__(self, model: Any) -> None:
        self.modules = {name for name, _ in model.named_modules()}
        self._convert = _conversion(model)

    def current(self, name: str) -> str:
        """The name, converted if that gives the name of a module, and the name itself does not.

        The longest part that names a module decides: ``model.layers.0.mlp.up_proj`` in
        ``model.layers.0.mlp.up_proj.lora_A.weight``.
        """
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            module = ".".join(parts[:count])
            if module in self.modules:
                return name
            converted = self._convert(module)
            if converted in self.modules:
                return ".".join([converted, *parts[count:]])
        return name


def _conversion(model: Any) -> Callable[[str], str]:
    """What transformers does to the name of a module in a checkpoint of ``model``."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    renamings = [entry for entry in get_model_conversion_mapping(model) if isinstance(entry, WeightRenaming)]

    def convert(module: str) -> str:
        found, _ = rename_source_key(f"{module}.weight", renamings, [])
        return str(found).removesuffix(".weight")

    return convert


def _renamed_config(config: Mapping[str, Any], current: Callable[[str], str], layers: list[str]) -> Mapping[str, Any]:
    """The adapter's configuration with converted names; ``layers`` are those that have tensors."""
    changed = dict(config)
    for key in LISTS:
        if isinstance(config.get(key), list):
            changed[key] = [current(name) for name in config[key]]
    if isinstance(config.get("target_modules"), str) and config["target_modules"] != "all-linear":
        # An expression for the old names; it may match other layers now.
        changed |= {"target_modules": layers, "exclude_modules": None, "layers_to_transform": None}
    for key in PATTERNS:
        if isinstance(config.get(key), Mapping):
            changed[key] = {_current_pattern(name, current): value for name, value in config[key].items()}
    return changed


def _current_pattern(pattern: str, current: Callable[[str], str]) -> str:
    """A key of ``rank_pattern``: a name or an expression for names."""
    start, name = ("^", pattern[1:]) if pattern.startswith("^") else ("", pattern)
    return start + current(name.replace("\\.", "."))


def _unpickled(path: Path) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found
