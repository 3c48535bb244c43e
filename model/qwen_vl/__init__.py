"""Qwen-VL and Qwen-VL-Chat (2023), native on today's transformers.

transformers has no ``qwen`` model and the checkpoint's own code runs on no recent release.  These classes take the
published checkpoint unchanged, with no remote code:

- ``configuration``: ``QwenVLConfig``, the published ``config.json``;
- ``vision``: the ViT and the adapter of 256 queries;  ``rotary``, ``cache``, ``modeling``: the language model;
- ``tokenization``, ``image_processing``, ``processing``: text and images to tensors.

Source: the report (arXiv 2308.12966) and the published checkpoint's names and shapes; checked against arrays that the
original code computed.  Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "QwenVLConfig": "configuration",
    "QwenVLModel": "modeling",
    "QwenVLForConditionalGeneration": "modeling",
    "QwenVLCache": "cache",
    "StopSequences": "stopping",
    "QwenVLTokenizer": "tokenization",
    "QwenVLImageProcessor": "image_processing",
    "QwenVLProcessor": "processing",
}

__all__ = [*_HOMES, "register"]  # pyright: ignore[reportUnsupportedDunderAll]


def register() -> None:
    """Make transformers' Auto classes know ``"model_type": "qwen"``.  May be called any number of times."""
    from .registration import register

    register()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
