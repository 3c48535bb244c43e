"""Patch embeddings as matrix products.

Vision encoders of the Qwen2-VL line get images as patches, and embed each with a three-dimensional convolution that
covers exactly one patch.  Libraries have no fast kernel for it: in half precision on CUDA it can take longer than the
rest of the encoder (cuDNN's kernel was lost in torch 2.9), and on a CPU it is slower too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import has_own_forward, override_forward, restore_forward


def install(model: nn.Module) -> int:
    """Make plain 3-D convolutions multiply matrices when they are given single patches.  Returns their number."""
    count = 0
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and has_own_forward(module) and _is_plain(module):
            override_forward(module, _forward)
            count += 1
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``."""
    restore_forward(model, _forward)


def _is_plain(conv: nn.Conv3d) -> bool:
    unpadded = conv.padding in ("valid", (0, 0, 0)) and conv.dilation == (1, 1, 1)
    return type(conv) is nn.Conv3d and unpadded and conv.groups == 1


def _forward(conv: nn.Conv3d, patches: Tensor) -> Tensor:
    """(patches, channels, *kernel) → (patches, out, 1, 1, 1); input of any other shape is convolved."""
    if patches.ndim != 5 or tuple(patches.shape[2:]) != tuple(conv.kernel_size) or torch.is_grad_enabled():
        return type(conv).forward(conv, patches)
    out: Tensor = F.linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)
    return out[..., None, None, None]
