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

from evalkit import fingerprint, registry
from evalkit.checkpoint import Checkpoint, bundled_folder, resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.installation import install_command
from evalkit.model.backends.hf import BACKEND, HFBackend
from evalkit.model.hf import loading
from evalkit.model.hf.adapter import apply_adapter, read_adapter
from evalkit.types import Batching, Check, Decoding, PromptSpec, Request

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
                weight.normal_(0, 1.0)
    wrapped.save_pretrained(folder)
    return folder


def adapted(folder: Path | str) -> Checkpoint:
    return replace(resolve_checkpoint("tiny"), adapter=str(folder))


def answers(backend: Any, requests: list[Request]) -> dict[str, tuple[int, ...]]:
    found = {r.id: r for r in backend.generate(requests)}
    assert {r.finish for r in found.values()} <= {"stop", "length"}
    return {k: r.tokens for k, r in found.items()}


def test_adapter_changes_answers_as_merged_weights_do(
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


def test_invalid_adapter_folders_are_reported(adapter: Path, tmp_path: Path) -> None:
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


def test_adapter_of_another_model_is_reported(adapter: Path, tmp_path: Path) -> None:
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


def previous_name(name: str) -> str:
    """A tensor's or module's name as transformers < 4.52 wrote it."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def written_before(adapter: Path, folder: Path, **config: Any) -> Path:
    """A copy of an adapter with the names of transformers < 4.52."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    prefix = "base_model.model."
    tensors = {prefix + previous_name(key.removeprefix(prefix)): value for key, value in load_file(file).items()}
    assert not any("model.language_model." in key or ".model.model.visual." in key for key in tensors)
    save_file(tensors, file)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


EXPRESSION = r"^(model|language_model)\.layers.*\.(q_proj|v_proj|down_proj)|^visual\.blocks\.\d+\.attn\.qkv"


@pytest.mark.parametrize("targets", ["suffixes", "names", "expression"])
def test_adapters_from_before_transformers_4_52(
    requests: list[Request], adapter: Path, tmp_path: Path, targets: str
) -> None:
    """The names of their layers are converted, in the tensors and in the configuration."""
    layers = {key.partition(".lora_")[0] for key in load_file(adapter / "adapter_model.safetensors")}
    names = [previous_name(layer.removeprefix("base_model.model.")) for layer in layers]
    config: dict[str, Any] = {"names": {"target_modules": names}, "expression": {"target_modules": EXPRESSION}}
    old = written_before(adapter, tmp_path / "old", **config.get(targets, {}))
    before, now = (
        BACKEND.open(adapted(folder), device="cpu", dtype="float32", batching=Batching(5)) for folder in (old, adapter)
    )
    assert answers(before, requests) == answers(now, requests)


def test_old_names_in_patterns_and_saved_modules(tmp_path: Path) -> None:
    """Ranks by a layer's name, a module that was trained as a whole."""
    torch.manual_seed(0)
    name = "model.language_model.layers.1.self_attn.q_proj"
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["merger"], rank_pattern={name: 2})
    wrapped = peft.get_peft_model(model(), config)
    with torch.no_grad():
        for key, weight in wrapped.named_parameters():
            if "lora_B" in key or "modules_to_save" in key:
                weight.normal_(0, 1.0)
    wrapped.save_pretrained(tmp_path / "new")
    patterns = {"rank_pattern": {"^" + previous_name(name).replace(".", r"\."): 2}}
    old = written_before(tmp_path / "new", tmp_path / "old", **patterns)

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        adapter = read_adapter(str(folder), pickled=False)
        return dict(apply_adapter(model(), adapter).state_dict())

    found, expected = weights(old), weights(tmp_path / "new")
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    assert expected[f"{name}.lora_A.default.weight"].shape[0] == 2


@pytest.mark.parametrize("name", ["non_lora_state_dict.bin", "mm_projector.bin", "new_embeddings.safetensors"])
def test_further_weights_beside_adapter_are_refused(adapter: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "lora"))
    for other in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "README.md"):
        (folder / other).touch()
    opening(folder)
    (folder / name).touch()
    with pytest.raises(UserError, match=f"{name} beside the adapter may hold further trained weights"):
        opening(folder)


def test_weights_and_adapter_in_one_folder(
    tiny_backend: HFBackend,
    requests: list[Request],
    adapter: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As some trainers write them: merged weights with the adapter beside them.  What was given is loaded."""
    folder = Path(shutil.copytree(bundled_folder("tiny"), tmp_path / "epoch_0"))
    shutil.copytree(adapter, folder, dirs_exist_ok=True)
    checkpoint = resolve_checkpoint(str(folder))
    alone = BACKEND.open(checkpoint, device="cpu", dtype="float32", batching=Batching(5))
    assert answers(alone, requests) == answers(tiny_backend, requests)
    assert any("adapter_config.json) is not applied" in message for message in caplog.messages)

    both, beside = (
        BACKEND.open(adapted(given), device="cpu", dtype="float32", batching=Batching(5)) for given in (folder, adapter)
    )
    assert answers(both, requests) == answers(beside, requests)
    assert any("the weights beside the adapter (model.safetensors) are not loaded" in m for m in caplog.messages)

    # What is not read is not part of the identity.
    digest = fingerprint.of_checkpoint(folder)
    assert digest["weights"] == fingerprint.of_checkpoint(bundled_folder("tiny"))["weights"]
    assert fingerprint.of_adapter(folder) == fingerprint.of_adapter(adapter)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 99}))
    assert fingerprint.of_checkpoint(folder) == digest
    assert fingerprint.of_adapter(folder) != fingerprint.of_adapter(adapter)


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


def verified(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in BACKEND.verify(adapted(folder), device="cpu", dtype="auto", forward=True)}


def test_verify_checks_adapter_too(adapter: Path, tmp_path: Path) -> None:
    checks = verified(adapter)
    assert checks["adapter"].finding.startswith("LORA, rank 4, ")
    assert all(check.ok for check in checks.values())

    folder = Path(shutil.copytree(adapter, tmp_path / "lora"))
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({key.replace("layers.0.", "layers.30."): value for key, value in tensors.items()}, file)
    checks = verified(folder)
    assert (checks["adapter"].ok, checks["forward pass"].ok) == (True, False)
    assert "it belongs to another model" in checks["forward pass"].finding

    save_file({key: value / 0 for key, value in tensors.items()}, file)
    checks = verified(folder)
    assert (checks["adapter"].ok, checks["forward pass"].ok) == (False, None)
    assert "tensors with NaN or infinite values" in checks["adapter"].finding

    (folder / "non_lora_state_dict.bin").touch()
    assert "non_lora_state_dict.bin beside the adapter" in verified(folder)["adapter"].finding
