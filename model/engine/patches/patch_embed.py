"""Patch embeddings as the matrix products that they are.

The vision encoders of the Qwen2-VL line cut images into patches beforehand, and embed each with a three-dimensional
convolution that covers exactly one patch.  Libraries have no fast way for that: in half precision on CUDA it can take
longer than the rest of the encoder (cuDNN's kernel was lost in torch 2.9), and on a CPU it is slower, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward_override import give, own, take_back


def install(model: nn.Module) -> int:
    """Have each convolution that can be given single patches multiply matrices then; gives how many there are."""
    found = 0
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and own(module) and _plain(module):
            give(module, _forward)
            found += 1
    return found


def uninstall(model: nn.Module) -> None:
    """Take back what ``install`` did."""
    take_back(model, _forward)


def _plain(conv: nn.Conv3d) -> bool:
    unmoved = conv.padding in ("valid", (0, 0, 0)) and conv.dilation == (1, 1, 1)
    return type(conv) is nn.Conv3d and unmoved and conv.groups == 1


def _forward(conv: nn.Conv3d, patches: Tensor) -> Tensor:
    """(patches, channels, *kernel) → (patches, out, 1, 1, 1); of any other shape, as the convolution does it."""
    if patches.ndim != 5 or tuple(patches.shape[2:]) != tuple(conv.kernel_size) or torch.is_grad_enabled():
        return type(conv).forward(conv, patches)
    out: Tensor = F.linear(patches.flatten(1), conv.weight.flatten(1), conv.bias)
    return out[..., None, None, None]
