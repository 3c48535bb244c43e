"""Decoder layers in fewer operations: the same outputs up to rounding, the same weights afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model, Qwen3MoeConfig
from transformers.cache_utils import DynamicCache
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeModel

from evalkit.model.engine.options import EngineOptions
from evalkit.model.engine.patches import decoder_layer, packed_linear, packed_qkv, patched
from evalkit.model.engine.patches.attention import TEXT

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 384, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaModel(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2Model(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3Model(Qwen3Config(head_dim=64, **SIZES)),
    "mixture of experts": lambda: Qwen3MoeModel(
        Qwen3MoeConfig(head_dim=64, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, **SIZES)
    ),
}


class Wrapped(nn.Module):
    """A model of which the engine's patches find the parts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def make(name: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def steps(model: Any, rows: int) -> list[Tensor]:
    """The last token's states after a padded prompt, and after two tokens more."""
    numbers = torch.arange(rows * 7).view(rows, 7) % 61
    mask = torch.ones(rows, 7, dtype=torch.long)
    mask[0, :3] = 0
    cache = DynamicCache()
    found = []
    with torch.inference_mode():
        for ids in (numbers, numbers[:, :1], numbers[:, 3:4]):
            mask = mask if cache.get_seq_length() == 0 else torch.cat([mask, mask[:, -1:]], 1)
            out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            found.append(out.last_hidden_state[:, -1])
    return found


@pytest.mark.parametrize("rows", [1, 3, 6])
@pytest.mark.parametrize("name", list(MODELS))
def test_outputs_change_by_rounding_only(name: str, rows: int) -> None:
    model = make(name)
    expected = steps(model, rows)
    with patched(Wrapped(model), EngineOptions()) as patches:
        assert patches.decoder_layers == 3
        found = steps(model, rows)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) < 1e-5
    assert all(torch.equal(one, other) for one, other in zip(steps(model, rows), expected, strict=True))


@pytest.mark.parametrize("name", list(MODELS))
def test_last_layer_computes_only_the_last_token(name: str) -> None:
    model = make(name)
    hidden = torch.randn(2, 9, 384)
    with patched(Wrapped(model), EngineOptions()), torch.inference_mode():
        caches = DynamicCache(), DynamicCache()
        expected = model(inputs_embeds=hidden, past_key_values=caches[0], use_cache=True).last_hidden_state
        found = model(
            inputs_embeds=hidden, past_key_values=caches[1], use_cache=True, evalkit_last_token=True
        ).last_hidden_state  # fmt: skip
    assert found.shape == (2, 1, 384)
    assert torch.allclose(found[:, 0], expected[:, -1], atol=1e-5)
    for one, other in zip(caches[0].layers, caches[1].layers, strict=True):
        assert torch.equal(one.keys, other.keys)  # of all tokens
        assert torch.equal(one.values, other.values)


def test_gradients_are_those_of_the_own_forward() -> None:
    """oneDNN's products have none."""
    model = make("qwen2")
    hidden = torch.randn(1, 6, 384, requires_grad=True)
    (expected,) = torch.autograd.grad(model(inputs_embeds=hidden).last_hidden_state.sum(), hidden)
    with patched(Wrapped(model), EngineOptions()):
        (found,) = torch.autograd.grad(model(inputs_embeds=hidden).last_hidden_state.sum(), hidden)
    assert torch.allclose(found, expected, atol=1e-4)


class Other(Qwen2DecoderLayer):
    """Of a version of transformers whose layers take something else."""

    def forward(self, hidden_states: Tensor, *, angles: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        return hidden_states * angles


class Scaled(nn.Module):
    """Looks like a decoder layer, but scales its residual."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.input_layernorm, self.post_attention_layernorm = layer.input_layernorm, layer.post_attention_layernorm

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        found, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), attention_mask=None, **kwargs)
        hidden_states = 0.5 * hidden_states + found
        out: Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return out


@pytest.mark.parametrize("case", ["scaled", "other arguments", "hooked", "other attention", "not packed"])
def test_others_are_left_alone(case: str) -> None:
    model = make("qwen2")
    for config in {
        id(module.config): module.config for module in model.modules() if hasattr(module, "config")
    }.values():
        config._attn_implementation = "sdpa" if case == "other attention" else TEXT
    if case == "scaled":
        model.layers = nn.ModuleList([Scaled(layer) for layer in model.layers])
    if case == "other arguments":
        for layer in model.layers:
            layer.__class__ = Other
    if case == "hooked":
        for layer in model.layers:
            layer.forward = layer.forward  # as offloading does
    if case != "not packed":
        packed_qkv.install(model)
        packed_linear.install(model)
    assert decoder_layer.install(model) == 0
