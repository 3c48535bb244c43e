"""The layers of Qwen-7B, named as in the published state dict."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import attend
from .configuration import QwenVLConfig
from .rotary import Rotation, rotate


class QwenVLRMSNorm(nn.Module):
    """Root-mean-square norm: computed in fp32, cast back, then multiplied by the weight."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.epsilon = config.layer_norm_epsilon
        self.weight = nn.Parameter(torch.ones(config.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return wide.to(x.dtype) * self.weight


class QwenVLAttention(nn.Module):
    """Causal self-attention.  ``c_attn`` computes queries, keys and values, in this order."""

    is_causal = True
    num_key_value_groups = 1

    def __init__(self, config: QwenVLConfig, layer_idx: int) -> None:
        super().__init__()
        width = config.kv_channels * config.num_attention_heads
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.kv_channels
        self.c_attn = nn.Linear(config.hidden_size, 3 * width)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=not config.no_bias)

    def forward(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        key_rotation: Rotation,
        query_rotation: Rotation,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(batch, length, hidden) to the same shape, and the attention weights if the implementation returns them.

        Keys are cached after rotation.  LogN scaling is part of the query's rotation, so that cached keys do not depend
        on the position of the query.
        """
        query, key, value = (
            states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for states in self.c_attn(x).chunk(3, dim=-1)
        )
        query = rotate(query, query_rotation)
        key = rotate(key, key_rotation)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        dropout = self.config.attn_dropout_prob if self.training else 0.0
        mixed, weights = attend(
            self,
            self.config._attn_implementation,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            causal=True,
            **kwargs,
        )
        return self.c_proj(mixed), weights


class QwenVLMLP(nn.Module):
    """The gated MLP: ``w2`` is the gate."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        width = config.intermediate_size // 2
        self.w1 = nn.Linear(config.hidden_size, width, bias=not config.no_bias)
        self.w2 = nn.Linear(config.hidden_size, width, bias=not config.no_bias)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=not config.no_bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.w1(x) * functional.silu(self.w2(x)))
        return out


class QwenVLBlock(GradientCheckpointingLayer):
    """A pre-norm block of the language model, (batch, length, hidden) to the same shape."""

    def __init__(self, config: QwenVLConfig, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = QwenVLRMSNorm(config)
        self.attn = QwenVLAttention(config, layer_idx)
        self.ln_2 = QwenVLRMSNorm(config)
        self.mlp = QwenVLMLP(config)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        mixed, _ = self.attn(self.ln_1(x), **kwargs)
        x = x + mixed
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out
