"""``evalkit verify`` on the bundled checkpoint, and on copies of it that are broken in one way each."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.errors import UserError
from evalkit.model.hf import loading
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.verify import forward
from evalkit.model.verify.weights import count_not_finite

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
State = dict[str, torch.Tensor]

WEIGHT = "model.layers.0.mlp.down_proj.weight"
NAMES = [
    "files", "complete", "names and shapes", "dtype", "parameters", "values", "processor", "forward pass",
    "generation",
]  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt"))


def resave(folder: Path, change: Callable[[State], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def shard(folder: Path, files: int = 3) -> dict[str, str]:
    """Cut the weights into several files with an index, which is returned."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-{n:05d}-of-{files:05d}.safetensors" for n in range(1, files + 1)]
    where = {key: names[n % files] for n, key in enumerate(state)}
    for name in names:
        save_file({key: state[key] for key in state if where[key] == name}, folder / name, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def verified(evalkit: Evalkit, folder: Path, *options: str, code: int) -> dict[str, dict[str, Any]]:
    """The checks by name."""
    done = evalkit("verify", str(folder), "--json", "--device", "cpu", *options, cwd=folder.parent)
    assert done.returncode == code, done.stderr + done.stdout
    record = json.loads(done.stdout)
    assert record["ok"] == (code == 0)
    assert record["model_type"] == "qwen2_5_vl"
    return {check["name"]: check for check in record["checks"]}


def failing(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if check["ok"] is False]


# ---------------------------------------------------------------------------------------------------------- all is well


def test_bundled_checkpoint_passes(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit("verify", "tiny", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "✓" in line]
    assert [next(name for name in NAMES if name in row) for row in rows] == NAMES
    assert "✗" not in done.stdout
    assert "–" not in done.stdout
    for said in (
        "104 tensors, none truncated", "match Qwen2_5_VLForConditionalGeneration", "float16; config.json says float16",
        "1,445,856", "model.visual: 682,976", "model.language_model: 762,880", "all finite", "567 tokens, a chat template",
        "finite logits on cpu in float32, dependent on the image",
    ):  # fmt: skip
        assert said in done.stdout
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_sharded_checkpoint_passes(evalkit: Evalkit, copy: Path) -> None:
    shard(copy)
    checks = verified(evalkit, copy, "--no-forward", code=0)
    assert checks["files"]["finding"].startswith("3 weight files and their index, 2.9 MB")
    assert checks["forward pass"] == {
        "name": "forward pass",
        "ok": None,
        "finding": "skipped (--no-forward)",
        "details": [],
    }


def test_checkpoint_in_hubs_cache(evalkit: Evalkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As huggingface_hub leaves it after a download that was broken off: one file is still to come."""
    from huggingface_hub import constants

    repo = tmp_path / "hub" / "models--Someone--Their-VL"
    snapshot = repo / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(bundled_folder("tiny"), snapshot)
    where = shard(snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    done = evalkit("verify", "Someone/Their-VL", "--no-forward", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (snapshot / where[WEIGHT]).unlink()
    done = evalkit("verify", "Someone/Their-VL", cwd=tmp_path)
    assert done.returncode == 1
    assert f"1 of 3 weight files are missing: {where[WEIGHT]}" in done.stdout


# ------------------------------------------------------------------------------------------------------------ broken


def _lose_shard(folder: Path) -> None:
    (folder / shard(folder)[WEIGHT]).unlink()


def _cut(folder: Path, part: float) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, int(path.stat().st_size * part))


def _cut_header(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 1000)


def _too_long(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0" * 7)


def _not_numbers(state: State, value: float) -> None:
    state[WEIGHT][3, 4] = value


def _index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    where = shard(folder)
    change(where)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def _no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _configured(folder: Path, part: str = "text_config", **changed: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(changed)
    (folder / "config.json").write_text(json.dumps(config))


BROKEN: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "a shard is missing": (_lose_shard, {"files": "1 of 3 weight files are missing: model-0000"}),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), {"files": "no weights: the folder has none of model.safetensors, model.safetensors.index.json, pytorch_model.bin"}),
    "the index is cut off": (lambda f: (shard(f), os.truncate(f / "model.safetensors.index.json", 50)), {"files": "model.safetensors.index.json is not an index of weights (JSONDecodeError"}),
    "the index names files elsewhere": (lambda f: _index(f, lambda w: w.update({WEIGHT: "../x.safetensors"})), {"files": "names a file outside the folder (../x.safetensors)"}),
    "the index names what is not there": (lambda f: _index(f, lambda w: w.update({"more.weight": w[WEIGHT]})), {"complete": "lacks 1 tensors of the index: more.weight"}),
    "the index leaves something out": (lambda f: _index(f, lambda w: w.pop(WEIGHT)), {"complete": f"has 1 tensors that are not in the index: {WEIGHT}"}),
    "cut off": (lambda f: _cut(f, 0.7), {"complete": "model.safetensors is truncated: 2,031,562 bytes instead of 2,902,232"}),
    "cut off in its header": (_cut_header, {"complete": "model.safetensors is truncated in its header: 1,000 bytes"}),
    "empty": (lambda f: os.truncate(f / "model.safetensors", 0), {"complete": "is not a safetensors file (0 bytes)"}),
    "too long": (_too_long, {"complete": "is too long: 2,902,239 bytes instead of 2,902,232"}),
    "a pointer of git-lfs": (lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), {"complete": "is a git-lfs pointer"}),
    "a tensor is missing": (lambda f: resave(f, lambda s: s.pop(WEIGHT)), {"names and shapes": "1 missing: model.language_model.layers.0.mlp.down_proj.weight"}),
    "a tensor too many": (lambda f: resave(f, lambda s: s.update({"model.layers.9.more.weight": torch.zeros(2)})), {"names and shapes": "1 unexpected: "}),
    "a wrong shape": (lambda f: resave(f, lambda s: s.update({WEIGHT: torch.zeros(128, 300)})), {"names and shapes": "1 of a wrong shape: model.language_model.layers.0.mlp.down_proj.weight"}),
    "another config's": (lambda f: _configured(f, intermediate_size=256), {"names and shapes": "12 of a wrong shape: "}),
    "an impossible config": (lambda f: _configured(f, hidden_size="many"), {"names and shapes": "no model can be built from config.json: Validation error for field 'hidden_size': TypeError", "processor": "could not be loaded"}),
    "NaN": (lambda f: resave(f, lambda s: _not_numbers(s, float("nan"))), {"values": f"1 tensors with NaN or infinite values: {WEIGHT} (1 of 40,960)"}),
    "infinite": (lambda f: resave(f, lambda s: _not_numbers(s, float("-inf"))), {"values": f"1 tensors with NaN or infinite values: {WEIGHT} (1 of 40,960)"}),
    "another token for images": (lambda f: _configured(f, "", image_token_id=566), {"processor": "its image token is 565, but config.json says 566"}),
    "no tokenizer": (_no_tokenizer, {"processor": "there is no tokenizer (tokenizer.json, tokenizer_config.json); copy the processor's files and the chat template from the checkpoint that it was trained from, or name that one with --processor"}),
    "no processor": (lambda f: (f / "processor_config.json").unlink(), {"processor": "there is no image processor (preprocessor_config.json or processor_config.json); copy the processor's files"}),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "found"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_checkpoints_fail(
    evalkit: Evalkit, copy: Path, damage: Callable[[Path], object], found: dict[str, str]
) -> None:
    damage(copy)
    checks = verified(evalkit, copy, "--no-forward", code=1)
    assert failing(checks) == list(found)
    for name, said in found.items():
        assert said in checks[name]["finding"]


def test_wrong_shapes_are_reported(evalkit: Evalkit, copy: Path) -> None:
    resave(copy, lambda state: state.update({WEIGHT: torch.zeros(128, 300)}))
    (line,) = verified(evalkit, copy, "--no-forward", code=1)["names and shapes"]["details"]
    assert line == "model.language_model.layers.0.mlp.down_proj.weight: 128 × 300 instead of 128 × 320"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: resave(f, lambda s: s.pop(WEIGHT)), "1 of its tensors are missing (model.language_model.layers.0.mlp.down_proj.weight); 'evalkit verify {folder}' lists"),
        (_no_tokenizer, "there is no tokenizer (tokenizer.json, tokenizer_config.json); copy the processor's files"),
    ],
    ids=["a tensor", "the tokenizer"],
)  # fmt: skip
def test_run_refuses_missing_weights(
    evalkit: Evalkit, copy: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    """transformers would go on, with random weights, or with a tokenizer that knows no word."""
    damage(copy)
    done = evalkit("run", "-t", "vqav2", "-m", str(copy), "--data", "tiny", "--limit", "1", cwd=copy.parent)
    assert done.returncode == 2, done.stderr
    assert sentence.format(folder=copy) in " ".join(done.stderr.split())
    assert not (copy.parent / "runs").exists()


def test_forward_pass_errors_are_reported(evalkit: Evalkit, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resave(copy, lambda state: _not_numbers(state, float("nan")))
    checks = verified(evalkit, copy, code=1)
    assert failing(checks) == ["values", "forward pass"]
    assert "the logits are not finite in float32 on cpu" in checks["forward pass"]["finding"]

    # A model that is blind: every image is the same to it.
    resave(copy, lambda state: [state[key].zero_() for key in state if "visual" in key] and _not_numbers(state, 0.0))
    checks = verified(evalkit, copy, code=1)
    assert failing(checks) == ["forward pass"]
    assert checks["forward pass"]["finding"] == "the logits do not depend on the image"

    monkeypatch.setattr(forward, "free_memory", lambda device: 5_000_000)
    checks = verified(evalkit, copy, code=0)
    assert checks["forward pass"]["ok"] is None
    said = "skipped: the weights in float32 take 5.8 MB, and 5.0 MB of memory are free on cpu"
    assert said in checks["forward pass"]["finding"]
    checks = verified(evalkit, copy, "--dtype", "bfloat16", code=1)  # half of that
    assert checks["forward pass"]["finding"] == "the logits do not depend on the image"


def _generation(folder: Path, **changed: object) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(
    ("damage", "check", "sentence"),
    [
        (lambda f: _generation(f, eos_token_id=["555", 553]), "generation", "has the eos_token_id ['555', 553]; expected the ids of tokens"),
        (lambda f: _generation(f, eos_token_id={"a": 1}), "generation", "has the eos_token_id {'a': 1}; expected the ids of tokens"),
        (lambda f: _generation(f, eos_token_id=True), "generation", "has the eos_token_id True; expected the ids of tokens"),
        (lambda f: _generation(f, pad_token_id=True), "generation", "has the pad_token_id True; expected the id of a token"),
        (lambda f: _image_size(f, shortest_edge="3136"), "processor", "processor_config.json has min_pixels '3136'; expected an integer"),
    ],
    ids=["eos", "eos object", "eos truth", "pad", "size"],
)  # fmt: skip
def test_verify_finds_what_run_cannot_use(
    evalkit: Evalkit, copy: Path, damage: Callable[[Path], object], check: str, sentence: str
) -> None:
    damage(copy)
    checks = verified(evalkit, copy, code=1)
    assert failing(checks) == [check]
    assert sentence in checks[check]["finding"]
    done = evalkit("run", "-t", "vqav2", "-m", str(copy), "--data", "tiny", "--limit", "1", cwd=copy.parent)
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.split())


def _image_size(folder: Path, **changed: object) -> None:
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"]["size"].update(changed)
    path.write_text(json.dumps(config))


def test_free_memory_comes_from_the_system() -> None:
    free = forward.free_memory(torch.device("cpu"))
    if not Path("/proc/meminfo").exists():
        assert free is None
    else:
        assert free is not None
        assert 10**7 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_values_that_are_not_finite_are_counted_in_every_dtype(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, float("inf"), -2.0, float("nan"), float("-inf")])
    assert count_not_finite(values.to(dtype)) == 3
    assert count_not_finite(values.nan_to_num(0, 0, 0).to(dtype)) == 0
    assert count_not_finite(torch.tensor([1, 2])) == 0
    assert count_not_finite(torch.empty(0, dtype=dtype)) == 0


# ---------------------------------------------------------------------------------------------------------- pickles


def pickled(folder: Path) -> Path:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_pickled_weights_are_checked_and_need_permission(evalkit: Evalkit, copy: Path) -> None:
    path = pickled(copy)
    checks = verified(evalkit, copy, code=0)
    assert checks["forward pass"]["ok"] is True
    (line,) = checks["files"]["details"]
    assert line == (
        "pickled weights, read with weights_only=True, which executes no code; 'evalkit run' needs "
        "--allow-pickled-weights"
    )
    assert checks["complete"]["finding"] == "104 tensors, none truncated"
    run = evalkit("run", "-t", "vqav2", "-m", str(copy), "--data", "tiny", "--limit", "1", cwd=copy.parent)
    assert run.returncode == 2
    assert "--allow-pickled-weights" in run.stderr

    state = torch.load(path, weights_only=True)
    state[WEIGHT][0, 0] = float("inf")
    torch.save(state, path)
    assert failing(verified(evalkit, copy, "--no-forward", code=1)) == ["values"]
    os.truncate(path, path.stat().st_size - 1000)
    checks = verified(evalkit, copy, "--no-forward", code=1)
    assert failing(checks)[0] == "complete"
    assert "pytorch_model.bin is truncated" in checks["complete"]["finding"]


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_nothing_in_pickle_is_executed(evalkit: Evalkit, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pickled(copy)
    torch.save({WEIGHT: torch.zeros(2), "more": Harmful()}, path)
    monkeypatch.chdir(copy.parent)
    checks = verified(evalkit, copy, code=1)
    assert (
        "contains something other than tensors, or is corrupt; no code in it was executed"
        in checks["complete"]["finding"]
    )
    assert checks["forward pass"]["ok"] is None
    done = evalkit(
        "run", "-t", "vqav2", "-m", str(copy), "--data", "tiny", "--limit", "1", "--allow-pickled-weights", cwd=copy.parent
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "the checkpoint could not be loaded" in done.stderr
    assert not list(copy.parent.rglob("executed"))


# ------------------------------------------------------------------------------------------------------------- Qwen-VL

# A Qwen-VL in small, as the published one is written: 256 ranks of single bytes, and <img> 214 after them.
QWEN = {
    "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "torch_dtype": "float32", "vocab_size": 480,
    "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
    "hidden_size": 128, "intermediate_size": 160, "kv_channels": 64, "num_attention_heads": 2, "num_hidden_layers": 2,
    "layer_norm_epsilon": 1e-6, "seq_length": 2048, "max_position_embeddings": 8192, "rotary_emb_base": 10000,
    "rotary_pct": 1.0, "no_bias": True, "use_dynamic_ntk": True, "use_logn_attn": True, "tie_word_embeddings": False,
    "initializer_range": 0.02, "tokenizer_type": "QWenTokenizer",
    "visual": {
        "heads": 2, "image_size": 448, "image_start_id": 470, "layers": 2, "mlp_ratio": 2.0, "output_dim": 128,
        "patch_size": 14, "width": 32,
    },
}  # fmt: skip


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """It has random weights in two pickles with an index, and a buffer that nothing uses, as the published one."""
    folder = tmp_path / "Qwen-VL-tiny"
    folder.mkdir()
    _other(folder, **QWEN)
    ranks = (base64.b64encode(bytes([byte])).decode() + f" {byte}\n" for byte in range(256))
    (folder / "qwen.tiktoken").write_text("".join(ranks))
    loading.register_native(resolve_checkpoint(str(folder), with_weights=False))
    torch.manual_seed(0)
    state = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder)).state_dict()
    state["transformer.rotary_emb.inv_freq"] = torch.ones(32)
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    where = {key: names[n % 2] for n, key in enumerate(state)}
    for name in names:
        torch.save({key: value.clone() for key, value in state.items() if where[key] == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def test_qwen_vl_as_it_was_published(evalkit: Evalkit, qwen: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = evalkit("verify", str(qwen), "--device", "cpu", cwd=qwen.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 weight files and their index" in done.stdout
    assert "which executes no code; so does 'evalkit run'" in " ".join(done.stdout.replace("│", " ").split())
    assert "match QwenVLForConditionalGeneration" in done.stdout
    for part in ("transformer.wte: 61,440", "lm_head: 61,440", "transformer.visual: "):
        assert part in done.stdout
    assert "finite logits on cpu in float32, dependent on the image" in done.stdout

    command = ("run", "-t", "vqav2", "-m", str(qwen), "--data", "tiny", "--limit", "1")
    caplog.clear()
    done = evalkit(*command, "--name", "a", cwd=qwen.parent)
    assert done.returncode == 0, done.stderr
    assert "Qwen-VL-tiny: its weights are pickles, read with weights_only=True" in caplog.messages

    # What is in the pickles is part of what the run is.
    path = qwen / "pytorch_model-00001-of-00002.bin"
    state = torch.load(path, weights_only=True)
    torch.save({key: value * 1.5 for key, value in state.items()}, path)
    assert evalkit(*command, "--name", "b", cwd=qwen.parent).returncode == 0
    parts = [json.loads((qwen.parent / "runs" / name / "manifest.json").read_text())["parts"] for name in "ab"]
    assert parts[0]["weights"] != parts[1]["weights"]
    assert {**parts[0], "weights": ""} == {**parts[1], "weights": ""}


def test_pickles_of_qwen_vl_are_read_as_tensors_only(evalkit: Evalkit, qwen: Path) -> None:
    torch.save({"lm_head.weight": Harmful()}, qwen / "pytorch_model-00002-of-00002.bin")
    done = evalkit("run", "-t", "vqav2", "-m", str(qwen), "--data", "tiny", "--limit", "1", cwd=qwen.parent)
    assert done.returncode == 2, done.stderr
    assert "the checkpoint could not be loaded" in done.stderr
    assert not list(qwen.parent.rglob("executed"))


# ------------------------------------------------------------------------------------------------------------ mistakes


def _other(folder: Path, **config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))


MISTAKES: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), [], "is not a checkpoint: it has no config.json"),
    "config cut off": (lambda f: os.truncate(f / "config.json", 9), [], "config.json is not valid JSON"),
    "text only": (lambda f: _other(f, model_type="gpt2"), [], "the architecture 'gpt2' is not supported"),
    "a text-only Qwen": (lambda f: _other(f, model_type="qwen", hidden_size=4096), [], "this is a text-only Qwen (its config.json has no 'visual' part); use Qwen-VL"),
    "device": (lambda f: None, ["--device", "quantum"], "--device quantum: no such device"),
    "dtype": (lambda f: None, ["--dtype", "int3"], "--dtype int3: unknown"),
    "backend": (lambda f: None, ["--backend", "abacus"], "unknown backend 'abacus'"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "options", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_usage_errors_exit_with_2(
    evalkit: Evalkit, copy: Path, damage: Callable[[Path], object], options: list[str], sentence: str
) -> None:
    damage(copy)
    done = evalkit("verify", str(copy), *options, cwd=copy.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in " ".join(done.stderr.split())


def test_text_only_qwen_is_refused_by_run_too(evalkit: Evalkit, copy: Path) -> None:
    _other(copy, model_type="qwen", hidden_size=4096)
    done = evalkit("run", "-t", "vqav2", "-m", str(copy), "--data", "tiny", "--limit", "1", cwd=copy.parent)
    assert done.returncode == 2
    assert "this is a text-only Qwen" in done.stderr
    with pytest.raises(UserError, match="text-only Qwen"):
        load_processor(resolve_checkpoint(str(copy)))
