"""Packed and grouped attention: transformers' results, in fewer calls and without copies."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from evalkit.model.engine.patches import attention
from evalkit.model.engine.patches.attention import grouped_attention, install_text, install_vision, uninstall
from evalkit.model.engine.patches.packed_attention import Segments, packed_attention, varlen_kernel

TEXT = {
    "vocab_size": 200, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
QWEN2 = {"text_config": {**TEXT, "rope_parameters": ROPE, "head_dim": 8}}
QWEN3 = {"text_config": {**TEXT, "rope_parameters": {**ROPE, "mrope_section": [4, 2, 2]}, "head_dim": 16}}
VISION3 = {
    "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14, "out_hidden_size": 64,
    "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {**QWEN2, "vision_config": {"depth": 3, "embed_dim": 32, "num_heads": 2, "hidden_size": 64}},
    "qwen2_5_vl": {
        **QWEN2,
        "vision_config": {
            "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
            "window_size": 112, "fullatt_block_indexes": [1],
        },
    },
    "qwen3_vl": {**QWEN3, "vision_config": VISION3},
    "qwen3_vl_moe": {
        "text_config": {
            **QWEN3["text_config"], "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        },
        "vision_config": VISION3,
    },
}  # fmt: skip
# Grids (time, height, width) of images, no two alike but the last.
GRIDS = torch.tensor([[1, 6, 4], [1, 18, 10], [1, 2, 30], [1, 14, 22], [1, 14, 22]])


class Calls(TorchFunctionMode):
    """Counts calls of torch's functions, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.keys: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.count[name] += 1
        if name == "scaled_dot_product_attention":
            self.keys.append(args[1])
        return func(*args, **(kwargs or {}))


def build(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**CONFIGS[name], **more})
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
    for parameter in model.parameters():  # some begin as zeros or ones, which would hide a mistake
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def implementations(model: Any) -> list[str]:
    return [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")]


# ------------------------------------------------------------------------------------------------------------- vision


def encode(model: Any) -> list[Tensor]:
    pixels = torch.randn(int(GRIDS.prod(-1).sum()), 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        out = model.model.visual(pixels, GRIDS)
    return [out.last_hidden_state, out.pooler_output, *(getattr(out, "deepstack_features", None) or [])]


@pytest.mark.parametrize("name", CONFIGS)
def test_encoder_outputs_are_unchanged(name: str) -> None:
    model = build(name)
    before = implementations(model)
    with Calls() as old:
        expected = encode(model)
    assert len(expected) == (4 if name.startswith("qwen3") else 2)
    assert install_vision(model)
    assert install_vision(model), "twice does no harm"
    assert model.model.language_model.config._attn_implementation == "sdpa"
    with Calls() as new:
        found = encode(model)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    name_of_it = "scaled_dot_product_attention"
    assert new.count[name_of_it] < old.count[name_of_it]
    assert new.count["tolist"] < old.count["tolist"], "lengths are worked out once, not in every layer"
    uninstall(model)
    assert implementations(model) == before


def test_windows_share_calls() -> None:
    model = build("qwen2_5_vl")
    install_vision(model)
    with Calls() as calls:
        encode(model)
    # Images in one layer; in two, windows: of nine lengths, gathered, as there are few tokens to move.
    assert calls.count["scaled_dot_product_attention"] <= 5 + 2 * 9


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([5], ((1, 5),)),
        ([4, 4, 4], ((3, 4),)),
        ([4, 0, 4, 7], ((2, 4), (1, 7))),
        ([8, 3, 8, 3, 8, 3] * 9, ((27, 3), (27, 8))),
        ([700, 300, 700, 300], ((1, 700), (1, 300), (1, 700), (1, 300))),
    ],
    ids=["one", "equal", "an empty one", "many short ones", "few long ones"],
)
def test_segments(lengths: list[int], batches: tuple[tuple[int, int], ...]) -> None:
    where = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
    fused = torch.randn(sum(lengths), 3, 4, 16, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.transpose(0, 1)[None] for part in fused.unbind(1))  # views, as the encoders make them
    found, _ = packed_attention(torch.nn.Identity(), q, k, v, None, cu_seq_lens_q=where, scaling=0.3)
    cut = zip(*(part.split(lengths, 2) for part in (q, k, v)), strict=True)
    expected = torch.cat([F.scaled_dot_product_attention(*part, scale=0.3) for part in cut], 2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    segments = Segments.of(where, q[0].transpose(0, 1))
    assert segments.batches == batches
    assert segments.longest == max(lengths)
    kept = weakref.ref(segments)
    del segments, where
    assert kept() is None, "nothing outlives the forward pass"


def test_mask_is_rejected() -> None:
    part = torch.zeros(1, 1, 2, 8)
    with pytest.raises(ValueError, match="mask"):
        packed_attention(torch.nn.Identity(), part, part, part, part, cu_seq_lens_q=torch.tensor([0, 2]))


def llava() -> Any:
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 56, "patch_size": 14}  # fmt: skip
    config = AutoConfig.for_model("llava", text_config={"model_type": "llama", **TEXT}, vision_config=vision)
    return AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()


def test_other_models_are_unchanged() -> None:
    model = llava()
    assert not install_vision(model), "its encoder packs nothing"
    assert set(implementations(model)) == {"sdpa"}
    eager = build("qwen2_5_vl")
    eager.set_attn_implementation("eager")
    assert not install_vision(eager)
    assert not install_text(eager)
    assert set(implementations(eager)) == {"eager"}, "whoever chose it had a reason"


