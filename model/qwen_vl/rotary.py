"""Positions in Qwen's attention: rotary embedding with a dynamic NTK factor per row, and LogN scaling of the query.

Everything is computed from the row's positions when it is needed, in fp32: there are no tables that could be too short,
stale, or lost on the meta device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MOST_DOUBLINGS = 20  # of seq_length: 2 thousand million tokens


class Rotation(NamedTuple):
    """Cosine and sine of every position's angles, (batch, 1, length, head_dim / 2), fp32."""

    cos: Tensor
    sin: Tensor

    def scaled(self, by: Tensor) -> Rotation:
        """A rotation that also scales: ``by`` is (batch, 1, length, 1)."""
        return Rotation(self.cos * by, self.sin * by)


def ntk_alpha(lengths: Tensor, seq_length: int) -> Tensor:
    """The NTK factors (batch,), fp32, of prompts of ``lengths`` (batch,) tokens: ``QwenVLConfig.ntk_alpha`` by rows."""
    limits = seq_length * 2 ** torch.arange(MOST_DOUBLINGS, device=lengths.device)
    doublings = (lengths[:, None] > limits).sum(-1)
    return torch.exp2(doublings + 1.0) - 1


def rotation(position_ids: Tensor, alpha: Tensor, *, head_dim: int, base: float) -> Rotation:
    """The rotation at ``position_ids`` (batch, length), with base · α^(d / (d − 2)), α (batch,) being the row's own."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=position_ids.device) / head_dim
    bases = base * alpha.float() ** (head_dim / (head_dim - 2))
    inv_freq = 1.0 / bases[:, None] ** exponents
    angles = (position_ids[:, :, None].float() * inv_freq[:, None, :])[:, None]
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Rotates ``x`` (batch, heads, length, head_dim) half against half (NeoX style), in fp32; the dtype stays."""
    first, second = x.chunk(2, dim=-1)
    turned = (first * by.cos - second * by.sin, second * by.cos + first * by.sin)
    return torch.cat(turned, dim=-1).to(x.dtype)


def logn_scale(position_ids: Tensor, seq_length: int) -> Tensor:
    """What the query at each position is multiplied by, (batch, 1, length, 1), fp32.

    log(i) / log(seq_length) for the i-th token, counted from 1, where i > ``seq_length``, else 1.
    """
    scale = (position_ids + 1.0).log() / math.log(seq_length)
    return scale.clamp(min=1.0)[:, None, :, None]
