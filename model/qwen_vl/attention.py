"""Attention by transformers' interface, with an eager version like the original's."""

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
    """Attention in plain operations, with the softmax in the dtype of the inputs, as in the original.

    Args:
        query: (batch, heads, length, head_dim); ``key`` and ``value`` likewise, for the attended positions.
        attention_mask: (batch, 1, length, attended positions), added to the scores.
        scaling: factor of the scores.

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
        module: the attention module; implementations read its attributes.
        implementation: the configured one: ``sdpa`` or ``eager``.
        query: (batch, heads, length, head_dim); ``key`` and ``value`` likewise.
        causal: whether attention is causal if there is no mask.
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
