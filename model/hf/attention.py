"""The attention that a checkpoint's configuration asks for, and whether it can be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

KEYS = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal")
OF_TORCH = ("sdpa", "eager")


def requested_attention(config: Mapping[str, Any]) -> str | None:
    """The attention that a configuration, or a part of it, names, if it is not torch's own."""
    return next((name for name in _named(config) if name not in OF_TORCH), None)


def without_attention(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with transformers' choice of the attention."""
    return {
        key: without_attention(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in KEYS
    }


def unusable(name: str, device: torch.device, dtype: torch.dtype | str) -> str | None:
    """Why an attention cannot be used, as far as that is known before loading: flash attention's kernels fail later.

    Args:
        dtype: ``auto`` is the checkpoint's.
    """
    if "flash" not in name:
        return None
    if device.type != "cuda":
        return "it needs a CUDA GPU"
    return "it needs --dtype bfloat16 or float16" if dtype == torch.float32 else None


def _named(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if key in KEYS:
            yield from (str(name) for name in (value.values() if isinstance(value, Mapping) else [value]) if name)
        elif isinstance(value, Mapping):
            yield from _named(value)
