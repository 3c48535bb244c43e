"""Qwen-VL's checkpoints: the published names and shapes, files in and out, the Auto classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import logging

import evalkit.model.qwen_vl as package
from evalkit.model.qwen_vl import QwenVLConfig, QwenVLForConditionalGeneration, QwenVLModel

# config.json as published for the 7B models (PROTOCOLS §4).
PUBLISHED: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "attn_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "bf16": True,
    "emb_dropout_prob": 0.0,
    "fp16": False,
    "fp32": False,
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 22016,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 8192,
    "model_type": "qwen",
    "no_bias": True,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "onnx_safe": None,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 2048,
    "tie_word_embeddings": False,
    "tokenizer_type": "QWenTokenizer",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": False,
    "use_logn_attn": True,
    "visual": {
        "heads": 16,
        "image_size": 448,
        "image_start_id": 151857,
        "layers": 48,
        "mlp_ratio": 4.9231,
        "output_dim": 4096,
        "patch_size": 14,
        "width": 1664,
    },
    "vocab_size": 151936,
}


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict, written down from its description, not from the model."""
    hidden, width, mlp = 4096, 1664, 8192
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (151936, hidden),
        "lm_head.weight": (151936, hidden),
    }
    for layer in range(32):
        shapes |= {
            f"transformer.h.{layer}.{name}": shape
            for name, shape in {
                "ln_1.weight": (hidden,),
                "attn.c_attn.weight": (12288, hidden),
                "attn.c_attn.bias": (12288,),
                "attn.c_proj.weight": (hidden, hidden),
                "ln_2.weight": (hidden,),
                "mlp.w1.weight": (11008, hidden),
                "mlp.w2.weight": (11008, hidden),
                "mlp.c_proj.weight": (hidden, 11008),
            }.items()
        }
    shapes["transformer.ln_f.weight"] = (hidden,)
    eye: dict[str, tuple[int, ...]] = {"conv1.weight": (width, 3, 14, 14), "positional_embedding": (256, width)}
    eye |= {"ln_pre.weight": (width,), "ln_pre.bias": (width,), "ln_post.weight": (hidden,), "ln_post.bias": (hidden,)}
    eye["proj"] = (hidden, hidden)
    for layer in range(48):
        linear = {"attn.in_proj": (3 * width, width), "attn.out_proj": (width, width)}
        linear |= {"mlp.c_fc": (mlp, width), "mlp.c_proj": (width, mlp)}
        for name, (out, into) in linear.items():
            eye[f"transformer.resblocks.{layer}.{name}.weight"] = (out, into)
            eye[f"transformer.resblocks.{layer}.{name}.bias"] = (out,)
        for norm in ("ln_1", "ln_2"):
            eye[f"transformer.resblocks.{layer}.{norm}.weight"] = (width,)
            eye[f"transformer.resblocks.{layer}.{norm}.bias"] = (width,)
    eye |= {"attn_pool.query": (256, hidden), "attn_pool.pos_embed": (256, hidden)}
    eye |= {"attn_pool.kv_proj.weight": (hidden, width)}
    eye |= {"attn_pool.attn.in_proj_weight": (3 * hidden, hidden), "attn_pool.attn.in_proj_bias": (3 * hidden,)}
    eye |= {"attn_pool.attn.out_proj.weight": (hidden, hidden), "attn_pool.attn.out_proj.bias": (hidden,)}
    for norm in ("ln_q", "ln_kv"):
        eye |= {f"attn_pool.{norm}.weight": (hidden,), f"attn_pool.{norm}.bias": (hidden,)}
    return shapes | {f"transformer.visual.{name}": shape for name, shape in eye.items()}


@pytest.fixture(scope="module")
def huge() -> Any:
    with torch.device("meta"):
        return QwenVLForConditionalGeneration(QwenVLConfig.from_dict(dict(PUBLISHED)))


def test_full_size_has_published_names_and_shapes(huge):
    assert {name: tuple(p.shape) for name, p in huge.state_dict().items()} == published_shapes()
    assert not list(huge.buffers())


def test_full_size_in_numbers(huge):
    parts = {
        "embeddings": ("transformer.wte.",),
        "decoder": ("transformer.h.", "transformer.ln_f."),
        "head": ("lm_head.",),
        "adapter": ("transformer.visual.attn_pool.", "transformer.visual.ln_post.", "transformer.visual.proj"),
        "ViT": tuple(f"transformer.visual.{n}" for n in ("conv1", "positional", "ln_pre", "transformer.")),
    }
    counts = {
        part: sum(p.numel() for name, p in huge.named_parameters() if name.startswith(prefixes))
        for part, prefixes in parts.items()
    }
    total = sum(p.numel() for p in huge.parameters())
    assert sum(counts.values()) == total
    print("\n".join(f"{part:>12} {count:>14,}" for part, count in (counts | {"all": total}).items()))
    assert counts["embeddings"] == counts["head"] == 622_329_856
    assert round(total / 1e9, 2) == 9.66
    assert round((counts["decoder"] + 2 * counts["head"]) / 1e9, 2) == 7.72  # Qwen-7B
    assert round((counts["ViT"] + counts["adapter"]) / 1e9, 2) == 1.94


# --------------------------------------------------------------------------------------------------------------- files


