"""Decoder layers in fewer operations, on a CPU, where their linear layers are packed (``packed_linear``).

transformers computes a layer operation by operation: a decode step of Qwen2.5-VL takes 72 of torch's, views included,
whose calls cost as much as reading the weights of a small model.  Here it takes 40: queries and keys are rotated
together in three operations, and the matrix products add the residuals.

The last layer of a prefill computes keys and values for all tokens, and everything else only for the last token of
each row, whose logits are the only ones that are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import TEXT, grouped_attention
from .forward_override import has_own_forward, override_forward, restore_forward
from .fused import Norm, Rotation, add_mlp, same_output
from .packed_linear import LEAST_ROWS, add_product, gated_weights, multiply, packed_weight
from .packed_qkv import joined_of

CHILDREN = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION_CHILDREN = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}


@dataclass(frozen=True, eq=False)
class _Weights:
    """The packed weights of one layer.

    Attributes:
        norms: before attention, and before the MLP.
        qkv: the joined projections, (outputs, inputs).
        heads: numbers of query heads, and of key heads.
        gated: of the MLP; None if it is of another kind, and is called.
        is_last: whether it is the model's last layer.
    """

    norms: tuple[Norm, Norm]
    qkv: Tensor
    qkv_bias: Tensor | None
    heads: tuple[int, int]
    out: Tensor
    gated: tuple[Tensor, Tensor, Tensor] | None
    rotation: Rotation
    is_last: bool


def install(model: nn.Module) -> int:
    """Replace the forward of decoder layers that have only the usual parts.  Returns how many were replaced."""
    rotation = Rotation()
    count = 0
    checked: dict[type, bool] = {}
    for layers in model.modules():
        if not isinstance(layers, nn.ModuleList) or not all(map(_is_plain, layers)) or not len(layers):
            continue
        for layer in layers:
            weights = _weights(layer, rotation, is_last=layer is layers[-1])
            if weights is None:
                continue
            if type(layer) not in checked:
                checked[type(layer)] = _fits(layer, weights)
            if checked[type(layer)]:
                override_forward(layer, _forward, weights)
                count += 1
    return count


def uninstall(model: nn.Module) -> None:
    """Undo ``install``."""
    restore_forward(model, _forward)


def _is_plain(layer: Any) -> bool:
    """Whether a module looks like a decoder layer: norm, causal attention, norm, MLP; and is not hooked."""
    children = {name for name, _ in layer.named_children()}
    if children != CHILDREN or not has_own_forward(layer) or not has_own_forward(layer.self_attn):
        return False
    attention = layer.self_attn
    parts = {name for name, _ in attention.named_children()}
    return (
        getattr(attention, "is_causal", False) is True
        and parts in (ATTENTION_CHILDREN, ATTENTION_CHILDREN | HEAD_NORMS)
        and getattr(getattr(attention, "config", None), "_attn_implementation", None) == TEXT
        and isinstance(getattr(attention, "head_dim", None), int)
    )


def _weights(layer: Any, rotation: Rotation, *, is_last: bool) -> _Weights | None:
    attention = layer.self_attn
    joined = joined_of(attention)
    out = packed_weight(attention.o_proj)
    if joined is None or out is None:
        return None
    queries, keys, values = joined.sizes
    width = attention.head_dim
    if keys != values or queries % width or keys % width or width % 2:
        return None
    heads = queries // width, keys // width
    norms = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
    return _Weights(norms, joined.packed, joined.bias, heads, out, gated_weights(layer.mlp), rotation, is_last)


def _fits(layer: Any, weights: _Weights) -> bool:
    """Whether both ways give the same output for synthetic input."""
    width, tokens, inputs = layer.self_attn.head_dim, 5, layer.self_attn.q_proj.in_features
    numbers = torch.arange(tokens * inputs, dtype=torch.float32)
    hidden = (numbers * 12.9898).sin().view(1, tokens, inputs)
    angles = torch.arange(tokens)[:, None] * torch.linspace(0.1, 1, width // 2)
    embeddings = (angles.cos().repeat(1, 2)[None], angles.sin().repeat(1, 2)[None])
    return same_output(
        layer,
        lambda: type(layer).forward(layer, hidden, position_embeddings=embeddings),
        lambda: _forward(layer, weights, hidden, position_embeddings=embeddings),
    )


def _forward(
    layer: Any,
    weights: _Weights,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    *,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    past_key_values: Any = None,
    evalkit_last_token: bool = False,
    **kwargs: Any,
) -> Tensor:
    """As the layer's own forward.

    Args:
        evalkit_last_token: whether only the last token of each row is needed.

    Returns:
        (rows, tokens, width), or (rows, 1, width) from the last layer if only the last token is needed.
    """
    attention = layer.self_attn
    if not _takes(attention, hidden_states, position_embeddings):
        out: Tensor = type(layer).forward(
            layer, hidden_states, attention_mask,
            position_embeddings=position_embeddings, past_key_values=past_key_values, **kwargs,
        )  # fmt: skip
        return out
    assert position_embeddings is not None
    weights.rotation.prepare(position_embeddings)
    rows, tokens, _ = hidden_states.shape
    width = attention.head_dim
    of_queries, of_keys = weights.heads
    missing = max(0, LEAST_ROWS - rows * tokens)
    residual = hidden_states.reshape(rows * tokens, -1)
    if missing:
        residual = torch.nn.functional.pad(residual, (0, 0, 0, missing))
    joined = multiply(weights.norms[0](residual), weights.qkv, weights.qkv_bias)[: rows * tokens]
    joined = joined.view(rows, tokens, -1, width)
    rotated = joined[:, :, : of_queries + of_keys]
    if hasattr(attention, "q_norm"):
        query, key = rotated.split((of_queries, of_keys), 2)
        rotated = torch.cat([attention.q_norm(query), attention.k_norm(key)], 2)
    query, key = weights.rotation(rotated).transpose(1, 2).split((of_queries, of_keys), 1)
    value = joined[:, :, of_queries + of_keys :].transpose(1, 2)
    if past_key_values is not None:
        key, value = past_key_values.update(key, value, attention.layer_idx)
    if evalkit_last_token and weights.is_last and tokens > 1:
        query = query[:, :, -1:]
        attention_mask = None if attention_mask is None else attention_mask[:, :, -1:]
        residual, tokens = residual[: rows * tokens].view(rows, tokens, -1)[:, -1], 1
        missing = max(0, LEAST_ROWS - rows)
        residual = torch.nn.functional.pad(residual, (0, 0, 0, missing)) if missing else residual.contiguous()
    kwargs.pop("position_ids", None)
    found, _ = grouped_attention(
        attention, query, key, value, attention_mask, scaling=attention.scaling, **kwargs
    )  # fmt: skip
    found = found.reshape(rows * tokens, -1)
    if missing:
        found = torch.nn.functional.pad(found, (0, 0, 0, missing))
    hidden = add_product(residual, found, weights.out, attention.o_proj.bias)
    normed = weights.norms[1](hidden)
    return add_mlp(hidden, layer.mlp, normed, weights.gated)[: rows * tokens].view(rows, tokens, -1)


def _takes(attention: Any, hidden: Tensor, embeddings: tuple[Tensor, Tensor] | None) -> bool:
    plain = embeddings is not None and embeddings[0].ndim == 3 and embeddings[0].shape[-1] == attention.head_dim
    selected = attention.config._attn_implementation == TEXT
    return plain and selected and hidden.dtype == torch.float32 and not torch.is_grad_enabled()
