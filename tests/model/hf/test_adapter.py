"""LoRA adapters: a real one, made by peft on the tiny checkpoint, with a B that is not zero."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit import registry
from evalkit.checkpoint import Checkpoint, resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.installation import install_command
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.hf import loading
from evalkit.types import Batching, Decoding, PromptSpec, Request

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    task, family = registry.tasks.get("vqav2"), registry.families.get("qwen2.5-vl")
    samples = list(task.load(open_data("tiny"), "val"))[:12]
    return [Request(s.id, family.prompt(PromptSpec(task.name, task.kind), s), Decoding(12)) for s in samples]


def model() -> Any:
    return loading.load_model(resolve_checkpoint("tiny"), device=torch.device("cpu"), dtype="float32")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    torch.manual_seed(0)
    targets = ["q_proj", "v_proj", "down_proj", "qkv"]  # language and vision
    wrapped = peft.get_peft_model(model(), peft.LoraConfig(r=4, target_modules=targets))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    wrapped.save_pretrained(folder)
    return folder


def adapted(folder: Path | str) -> Checkpoint:
    return replace(resolve_checkpoint("tiny"), adapter=str(folder))


def answers(backend: Any, requests: list[Request]) -> dict[str, tuple[int, ...]]:
    found = {r.id: r for r in backend.generate(requests)}
    assert {r.finish for r in found.values()} <= {"stop", "length"}
    return {k: r.tokens for k, r in found.items()}


def test_an_adapter_changes_answers_as_merged_weights_do(
    tiny_backend: HFBackend, requests: list[Request], adapter: Path
) -> None:
    first, again = (
        BACKEND.open(adapted(adapter), device="cpu", dtype="float32", batching=Batching(size)) for size in (5, 1)
    )
    found = answers(first, requests)
    assert found == answers(again, requests)
    assert found != answers(tiny_backend, requests)
    merged = peft.PeftModel.from_pretrained(model(), adapter).merge_and_unload()
    assert answers(HFBackend(merged.eval(), tiny_backend.processor, batch_size=5), requests) == found

    images = [requests[0].images[0]]
    assert isinstance(first, HFBackend)
    assert list(first.embed(images)) == list(again.embed(images)) != list(tiny_backend.embed(images))  # type: ignore[attr-defined]
    options = [replace(r, continuations=("red", "blue square", "7")) for r in requests]
    assert {r.text for r in first.generate(options)} <= {"red", "blue square", "7"}


def opening(folder: Path | str, **more: Any) -> None:
    BACKEND.open(replace(adapted(folder), **more), device="cpu", dtype="float32", batching=Batching(1))


def test_folders_that_are_no_adapters_are_sentences(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--adapter .*absent: .*absent is not an adapter \\(no adapter_config.json"):
        opening(tmp_path / "absent")
    with pytest.raises(UserError, match="is not an adapter"):
        opening(resolve_checkpoint("tiny").location)
    shutil.copytree(adapter, tmp_path / "half")
    (tmp_path / "half" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="has no adapter_model.safetensors; pickled weights can execute anything"):
        opening(tmp_path / "half")
    (tmp_path / "half" / "adapter_config.json").write_text("{")
    with pytest.raises(UserError, match="adapter_config.json is not valid JSON"):
        opening(tmp_path / "half")


def test_pickled_adapters_need_permission(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "adapter_model.safetensors"
    torch.save(load_file(weights), tmp_path / "pickled" / "adapter_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match="only under --allow-pickled-weights"):
        opening(tmp_path / "pickled")
    opening(tmp_path / "pickled", allow_pickled_weights=True)


def test_an_adapter_of_another_model_is_a_sentence(adapter: Path, tmp_path: Path) -> None:
    for name, rename in (
        ("deeper", lambda key: key.replace("layers.0.", "layers.30.")),
        ("lacking", lambda key: None if "layers.0." in key else key),
    ):
        shutil.copytree(adapter, tmp_path / name)
        file = tmp_path / name / "adapter_model.safetensors"
        tensors = {rename(key): value for key, value in load_file(file).items()}
        save_file({key: value for key, value in tensors.items() if key}, file)
        with pytest.raises(UserError, match="it belongs to another model: [0-9]+ of its tensors"):
            opening(tmp_path / name)
    shutil.copytree(adapter, tmp_path / "wider")
    file = tmp_path / "wider" / "adapter_model.safetensors"
    save_file({k: torch.zeros(v.shape[0] + 1, v.shape[1]) for k, v in load_file(file).items()}, file)
    with pytest.raises(UserError, match="cannot be applied to the checkpoint"):
        opening(tmp_path / "wider")
    shutil.copytree(adapter, tmp_path / "elsewhere")
    config = tmp_path / "elsewhere" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": ["no_such_layer"]}))
    with pytest.raises(UserError, match="cannot be applied to the checkpoint: Target modules"):
        opening(tmp_path / "elsewhere")


def test_prompt_tuning_is_refused(tmp_path: Path) -> None:
    peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM").save_pretrained(tmp_path)
    save_file({"prompt_embeddings": torch.zeros(4, 128)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="only adapters that change layers"):
        opening(tmp_path)


def test_without_peft_it_says_what_to_install(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=re.escape(install_command("peft"))):
        opening(adapter)
