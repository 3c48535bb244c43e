"""Weights that a checkpoint's folder has and the model has not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit import registry
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.errors import UserError
from evalkit.model.hf.loading import check_architecture, load_model


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt"))


def load(folder: Path) -> Any:
    return load_model(resolve_checkpoint(str(folder)), device=torch.device("cpu"), dtype="float32")


def add(folder: Path, *names: str) -> None:
    """Add tensors of these names."""
    state = load_file(folder / "model.safetensors")
    save_file(state | {name: torch.zeros(2) for name in names}, folder / "model.safetensors", {"format": "pt"})


def test_tensors_that_are_not_models_are_named(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(copy, "v_head.summary.weight", "v_head.summary.bias")
    load(copy)
    (message,) = [message for message in caplog.messages if "not loaded" in message]
    assert "ckpt: 2 tensors in its files are not part of Qwen2_5_VLForConditionalGeneration" in message
    assert "v_head.summary.bias, v_head.summary.weight" in message


@pytest.mark.parametrize(
    "name", ["model.layers.4.mlp.up_proj.weight", "visual.blocks.9.attn.qkv.bias", "model.language_model.layers.17.mlp.up_proj.weight"]
)  # fmt: skip
def test_layers_that_config_does_not_have_are_refused(copy: Path, name: str) -> None:
    """As with a config that was edited or is another checkpoint's: the model would answer without them."""
    add(copy, name)
    with pytest.raises(UserError, match="1 of its tensors belong to layers that config.json does not have"):
        load(copy)


@pytest.mark.parametrize(
    ("model_type", "family", "instead"),
    [
        ("kimi_vl", "kimi-vl", "; start a server that has it"),
        ("deepseek_vl_v2", "deepseek-vl2", "; start a server that has it"),
        ("minicpmv", "minicpm-v", "; start a server that has it"),
        ("phi4mm", "phi-4-multimodal", "; start a server that has it"),
        (
            "internvl_chat",
            "internvl",
            "; take the checkpoint in transformers' format, whose name ends in -hf, or start",
        ),
    ],
)
def test_architectures_that_transformers_lacks_are_for_servers(
    copy: Path, model_type: str, family: str, instead: str
) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": model_type, "auto_map": {"AutoModel": "modeling.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    checkpoint = resolve_checkpoint(str(copy))
    with pytest.raises(
        UserError,
        match=f"the architecture '{model_type}' is not supported: .*its own code.*{instead}.*--backend server",
    ):
        check_architecture(checkpoint)
    assert registry.family_name(model_type, checkpoint.name) == family


def test_fewer_layers_in_config(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    text = config["text_config"]
    text |= {"num_hidden_layers": 3, "layer_types": text["layer_types"][:3]}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"belong to layers that config.json does not have \(.*layers.3"):
        load(copy)


def test_adapters_that_were_not_merged_are_refused(copy: Path) -> None:
    add(copy, "model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight")
    with pytest.raises(UserError, match="2 of its tensors are LoRA weights that were not merged"):
        load(copy)


def test_files_that_are_not_read_are_named(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Shards of an earlier save, a projector beside; other formats and the training's state are no weights of it."""
    others = ["model-00001-of-00002.safetensors", "non_lora_state_dict.bin"]
    for name in (*others, "optimizer.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"):
        (copy / name).touch()
    load(copy)
    (message,) = [message for message in caplog.messages if "not loaded" in message]
    assert message.endswith(f"not the checkpoint's weight files: {', '.join(others)}")
    load(bundled_folder("tiny"))
    assert len([message for message in caplog.messages if "not loaded" in message]) == 1
