"""Qwen-VL's vision encoder: the ViT (OpenCLIP bigG without class token) and the adapter with 256 queries.

It maps images (images, 3, side, side) to visual tokens (images, n_queries, output_dim) for the language model.  Modules
are named as in the published state dict.  Patches and queries are in row-major order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import attend
from .configuration import QwenVLConfig

NORM_EPSILON = 1e-6  # of all norms here; config.layer_norm_epsilon is the language model's
TABLE = 256  # entries of the ViT's positional table: a grid of 16 × 16, resampled to the patches' grid
ADAPTER_HEAD = 128  # channels of an attention head of the adapter


def resample(table: Tensor, side: int) -> Tensor:
    """A square grid of vectors, (old², width), resampled to (side², width): bicubic, in fp32, without antialiasing."""
    old = math.isqrt(table.shape[0])
    if old == side:
        return table
    grid = table.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


def sincos_2d(width: int, side: int) -> Tensor:
    """Sine-cosine positions of a square grid, (side², width), fp32.

    The first half of the channels encodes the column, the second the row; each half is sines, then cosines.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    column = axis[None].expand(side, side, -1)
    row = axis[:, None].expand(side, side, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1).float()


class QwenVLVisionAttention(nn.Module):
    """Self-attention among patches.  ``in_proj`` computes query, key and value of each head in turn."""

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = config.vision.heads
        self.in_proj = nn.Linear(config.vision.width, 3 * config.vision.width)
        self.out_proj = nn.Linear(config.vision.width, config.vision.width)

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, (images, heads, patches, head_dim) each."""
        packed: Tensor = self.in_proj(x)
        query, key, value = packed.unflatten(-1, (self.heads, 3, -1)).transpose(1, 2).unbind(-2)
        return query, key, value

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = attend(self, self.config._attn_implementation, *self.heads_of(x))
        out: Tensor = self.out_proj(mixed)
        return out


class QwenVLVisionMLP(nn.Module):
    """Two layers with the exact (erf) GELU between them."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.vision.width, config.vision.mlp_width)
        self.c_proj = nn.Linear(config.vision.mlp_width, config.vision.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(functional.gelu(self.c_fc(x)))
        return out


class QwenVLVisionBlock(GradientCheckpointingLayer):
    """A pre-norm block of the ViT, (images, patches, width) to the same shape."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.vision.width, eps=NORM_EPSILON)
        self.attn = QwenVLVisionAttention(config)
        self.ln_2 = nn.LayerNorm(config.vision.width, eps=NORM_EPSILON)
        self.mlp = QwenVLVisionMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class QwenVLVisionBlocks(nn.Module):
    """The stack of blocks, named as in the state dict."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(QwenVLVisionBlock(config) for _ in range(config.vision.layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class QwenVLCrossAttention(nn.Module):
    """Multi-head attention with torch's names and layout: ``in_proj_weight`` is that of q, k and v, in this order."""

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        width = config.vision.output_dim
        self.config = config
        self.heads = width // ADAPTER_HEAD
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of ``query`` (1, n_queries, width) to ``key`` and ``value`` (images, patches, width)."""
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            functional.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mixed, _ = attend(self, self.config._attn_implementation, q.expand(k.shape[0], -1, -1, -1), k, v)
        out: Tensor = self.out_proj(mixed)
        return out


class QwenVLAdapter(nn.Module):
    """The position-aware adapter: learned queries attend once to the patches.

    Positions are added to queries and keys, not to values; those of the keys are the queries' table (sine-cosine,
    frozen, stored in the checkpoint) resampled to the patches' grid.
    """

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        shape = config.vision
        self.query = nn.Parameter(torch.empty(shape.n_queries, shape.output_dim))
        self.pos_embed = nn.Parameter(torch.empty(shape.n_queries, shape.output_dim), requires_grad=False)
        self.kv_proj = nn.Linear(shape.width, shape.output_dim, bias=False)
        self.attn = QwenVLCrossAttention(config)
        self.ln_q = nn.LayerNorm(shape.output_dim, eps=NORM_EPSILON)
        self.ln_kv = nn.LayerNorm(shape.output_dim, eps=NORM_EPSILON)

    def forward(self, patches: Tensor) -> Tensor:
        """(images, patches, width) to (images, n_queries, output_dim)."""
        x = self.ln_kv(self.kv_proj(patches))
        positions = self.pos_embed.detach()  # loading a checkpoint sets requires_grad again
        query = self.ln_q(self.query) + positions
        key = x + resample(positions, math.isqrt(x.shape[1]))
        out: Tensor = self.attn(query[None], key, x)
        return out


class QwenVLVisionTransformer(nn.Module):
    """Images to tokens: ViT, adapter, norm and projection."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        shape = config.vision
        self.side = shape.image_size
        self.conv1 = nn.Conv2d(3, shape.width, kernel_size=shape.patch_size, stride=shape.patch_size, bias=False)
        self.positional_embedding = nn.Parameter(torch.empty(TABLE, shape.width))
        self.ln_pre = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.transformer = QwenVLVisionBlocks(config)
        self.attn_pool = QwenVLAdapter(config)
        self.ln_post = nn.LayerNorm(shape.output_dim, eps=NORM_EPSILON)
        self.proj = nn.Parameter(torch.empty(shape.output_dim, shape.output_dim))

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        """(images, 3, side, side), normalised, to (images, n_queries, output_dim).

        Raises:
            ValueError: images of another size.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"pixel_values has the shape {tuple(pixel_values.shape)}; (images, 3, {self.side}, {self.side}) is "
                "expected, as Qwen-VL's image processor gives it."
            )
        x = self.conv1(pixel_values.to(self.conv1.weight.dtype))
        x = x.flatten(2).transpose(1, 2) + resample(self.positional_embedding, x.shape[-1])
        x = self.transformer(self.ln_pre(x))
        out: Tensor = self.ln_post(self.attn_pool(x)) @ self.proj
        return out
