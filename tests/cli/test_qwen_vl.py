"""Qwen-VL and Qwen-VL-Chat at the command line, from checkpoints written as the published ones are (small, random)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.installation import install_command

from ..model.qwen_vl.published import write_checkpoint

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
FAMILIES = {"Qwen-VL-Chat": "qwen-vl-chat", "Qwen-VL": "qwen-vl"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    where = tmp_path_factory.mktemp("published")
    for name in FAMILIES:
        write_checkpoint(where / name, chat=name.endswith("Chat"))
    return where


@pytest.fixture
def broken(published: Path, tmp_path: Path) -> Path:
    """A copy of the base model's, to be corrupt."""
    return Path(shutil.copytree(published / "Qwen-VL", tmp_path / "Qwen-VL"))


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split())


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def answers(run: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{split}.jsonl").read_text().splitlines()]


def test_run_of_two_models_ends_with_the_leaderboard(
    evalkit: Evalkit, published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = [str(published / name) for name in FAMILIES]
    done = evalkit(
        "run", "--tasks", "refcoco,vqav2", "-m", ",".join(models), "--data", "tiny", "--limit", "3", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    runs = {manifest(path.parent)["model"]["name"]: path.parent for path in (tmp_path / "runs").glob("*/manifest.json")}
    assert runs.keys() == FAMILIES.keys()
    for name, run in runs.items():
        assert manifest(run)["family"]["name"] == FAMILIES[name]
        assert manifest(run)["backend"]["engine"] == "shared prefixes"
        for split, tokens in (("refcoco.val", 10), ("refcoco.testA", 10), ("refcoco.testB", 10), ("vqav2.val", 1)):
            found = answers(run, split)
            assert len(found) == 3
            for row in found:
                assert row["prompt_tokens"] > 258
                assert row["frames"][0]["resized"] == [448, 448]
                assert row["new_tokens"] >= tokens
        assert name in done.stdout
        assert caplog.messages.count(f"{name}: its weights are pickles, read with weights_only=True") == 1
    assert all(split in done.stdout for split in ("refcoco/val", "refcoco/testA", "refcoco/testB", "vqav2/val"))


def test_examples_and_turns(evalkit: Evalkit, published: Path, tmp_path: Path) -> None:
    command = ("run", "-t", "vqav2", "-m", str(published / "Qwen-VL-Chat"), "--data", "tiny", "--limit", "2")
    assert evalkit(*command, "--shots", "2", "--name", "few", cwd=tmp_path).returncode == 0
    assert all(len(row["frames"]) == 3 for row in answers(tmp_path / "runs" / "few", "vqav2.val"))
    assert all(row["prompt_tokens"] > 3 * 258 for row in answers(tmp_path / "runs" / "few", "vqav2.val"))
    turns = evalkit(*command, "--protocol", "lmms-eval", "--name", "turns", cwd=tmp_path)
    assert turns.returncode == 0, turns.stderr
    base = ("run", "-t", "vqav2", "-m", str(published / "Qwen-VL"), "--data", "tiny", "--limit", "2")
    done = evalkit(*base, "--protocol", "lmms-eval", "--family", "qwen-vl-chat", cwd=tmp_path)
    assert done.returncode == 2
    assert "no chat template, so it cannot take conversations; choose the --family" in said(done)


def test_dry_run_prints_exact_prompt(evalkit: Evalkit, published: Path, tmp_path: Path) -> None:
    command = ("run", "-m", str(published / "Qwen-VL-Chat"), "--data", "tiny", "--limit", "1", "--dry-run")
    done = evalkit(*command, "-t", "refcoco/val", "--shots", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    prompt = next(line for line in done.stdout.splitlines() if "<img>" in line).strip(" │")
    example, question = prompt.removeprefix("<img></img>").split("<img></img>")
    assert example.startswith("<ref>")
    assert example.endswith(")</box>")
    assert "</ref><box> (" in example
    assert question.startswith("<ref>")
    assert question.endswith("</ref><box>")
    assert "resized to 448 × 448" in done.stdout
    assert "greedy, 10 to 28 new tokens" in done.stdout
    done = evalkit(*command, "-t", "vqav2", "--protocol", "lmms-eval", cwd=tmp_path)
    lines = [line.partition("│")[2].strip() for line in done.stdout.splitlines() if "│" in line]
    assert lines[:4] == [
        "<|im_start|>system",
        "You are a helpful assistant.<|im_end|>",
        "<|im_start|>user",
        "Picture 1: <img></img>",
    ]
    assert lines[-2:] == ["<|im_start|>assistant", ""]


def test_letters_are_ranked_as_in_its_own_evaluation(evalkit: Evalkit, published: Path, tmp_path: Path) -> None:
    """By default, and under other protocols; the choice is recorded."""
    command = ("run", "-t", "scienceqa_img", "-m", str(published / "Qwen-VL"), "--data", "tiny", "--limit", "1")
    shown = evalkit(*command, "--dry-run", cwd=tmp_path).stdout
    assert "ranked: ' A' / ' B'" in shown
    for more in (("--choice", "generate"), ("--protocol", "lmms-eval")):
        assert "ranked" not in evalkit(*command, *more, "--dry-run", cwd=tmp_path).stdout
    assert evalkit(*command, "--name", "x", cwd=tmp_path).returncode == 0
    record = manifest(tmp_path / "runs" / "x")
    assert record["settings"]["choice"] == record["parts"]["choice"] == "loglikelihood"
    assert "|choice:loglikelihood|" in record["splits"]["scienceqa_img/test"]["signature"]
    assert answers(tmp_path / "runs" / "x", "scienceqa_img.test")[0]["text"].startswith(" ")


def test_text_only_qwen_is_refused(evalkit: Evalkit, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    del config["visual"]
    (broken / "config.json").write_text(json.dumps(config))
    for more in ((), ("--dry-run",)):
        done = evalkit(
            "run", "-t", "vqav2", "-m", str(broken), "--data", "tiny", "--limit", "1", *more, cwd=broken.parent
        )
        assert done.returncode == 2
        assert "this is a text-only Qwen (its config.json has no 'visual' part); use Qwen-VL" in said(done)
        assert done.stderr.count("error:") == 1
    assert not (broken.parent / "runs").exists()


def test_missing_tiktoken_names_the_package(
    evalkit: Evalkit, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    command = ("run", "-t", "vqav2", "-m", str(published / "Qwen-VL"), "--data", "tiny", "--limit", "1")
    for more in ((), ("--dry-run",)):
        done = evalkit(*command, *more, cwd=tmp_path)
        assert done.returncode == 2
        assert f"Qwen-VL's tokenizer needs tiktoken; install it with: {install_command('qwen-vl')}" in said(done)
        assert "Traceback" not in done.stderr


def test_truncated_file(evalkit: Evalkit, published: Path, broken: Path) -> None:
    done = evalkit("verify", str(published / "Qwen-VL"), "--device", "cpu", cwd=broken.parent)
    assert done.returncode == 0, done.stdout
    path = broken / "pytorch_model-00002-of-00003.bin"
    path.write_bytes(path.read_bytes()[:-5000])
    done = evalkit("verify", str(broken), cwd=broken.parent)
    assert done.returncode == 1
    assert "pytorch_model-00002-of-00003.bin is truncated" in done.stdout
    done = evalkit("run", "-t", "vqav2", "-m", str(broken), "--data", "tiny", "--limit", "1", cwd=broken.parent)
    assert done.returncode == 2
    assert "the checkpoint could not be loaded" in said(done)


def test_pickles_of_other_architectures_need_permission(evalkit: Evalkit, broken: Path) -> None:
    (broken / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    done = evalkit("run", "-t", "vqav2", "-m", str(broken), "--data", "tiny", "--limit", "1", cwd=broken.parent)
    assert done.returncode == 2
    assert "has no *.safetensors weights" in said(done)
    assert "only under --allow-pickled-weights" in said(done)
