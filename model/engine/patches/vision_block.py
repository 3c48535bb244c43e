"""Blocks of vision encoders of the Qwen2-VL line in fewer operations, on a CPU, where their layers are packed.

As in ``decoder_layer``: transformers rotates queries and keys in ten passes over them, here it takes three for both,
and the matrix products add the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import VISION, is_vision_block
from .forward_override import has_own_forward, override_forward, restore_forward
from .fused import Norm, Rotation, add_mlp, same_output
from .packed_attention import packed_attention
from .packed_linear import LEAST_ROWS, add_product, gated_weights, multiply, packed_weight

CHILDREN = {"attn", "mlp", "norm1", "norm2"}
ATTENTION_CHILDREN = {"qkv", "proj"}


@dataclass(frozen=True, eq=False)
class _Weights:
    """The packed weights of one block.

    Attributes:
        norms: before attention, and before the MLP.
        heads: their number.
        gated: of the MLP; None if it is of another kind, and is called.
    """

    norms: tuple[Norm, Norm]
    qkv: Tensor
    heads: int
    out: Tensor
    gated: tuple[Tensor, Tensor, Tensor] | None
    rotation: Rotation


def _is_plain(block: Any) -> bool:
    """Whether a module looks like a block of a vision encoder that gets all images as one packed sequence."""
    if {name for name, _ in block.named_children()} != CHILDREN:
        return False
    attention = block.attn
    return (
        {name for name, _ in attention.named_children()} == ATTENTION_CHILDREN
        and is_vision_block(block)
        and isinstance(getattr(attention, "num_heads", None), int)
    )


def install(model: nn.Module) -> int:
    """Replace the forward of blocks that have only the usual parts.  Returns how many were replaced."""
    rotation = Rotation()
    checked: dict[type, bool] = {}
    count = 0
    for block in model.modules():
        if not _is_plain(block) or not has_own_forward(block) or not has_own_forward(block.attn):
            continue
        weights = _weights(block, rotation)
        if weights is None:
            continue
        if type(block) not in checked:
            checked[type(block)] = _fits(block, weights)
        if checked[type(block)]:
            override_forward(block, _forward, weights)
            count += 1
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``."""
    restore_forward(model, _forward)


def _weights(block: Any, rotation: Rotation) -> _Weights | None:
    attention = block.attn
    qkv, out = packed_weight(attention.qkv), packed_weight(attention.proj)
    width, left = divmod(attention.qkv.out_features, 3 * attention.num_heads)
    if qkv is None or out is None or left or width % 2:
        return None
    norms = Norm(block.norm1), Norm(block.norm2)
    return _Weights(norms, qkv, attention.num_heads, out, gated_weights(block.mlp), rotation)


def _fits(block: Any, weights: _Weights) -> bool:
    """Whether both ways give the same output for synthetic input."""
    tokens, inputs = 12, block.attn.qkv.in_features
    width = block.attn.qkv.out_features // (3 * weights.heads)
    hidden = (torch.arange(tokens * inputs, dtype=torch.float32) * 12.9898).sin().view(tokens, inputs)
    angles = torch.arange(tokens)[:, None] * torch.linspace(0.1, 1, width // 2)
    embeddings = (angles.cos().repeat(1, 2), angles.sin().repeat(1, 2))
    boundaries = torch.tensor([0, 8, tokens], dtype=torch.int32)
    return same_output(
        block,
        lambda: type(block).forward(block, hidden, cu_seqlens=boundaries, position_embeddings=embeddings, max_seqlen=8),
        lambda: _forward(block, weights, hidden, boundaries, embeddings, 8),
    )


def _forward(
    block: Any,
    weights: _Weights,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    max_seqlen: int | Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """As the block's own forward: (tokens, width) to (tokens, width)."""
    attention = block.attn
    tokens = len(hidden_states)
    width = attention.qkv.out_features // (3 * weights.heads)
    if (
        position_embeddings is None
        or position_embeddings[0].shape != (tokens, width)
        or hidden_states.ndim != 2
        or tokens < LEAST_ROWS
        or hidden_states.dtype != torch.float32
        or torch.is_grad_enabled()
        or attention.config._attn_implementation != VISION
    ):
        out: Tensor = type(block).forward(
            block, hidden_states, cu_seqlens=cu_seqlens, position_embeddings=position_embeddings,
            max_seqlen=max_seqlen, **kwargs,
        )  # fmt: skip
        return out
    weights.rotation.prepare(position_embeddings)
    joined = multiply(weights.norms[0](hidden_states), weights.qkv, attention.qkv.bias).view(tokens, -1, width)
    query, key = weights.rotation(joined[:, : 2 * weights.heads]).split(weights.heads, 1)
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in (query, key, joined[:, 2 * weights.heads :]))
    found, _ = packed_attention(
        attention, query, key, value, None,
        cu_seq_lens_q=cu_seqlens, max_length_q=max_seqlen, scaling=attention.scaling,
    )  # fmt: skip
    hidden = add_product(hidden_states, found.reshape(tokens, -1), weights.out, attention.proj.bias)
    return add_mlp(hidden, block.mlp, weights.norms[1](hidden), weights.gated)