def test_varlen_kernel_needs_gpu() -> None:
    assert varlen_kernel(torch.device("cpu"), torch.float32, 64) is None
    assert varlen_kernel(torch.device("cpu"), torch.bfloat16, 60) is None
    assert varlen_kernel(torch.device("meta"), torch.bfloat16, 64) is None, "whatever goes wrong"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("width", [64, 72, 80])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_on_gpu(width: int, dtype: torch.dtype) -> None:
    lengths = [64, 48] * 20 + [16, 12, 1564]
    where = torch.tensor([0, *lengths], device="cuda").cumsum(0, dtype=torch.int32)
    q, k, v = torch.randn(3, 1, sum(lengths), 4, width, device="cuda", dtype=dtype).transpose(2, 3).unbind(0)
    found, _ = packed_attention(torch.nn.Identity(), q, k, v, None, cu_seq_lens_q=where)
    cut = zip(*(part.split(lengths, 2) for part in (q, k, v)), strict=True)
    expected = torch.cat([F.scaled_dot_product_attention(*part) for part in cut], 2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


# --------------------------------------------------------------------------------------------------------------- text


class Attending(torch.nn.Module):
    """As much of an attention module as the functions look at."""

    is_causal = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups


Masks = Callable[[int, int, int], Tensor | None]
MASKS: dict[str, Masks] = {
    "none": lambda rows, q, kv: None,
    "boolean": lambda rows, q, kv: torch.arange(kv) <= torch.arange(kv - q, kv)[:, None] + torch.zeros(rows, 1, 1, 1),
    "padded": lambda rows, q, kv: (torch.arange(kv) >= torch.arange(rows)[:, None])[:, None, None].expand(-1, 1, q, -1),
    "one row's": lambda rows, q, kv: (torch.arange(kv) >= 2)[None, None, None],
    "added": lambda rows, q, kv: torch.randn(rows, 1, q, kv),
    "of each head": lambda rows, q, kv: torch.randn(rows, 8, q, kv),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 40), (7, 40), (40, 40), (70, 90)])
@pytest.mark.parametrize("kv_heads", [1, 2, 8])
def test_grouped_attention_equals_sdpa(mask: str, q_len: int, kv_len: int, kv_heads: int) -> None:
    torch.manual_seed(0)
    rows, heads, width = 3, 8, 16
    store = torch.randn(2, rows + 2, kv_heads, kv_len + 9, width)
    key, value = store[:, :rows, :, :kv_len]  # views of a larger buffer
    query = torch.randn(rows, q_len, heads, width).transpose(1, 2)
    given, module = MASKS[mask](rows, q_len, kv_len), Attending(heads // kv_heads)
    with Calls() as calls:
        found, _ = grouped_attention(module, query, key, value, given, scaling=0.3)
    expected, _ = sdpa_attention_forward(module, query, key, value, given, scaling=0.3)
    assert found.shape == expected.shape == (rows, q_len, heads, width)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if kv_heads < heads and q_len <= kv_heads * width and mask not in ("none", "of each head"):
        assert [used.data_ptr() for used in calls.keys] == [key.data_ptr()], "keys are read in place"


def answers(model: Any) -> list[Tensor]:
    """Logits of a batch padded on the left, of a second piece of text, and of four tokens one by one."""
    ids = torch.randint(3, 150, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 20, dtype=torch.long)
    mask[0, :6] = 0
    with torch.inference_mode():
        first = model(input_ids=ids, attention_mask=mask, use_cache=True)
        longer = torch.cat([mask, mask.new_ones(3, 5)], 1)
        places = (longer.cumsum(-1) - 1)[:, -5:]
        if "mrope_section" in str(model.config.text_config):
            places = places.expand(3, -1, -1)
        second = model(
            input_ids=ids[:, :5], attention_mask=longer, position_ids=places, past_key_values=first.past_key_values
        )
        new = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False, output_logits=True,
            return_dict_in_generate=True, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    return [first.logits[mask.bool()], second.logits, *new.logits]


@pytest.mark.parametrize("build_it", [*CONFIGS, "llava"])
def test_language_model_outputs_are_unchanged(build_it: str) -> None:
    model = llava() if build_it == "llava" else build(build_it)
    before = implementations(model)
    expected = answers(model)
    assert install_text(model)
    changed = [m for m in model.modules() if hasattr(m, "config") and m.config._attn_implementation == attention.TEXT]
    assert {type(m).__name__ for m in changed} >= {type(model.model.language_model).__name__}
    assert all("vision" not in type(m).__name__.lower() for m in changed)
    for a, b in zip(answers(model), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    uninstall(model)
    assert implementations(model) == before


def test_install_both_and_uninstall() -> None:
    model = build("qwen2_5_vl")
    assert install_text(model)
    assert install_vision(model)
    assert model.model.visual.config._attn_implementation == attention.VISION
    assert model.model.language_model.config._attn_implementation == attention.TEXT
    uninstall(model)
    assert set(implementations(model)) == {"sdpa"}


def test_ungrouped_queries_are_unchanged() -> None:
    model = build("qwen2_5_vl", text_config={**QWEN2["text_config"], "num_key_value_heads": 8})
    assert not install_text(model)


def test_gemma_2_is_unchanged() -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma2", **{**TEXT, "head_dim": 8}))
    model.config._attn_implementation = "sdpa"  # where transformers does not choose it, as it would not cap the scores
    assert not install_text(model)
    assert set(implementations(model)) == {"sdpa"}
