"""The settings of a video processor in a checkpoint's files, where transformers looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.jsonl import read_json
from evalkit.types import VideoGeometry

FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
"""In transformers' order; the first has it under ``video_processor``."""
KEYS = {"patch": ("patch_size",), "merge": ("merge_size",), "frames": ("temporal_patch_size",)}
LIMITS = {"min_pixels": ("shortest_edge", "min_pixels"), "max_pixels": ("longest_edge", "max_pixels")}


def read_geometry(folder: Path, released: VideoGeometry) -> VideoGeometry:
    """How the encoder of the checkpoint in ``folder`` cuts frames; what its files do not say is as released."""
    for name in FILES:
        try:
            content = read_json(folder / name, constants=True)
        except (OSError, ValueError):
            continue
        settings = content.get("video_processor") if isinstance(content, Mapping) and name == FILES[0] else content
        if isinstance(settings, Mapping):
            return _geometry(settings, released)
    return released


def _geometry(settings: Mapping[str, Any], released: VideoGeometry) -> VideoGeometry:
    size = settings.get("size")
    limits = {**settings, **(size if isinstance(size, Mapping) else {})}
    found: dict[str, Any] = {name: _first(settings, keys) for name, keys in KEYS.items()}
    found |= {name: _first(limits, keys) for name, keys in LIMITS.items()}
    return replace(released, **{name: value for name, value in found.items() if value is not None})


def _first(settings: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    values = (settings.get(key) for key in keys)
    return next((value for value in values if type(value) is int and value > 0), None)
