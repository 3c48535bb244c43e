"""Which attention is computed: transformers' interface, with Qwen-VL's own eager version."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, its softmax in the computing dtype, as the original has it.

    Args:
        query: (batch, heads, length, head_dim); ``key`` and ``value`` likewise, of the length attended to.
        attention_mask: (batch, 1, length, length attended to), added to the scores.
        scaling: what the scores are multiplied by.

    Returns:
        (batch, length, heads, head_dim), and the weights.
    """
    weights = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.dropout(torch.softmax(weights, dim=-1), p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def attend(
    module: nn.Module,
    implementation: str | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    causal: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention by the configured implementation, scaled by 1/√head_dim: (batch, length, heads · head_dim), weights.

    Args:
        module: whose attention it is (implementations read its attributes).
        implementation: the name in the configuration: ``sdpa``, ``eager``.
        query: (batch, heads, length, head_dim); ``key`` and ``value`` likewise.
        causal: whether a missing mask means a causal one.
    """
    interface = ALL_ATTENTION_FUNCTIONS.get_interface(implementation or "eager", eager)
    out, weights = interface(
        module,
        query,
        key,
        value,
        attention_mask,
        scaling=query.shape[-1] ** -0.5,
        dropout=dropout,
        is_causal=causal,
        **kwargs,
    )
    return out.flatten(2), weights
