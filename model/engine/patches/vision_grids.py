"""Position tables of vision encoders of the Qwen2-VL line, computed on the CPU.

An encoder derives each patch's position, the boundaries of images and windows, and the interpolation of its position
embedding from ``grid_thw``; transformers does so at the start of the forward pass, on the tensor's device.  On a GPU
these are hundreds of tiny operations, many of which synchronize, and the model synchronizes again when it splits the
result into images.  Later versions of the encoders accept the tables as arguments: here transformers' own functions
compute them from a ``grid_thw`` that stays on the CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.model.engine.transfer import to_device

from .forward_override import has_own_forward, override_forward, restore_forward
from .packed_attention import set_boundaries_on_cpu

try:
    from transformers import vision_utils
except ImportError:  # an earlier transformers
    vision_utils = None  # type: ignore[assignment]

Arguments = dict[str, Tensor | int]


def _positions(visual: Any, grid: Tensor) -> Arguments:
    return {"position_ids": vision_utils.get_vision_position_ids(grid, visual.spatial_merge_size)}


def _segments(visual: Any, grid: Tensor) -> Arguments:
    boundaries = vision_utils.get_vision_cu_seqlens(grid)
    return {"cu_seqlens": boundaries, "max_seqlen": _longest(boundaries)}


def _windows(visual: Any, grid: Tensor) -> Arguments:
    index, boundaries = vision_utils.get_vision_window_index(
        grid,
        spatial_merge_size=visual.spatial_merge_size,
        window_size=visual.window_size,
        patch_size=visual.patch_size,
    )
    return {"window_index": index, "cu_window_seqlens": boundaries, "max_window_seqlen": _longest(boundaries)}


def _interpolation(visual: Any, grid: Tensor) -> Arguments:
    indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=visual.num_grid_per_side,
        mode=visual.interpolation_mode,
        align_corners=visual.interpolation_align_corners,
        spatial_merge_size=visual.config.spatial_merge_size,
    )
    return {"interp_indices": indices, "interp_weights": weights}


def _longest(boundaries: Tensor) -> int:
    return int(boundaries.diff().max())


# By the name of the transformers function that an encoder's forward calls.
TABLES: Mapping[str, Callable[[Any, Tensor], Arguments]] = {
    "get_vision_position_ids": _positions,
    "get_vision_attention_seqlens": _segments,
    "get_vision_window_index": _windows,
    "get_vision_interpolation_indices_and_weights": _interpolation,
}


def install(model: nn.Module) -> int:
    """Make vision encoders accept a ``grid_thw`` on the CPU.  Returns how many do."""
    count = 0
    for module in model.modules():
        names = _table_names(module)
        if names and has_own_forward(module):
            override_forward(module, _forward, names)
            count += 1
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``."""
    restore_forward(model, _forward)


def _table_names(module: nn.Module) -> tuple[str, ...]:
    """The functions that a vision encoder calls with its grid; empty if not all of them are in ``TABLES``."""
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    if vision_utils is None or code is None or "grid_thw" not in code.co_varnames:
        return ()
    names = tuple(name for name in code.co_names if name.startswith("get_vision_"))
    takes = code.co_varnames[: code.co_argcount].count("grid_thw") == 1 and code.co_flags & inspect.CO_VARKEYWORDS
    return names if takes and set(names) <= TABLES.keys() else ()


def _forward(visual: Any, names: tuple[str, ...], pixels: Tensor, grid_thw: Tensor, **arguments: Any) -> Any:
    if grid_thw.device.type == "cpu":
        computed = {key: value for name in names for key, value in TABLES[name](visual, grid_thw).items()}
        for key, value in computed.items():
            if isinstance(value, Tensor):
                arguments[key] = to_device(value, pixels.device)
                if value.dtype == torch.int32:  # segment boundaries
                    set_boundaries_on_cpu(arguments[key], value)
            else:
                arguments[key] = value
    return type(visual).forward(visual, pixels, grid_thw, **arguments)
