"""Qwen-VL and Qwen-VL-Chat (2023), implemented for current transformers.

transformers has no ``qwen`` model, and the checkpoint's own code runs on no recent release.  These classes load the
published checkpoint unchanged, without remote code:

- ``configuration``: ``QwenVLConfig``, the published ``config.json``;
- ``vision``: the ViT and the adapter with 256 queries;  ``rotary``, ``cache``, ``modeling``: the language model;
- ``tokenization``, ``image_processing``, ``processing``: tensors from text and images.

Sources: the report (arXiv 2308.12966), and the names and shapes of the published checkpoint; the tests compare with
outputs of the original code.  Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "QwenVLConfig": "configuration",
    "QwenVLModel": "modeling",
    "QwenVLForConditionalGeneration": "modeling",
    "QwenVLCache": "cache",
    "StopSequences": "stopping",
    "QwenVLTokenizer": "tokenization",
    "QwenVLImageProcessor": "image_processing",
    "QwenVLProcessor": "processing",
}

__all__ = [*_MODULES, "register"]  # pyright: ignore[reportUnsupportedDunderAll]


def register() -> None:
    """Register ``"model_type": "qwen"`` with transformers' Auto classes; further calls have no effect."""
    from .registration import register

    register()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
