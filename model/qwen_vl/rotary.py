"""Positions in Qwen's attention: rotary embedding with an NTK factor per row, and LogN scaling of queries.

All of it is computed from the positions when needed, in fp32; there are no tables, which could be too short, outdated,
or lost on the meta device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MAX_DOUBLINGS = 20  # of seq_length: 2 billion tokens


class Rotation(NamedTuple):
    """Cosines and sines of the angles of all positions, (batch, 1, length, head_dim / 2), fp32."""

    cos: Tensor
    sin: Tensor

    def scaled(self, by: Tensor) -> Rotation:
        """The rotation with a scale per position, (batch, 1, length, 1)."""
        return Rotation(self.cos * by, self.sin * by)


def ntk_alpha(lengths: Tensor, seq_length: int) -> Tensor:
    """``QwenVLConfig.ntk_alpha`` of prompts of ``lengths`` (batch,) tokens: (batch,), fp32."""
    limits = seq_length * 2 ** torch.arange(MAX_DOUBLINGS, device=lengths.device)
    doublings = (lengths[:, None] > limits).sum(-1)
    return torch.exp2(doublings + 1.0) - 1


def rotation(position_ids: Tensor, alpha: Tensor, *, head_dim: int, base: float) -> Rotation:
    """The rotation at ``position_ids`` (batch, length), with base · α^(d / (d − 2)); α (batch,) are the NTK factors."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=position_ids.device) / head_dim
    bases = base * alpha.float() ** (head_dim / (head_dim - 2))
    inv_freq = 1.0 / bases[:, None] ** exponents
    angles = (position_ids[:, :, None].float() * inv_freq[:, None, :])[:, None]
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """``x`` (batch, heads, length, head_dim) rotated in NeoX style, computed in fp32, in its own dtype."""
    first, second = x.chunk(2, dim=-1)
    rotated = (first * by.cos - second * by.sin, second * by.cos + first * by.sin)
    return torch.cat(rotated, dim=-1).to(x.dtype)


def logn_scale(position_ids: Tensor, seq_length: int) -> Tensor:
    """The LogN factor of the query at each position, (batch, 1, length, 1), fp32.

    log(i) / log(seq_length) for the i-th token, counted from 1, if i > ``seq_length``, else 1.
    """
    scale = (position_ids + 1.0).log() / math.log(seq_length)
    return scale.clamp(min=1.0)[:, None, :, None]