def state(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def same(one: Any, other: Any) -> bool:
    a, b = state(one), state(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def published_folder(folder: Path, model: Any, changes: dict[str, Any] | None = None, *, buffers: bool = True) -> Path:
    """A checkpoint as it was published: one pickle, the original's config.json, buffers that nobody needs."""
    config = PUBLISHED | {
        key: value for key, value in model.config.to_dict().items() if key in PUBLISHED and key != "architectures"
    }
    config |= {"torch_dtype": "float32", "visual": model.config.visual} | (changes or {})
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    weights = state(model)
    if buffers:
        weights["transformer.rotary_emb.inv_freq"] = torch.ones(16)
        weights["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        weights["transformer.h.0.attn.logn_tensor"] = torch.ones(1, 8, 1, 1)
        weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """What transformers logs, which by default does not reach the root logger."""
    logging.enable_propagation()
    yield caplog
    logging.disable_propagation()


def test_published_checkpoint_format(small, tmp_path, said):
    """``.bin`` files (read with ``weights_only``), another's ``auto_map``, buffers: no remote code, no complaint."""
    model = small(3)
    package.register()
    package.register()
    folder = published_folder(tmp_path, model)
    config = AutoConfig.from_pretrained(folder)
    assert type(config).__name__ == "QwenVLConfig"
    assert not hasattr(config, "auto_map")
    found, info = AutoModelForImageTextToText.from_pretrained(
        folder, use_safetensors=False, weights_only=True, output_loading_info=True
    )
    assert type(found).__name__ == "QwenVLForConditionalGeneration"
    assert not any(info.values())
    assert same(found, model)
    assert not found.training
    assert [r.getMessage() for r in said.records if r.levelname in ("WARNING", "ERROR")] == []


def test_checkpoint_in_half_precision_on_devices(small, tmp_path):
    model = small(3)
    folder = published_folder(tmp_path, model)
    found = QwenVLForConditionalGeneration.from_pretrained(
        folder, use_safetensors=False, dtype=torch.bfloat16, device_map="auto"
    )
    assert {p.dtype for p in found.parameters()} == {torch.bfloat16}
    assert not any(p.is_meta for p in [*found.parameters(), *found.buffers()])
    ids = torch.tensor([[1, 90, *[92] * 16, 91, 2]])
    out = found.generate(ids, pixel_values=torch.ones(1, 3, 56, 56), max_new_tokens=2)
    assert out.shape[1] == ids.shape[1] + 2


def test_devices_for_full_size(huge):
    """The plan for two small GPUs: the vision part stays in one piece, and so does each block."""
    from accelerate import infer_auto_device_map

    plan = infer_auto_device_map(
        huge, {0: "12GiB", 1: "16GiB"}, no_split_module_classes=list(huge._no_split_modules), dtype=torch.bfloat16
    )
    assert set(plan.values()) == {0, 1}
    assert sum(name.startswith("transformer.visual") for name in plan) == 1
    assert all(name.count(".") <= 2 for name in plan)


def test_save_and_load_round_trip(small, tmp_path):
    model = small(4, original_padding=True)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert written["model_type"] == "qwen"
    assert written["visual"] == model.config.visual
    found = QwenVLForConditionalGeneration.from_pretrained(tmp_path)
    assert same(found, model)
    assert found.config.original_padding
    assert found.config.to_diff_dict() == model.config.to_diff_dict()
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(found(ids).logits, model(ids).logits)
    inner = QwenVLModel.from_pretrained(tmp_path)
    assert torch.equal(inner(ids).last_hidden_state, model.model(ids).last_hidden_state)


def test_missing_weights_are_initialised(small, tmp_path):
    """Nothing is left as the meta device's memory happened to be."""
    model = small(5)
    folder = published_folder(tmp_path, model)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    gone = [name for name in weights if "visual" in name]
    torch.save({name: w for name, w in weights.items() if name not in gone}, folder / "pytorch_model.bin")
    found, info = QwenVLForConditionalGeneration.from_pretrained(
        folder, use_safetensors=False, output_loading_info=True
    )
    assert info["missing_keys"] == set(gone)
    new = state(found)
    assert all(new[name].isfinite().all() and new[name].abs().max() < 10 for name in gone)
    assert torch.equal(
        new["transformer.visual.attn_pool.pos_embed"], state(model)["transformer.visual.attn_pool.pos_embed"]
    )
    assert torch.equal(new["transformer.wte.weight"], state(model)["transformer.wte.weight"])


def test_text_only_qwen_is_refused(small, tmp_path):
    package.register()
    folder = published_folder(tmp_path, small())
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["visual"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for load in (AutoConfig, QwenVLConfig, AutoModelForImageTextToText, QwenVLForConditionalGeneration):
        with pytest.raises(ValueError, match="text-only Qwen"):
            load.from_pretrained(folder)
    with pytest.raises(ValueError, match="text-only Qwen"):
        QwenVLForConditionalGeneration(QwenVLConfig(num_hidden_layers=1))


def test_configurations_that_do_not_fit(small):
    with pytest.raises(ValueError, match="'visual' has no 'width', 'heads'"):
        QwenVLConfig.from_dict(
            {"visual": {k: v for k, v in PUBLISHED["visual"].items() if k not in ("heads", "width")}}
        )
    with pytest.raises(ValueError, match="rotary_pct 0.5"):
        QwenVLConfig(rotary_pct=0.5)
    with pytest.raises(ValueError, match="output_dim 256 is not the language model's hidden_size 128"):
        small(visual={"output_dim": 256})


def test_configuration_has_the_image_token():
    config = QwenVLConfig.from_dict(dict(PUBLISHED))
    assert (config.image_start_id, config.image_end_id, config.image_token_id) == (151857, 151858, 151859)
    assert (config.vision.mlp_width, config.vision.grid, config.vision.n_queries) == (8192, 32, 256)
    assert (config.head_dim, config.num_key_value_heads) == (128, 32)


def test_importing_package_is_cheap():
    code = "import sys, evalkit.model.qwen_vl; print(sorted({'torch', 'transformers', 'PIL'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'QwenVL'"):
        package.QwenVL  # noqa: B018
