"""Data types of weights: those of ``--dtype``, and of quantised checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_dtype(wanted: str, device: torch.device) -> Any:
    """The torch dtype; ``auto`` is the checkpoint's on a GPU, and float32 on a CPU (half is ten times slower)."""
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if wanted not in DTYPES:
        raise UserError(f"--dtype {wanted}: unknown; use auto, {', '.join(DTYPES)}.")
    return DTYPES[wanted]


def quantised(checkpoint: Checkpoint) -> bool:
    """Whether the weights are quantised: transformers then places them, and ``auto`` is their dtype."""
    return bool(checkpoint.config.get("quantization_config"))


def dtype_for(checkpoint: Checkpoint, wanted: str, device: torch.device) -> Any:
    """The ``dtype`` argument of ``from_pretrained``."""
    return "auto" if wanted == "auto" and quantised(checkpoint) else pick_dtype(wanted, device)


def dtype_in_effect(checkpoint: Checkpoint, wanted: str, device: torch.device) -> str:
    """The name of the dtype that a checkpoint runs in, from its config, without loading it."""
    kind = dtype_for(checkpoint, wanted, device)
    if kind != "auto":
        return str(kind).removeprefix("torch.")
    config = checkpoint.config
    parts = [config, config.get("text_config")]
    found = (p.get(key) for p in parts if isinstance(p, Mapping) for key in ("dtype", "torch_dtype"))
    return next((str(name).removeprefix("torch.") for name in found if name is not None), "auto")


def quantization(checkpoint: Checkpoint) -> str | None:
    """The quantization method in ``config.json``; None if the weights are not quantised."""
    if not quantised(checkpoint):
        return None
    found = checkpoint.config["quantization_config"]
    return str(found.get("quant_method", "unnamed")) if isinstance(found, Mapping) else "unnamed"
