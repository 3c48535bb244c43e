"""What the vision encoders of the Qwen2-VL line make of their images' sizes, worked out on the CPU.

Where each patch stands, which belong together, how a table of positions is stretched over an image: transformers works
this out from ``grid_thw`` at the beginning of a forward pass, where the tensor lies.  On a GPU that is hundreds of tiny
operations, many of which wait for the device; and so does the model, when it cuts the result into images.  In its
later versions the encoders take all of it ready-made, too: here it is made, by transformers' own functions, of a
``grid_thw`` that stays on the CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.model.engine.kv_cache import sent

from . import attention
from .forward_override import give, own, take_back

try:
    from transformers import vision_utils
except ImportError:  # an earlier transformers
    vision_utils = None  # type: ignore[assignment]

Made = dict[str, Tensor | int]


def _positions(visual: Any, grid: Tensor) -> Made:
    return {"position_ids": vision_utils.get_vision_position_ids(grid, visual.spatial_merge_size)}


def _segments(visual: Any, grid: Tensor) -> Made:
    found = vision_utils.get_vision_cu_seqlens(grid)
    return {"cu_seqlens": found, "max_seqlen": _longest(found)}


def _windows(visual: Any, grid: Tensor) -> Made:
    index, found = vision_utils.get_vision_window_index(
        grid,
        spatial_merge_size=visual.spatial_merge_size,
        window_size=visual.window_size,
        patch_size=visual.patch_size,
    )
    return {"window_index": index, "cu_window_seqlens": found, "max_window_seqlen": _longest(found)}


def _interpolation(visual: Any, grid: Tensor) -> Made:
    indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=visual.num_grid_per_side,
        mode=visual.interpolation_mode,
        align_corners=visual.interpolation_align_corners,
        spatial_merge_size=visual.config.spatial_merge_size,
    )
    return {"interp_indices": indices, "interp_weights": weights}


def _longest(cumulative: Tensor) -> int:
    return int(cumulative.diff().max())


# By the names of the functions that an encoder's forward calls.
KNOWN: Mapping[str, Callable[[Any, Tensor], Made]] = {
    "get_vision_position_ids": _positions,
    "get_vision_attention_seqlens": _segments,
    "get_vision_window_index": _windows,
    "get_vision_interpolation_indices_and_weights": _interpolation,
}


def install(model: nn.Module) -> int:
    """Have each vision encoder that can take a ``grid_thw`` of the CPU's; gives how many there are."""
    found = 0
    for module in model.modules():
        names = _asked(module)
        if names and own(module):
            give(module, _forward, names)
            found += 1
    return found


def uninstall(model: nn.Module) -> None:
    """Take back what ``install`` did."""
    take_back(model, _forward)


def _asked(module: nn.Module) -> tuple[str, ...]:
    """What a vision encoder works out of its grid; empty where that is not known, or not all of it."""
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    if vision_utils is None or code is None or "grid_thw" not in code.co_varnames:
        return ()
    names = tuple(name for name in code.co_names if name.startswith("get_vision_"))
    used = code.co_varnames[: code.co_argcount].count("grid_thw") == 1 and code.co_flags & inspect.CO_VARKEYWORDS
    return names if used and set(names) <= KNOWN.keys() else ()


def _forward(visual: Any, names: tuple[str, ...], pixels: Tensor, grid_thw: Tensor, **more: Any) -> Any:
    if grid_thw.device.type == "cpu":
        made = {key: value for name in names for key, value in KNOWN[name](visual, grid_thw).items()}
        for key, value in made.items():
            if isinstance(value, Tensor):
                more[key] = sent(value, pixels.device)
                if value.dtype == torch.int32:
                    attention.tell(more[key], value)
            else:
                more[key] = value
    return type(visual).forward(visual, pixels, grid_thw, **more)
