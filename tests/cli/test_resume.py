"""Runs that are stopped, continued, or no longer the same: with real processes, files and signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.checkpoint import bundled_folder
from evalkit.data import bundled_root

from ..processes import PAUSED, Forked
from ..run_folders import compared, complete_lines, lines_of, raw_lines, runs_in, state_of, values_of


@pytest.fixture
def evalkit(evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The command line, in a folder of its own: (exit code, stderr)."""

    def call(*arguments: str) -> tuple[int, str]:
        done = evalkit(*arguments, cwd=tmp_path)
        return done.returncode, " ".join(done.stderr.split())

    return call


VQA = ("run", "-t", "vqav2", "--data", "tiny", "--limit", "12")


# ----------------------------------------------------------------------------------------------------- being stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_run_after_its_batch(tmp_path: Path, number: int) -> None:
    command = ("run", "-t", "vqav2", "--data", "tiny", "--batch-size", "2", "--name", "x")
    process = Forked(*command, cwd=tmp_path, before=PAUSED)
    journal = tmp_path / "runs" / "x" / "vqav2.val.jsonl"
    process.wait_for(lambda: complete_lines(journal) > 0)
    process.send_signal(number)
    (tmp_path / "go").touch()
    code, said = process.finish()
    assert code == 1, said
    done = len(lines_of(journal))
    assert 0 < done < 324
    assert f"Stopped at {done} of 324 samples. Run the same command to resume." in said
    assert "Traceback" not in said
    assert state_of(journal.parent) == "stopped"
    assert not (journal.parent / "scores.json").exists(), "half a split has no score"


def test_full_disk(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    """A limit on the size of files stands for it; with room again, the same command continues."""
    command = ("run", "-t", "vqav2", "--data", "tiny", "--limit", "60", "--name", "x")
    limited = Forked(*command, cwd=tmp_path, largest=9000)
    code, said = limited.finish()
    run = tmp_path / "runs" / "x"
    assert code == 1, said
    assert "vqav2.val.jsonl cannot be written (File too large); earlier results are kept. Free some disk space" in said
    assert "Traceback" not in said
    before = raw_lines(run)["vqav2.val.jsonl"]
    assert 5 < len(before) < 60
    code, said = evalkit(*command)
    assert code == 0, said
    assert "vqav2.val.jsonl: the last line is truncated; re-running its sample" in said
    assert set(before) <= set(raw_lines(run)["vqav2.val.jsonl"])
    assert len(lines_of(run / "vqav2.val.jsonl")) == 60
    assert state_of(run) == "complete"


def test_where_nothing_can_be_written(evalkit: Callable[..., tuple[int, str]]) -> None:
    code, said = evalkit(*VQA, "--out", "/proc/evalkit")
    assert code == 2
    assert "--out /proc/evalkit: the folder" in said
    assert "cannot be created" in said


# ------------------------------------------------------------------------------------------------------- continuing


def test_complete_answers_are_not_generated_again(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    code, said = evalkit(*VQA)
    assert (code, "loaded in" in said) == (0, True)
    (run,) = runs_in(tmp_path)
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.suffix == ".jsonl" or p.name == "scores.json"}
    code, said = evalkit(*VQA, "--batch-size", "5")
    assert code == 0
    assert "loaded in" not in said, "no weights are needed"
    assert "vqav2/val: 0 answered in" in said
    assert "12 resumed" in said
    assert runs_in(tmp_path) == [run]
    assert {name: (run / name).read_bytes() for name in before} == before
    manifest = json.loads((run / "manifest.json").read_text())
    assert [command["state"] for command in manifest["history"]] == ["complete", "complete"]
    assert manifest["backend"]["dtype"] == "float32"
    assert manifest["splits"]["vqav2/val"]["signature"].startswith("vqav2:val|v1|protocol:official|shots:0|")
    assert "run folder" in (run / "log.txt").read_text()


def test_larger_limit_and_more_tasks_continue(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*VQA)[0] == 0
    code, said = evalkit("run", "-t", "vqav2,refcoco/val", "--data", "tiny", "--limit", "20")
    assert code == 0
    assert re.search(r"vqav2/val: 8 answered in [0-9.]+ s, 12 resumed", said)
    (run,) = runs_in(tmp_path)
    assert {name: value[2] for name, value in values_of(run).items()} == {"vqav2/val": 20, "refcoco/val": 20}
    assert evalkit("run", "-t", "vqav2", "--data", "tiny", "--limit", "5")[0] == 0
    assert len(lines_of(run / "vqav2.val.jsonl")) == 20, "answers beyond a smaller limit stay"
    assert {name: value[2] for name, value in values_of(run).items()} == {"vqav2/val": 5, "refcoco/val": 20}
    assert evalkit("rescore", str(run))[0] == 0
    assert "| refcoco | val |" in (run / "leaderboard.md").read_text()


def test_another_batch_size_continues(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    command = ("run", "-t", "vqav2,refcoco/val", "--data", "tiny")
    assert evalkit(*command, "--limit", "40", "--out", "whole")[0] == 0
    for limit, size in ((7, 2), (23, 5), (40, 3)):
        assert evalkit(*command, "--limit", str(limit), "--batch-size", str(size))[0] == 0
    (run,), (whole,) = runs_in(tmp_path), (tmp_path / "whole").iterdir()
    assert compared(run) == compared(whole)
    assert values_of(run) == values_of(whole)


def test_two_runs_of_one_command_are_equal(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    for out in ("a", "b"):
        assert evalkit(*VQA, "--out", out)[0] == 0
    (one,), (other,) = (list((tmp_path / out).iterdir()) for out in ("a", "b"))
    assert one.name == other.name
    assert compared(one) == compared(other)
    assert values_of(one) == values_of(other)


def test_only_the_corrupt_line_is_answered_again(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*VQA)[0] == 0
    (run,) = runs_in(tmp_path)
    whole, before = compared(run), values_of(run)
    journal = run / "vqav2.val.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"finish"', b'"finis"')
    journal.write_bytes(b"".join(lines))
    code, said = evalkit(*VQA)
    assert code == 0
    assert "vqav2.val.jsonl: line 4 is corrupt (its checksum is wrong); re-running its sample" in said
    assert "vqav2/val: 1 answered in" in said
    assert compared(run) == whole
    assert values_of(run) == before
    assert (run / "vqav2.val.jsonl.rejected").read_bytes() == lines[3]


def test_fresh_starts_over(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*VQA)[0] == 0
    code, said = evalkit(*VQA, "--fresh")
    assert code == 0
    assert "the existing run was moved to runs/.replaced/tiny-" in said
    assert "12 answered in" in said
    assert len(runs_in(tmp_path)) == 1


# --------------------------------------------------------------------------------------------------------- identity


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint and data to be changed."""
    shutil.copytree(bundled_root(), tmp_path / "data")
    shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt")
    return tmp_path


OURS = ("run", "-t", "vqav2", "-m", "ckpt", "--data", "data", "--limit", "8")
IMAGES = Path("data") / "coco" / "val2014"
QUESTIONS = Path("data") / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json"


def test_weights_overwritten_in_place_change_the_identity(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    command = ("run", "-t", "refcoco/val", *OURS[3:])
    assert evalkit(*command)[0] == 0
    early = bundled_folder("tiny-early") / "model.safetensors"
    with (here / "ckpt" / "model.safetensors").open("r+b") as file:
        assert os.fstat(file.fileno()).st_size == early.stat().st_size
        file.write(early.read_bytes())
    code, said = evalkit(*command)
    assert code == 0
    assert re.search(r"new run, since runs/ckpt-\w+ differs \(weights: \w+… → \w+…\)", said)
    assert "8 answered in" in said
    first, second = runs_in(here)
    assert compared(first) != compared(second)


def test_changed_question_or_seed_changes_the_identity(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*OURS)[0] == 0
    code, said = evalkit(*OURS, "--seed", "1")
    assert code == 0
    assert "(seed: 0 → 1)" in said
    content = json.loads((here / QUESTIONS).read_text())
    content["questions"][-1]["question"] += "?"
    (here / QUESTIONS).write_text(json.dumps(content))
    code, said = evalkit(*OURS)
    assert code == 0
    assert "(vqav2/val: annotations: " in said
    assert len(runs_in(here)) == 3
    content["questions"][-1]["question"] = content["questions"][-1]["question"][:-1]
    (here / QUESTIONS).write_text(json.dumps(content, indent=1))
    code, said = evalkit(*OURS)
    assert "vqav2/val: 0 answered in" in said, "the same questions, in another layout of the file"


def test_renamed_folder_resumes_run(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*OURS)[0] == 0
    (here / "data").rename(here / "moved")
    (here / "ckpt").rename(here / "other-name")
    code, said = evalkit("run", "-t", "vqav2", "-m", "other-name", "--data", "moved", "--limit", "8")
    assert code == 0
    assert "vqav2/val: 0 answered in" in said
    (run,) = runs_in(here)
    assert f"resuming runs/{run.name}: its model ckpt is now other-name" in said


def test_copied_checkpoint_has_its_own_run(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*OURS)[0] == 0
    shutil.copytree(here / "ckpt", here / "copy")
    code, said = evalkit(*OURS[:4], "copy", *OURS[5:])
    assert code == 0
    first, second = sorted(runs_in(here))
    assert (first.name.partition("-")[0], second.name.partition("-")[0]) == ("ckpt", "copy")
    assert f"copy is identical to the model of runs/{first.name}: its answers are reused" in said
    assert "vqav2/val: 0 answered in" in said
    assert compared(first) == compared(second)
    assert [json.loads((run / "scores.json").read_text())["model"] for run in (first, second)] == ["ckpt", "copy"]


def test_changed_image_is_answered_again(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*OURS)[0] == 0
    (run,) = runs_in(here)
    rows = lines_of(run / "vqav2.val.jsonl")
    image = rows[0]["images"][0]
    touched = [row["id"] for row in rows if row["images"] == [image]]
    other = next(row["images"][0] for row in rows if row["images"] != [image])
    (here / image).write_bytes((here / other).read_bytes())
    code, said = evalkit(*OURS)
    assert code == 0
    assert f"vqav2/val: re-running {len(touched)} samples: image changed ({', '.join(sorted(touched)[:3])}" in said
    assert f"vqav2/val: {len(touched)} answered in" in said
    after = {row["id"]: row["digests"] for row in lines_of(run / "vqav2.val.jsonl")}
    assert len(after) == 8
    assert {row["id"] for row in rows if after[row["id"]] != row["digests"]} == set(touched)


def test_removed_image(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    assert evalkit(*OURS)[0] == 0
    (run,) = runs_in(here)
    before = compared(run)
    image = here / lines_of(run / "vqav2.val.jsonl")[0]["images"][0]
    image.unlink()
    code, said = evalkit(*OURS)
    assert code == 2
    assert f"{image.name} is missing; complete the download, or give --allow-missing" in said
    code, said = evalkit(*OURS, "--allow-missing")
    assert code == 0, "its answers were given while it was there"
    assert compared(run) == before


# ----------------------------------------------------------------------------------------------------- failing well


def test_model_with_nan_logits(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    file = here / "ckpt" / "model.safetensors"
    weights = load_file(file)
    whole = {name: value.clone() for name, value in weights.items()}
    norm = next(name for name in weights if name.endswith("norm.weight"))
    weights[norm] = torch.full_like(weights[norm], float("nan"))
    save_file(weights, file, metadata={"format": "pt"})
    code, said = evalkit(*OURS, "--name", "x")
    assert code == 1
    assert "8 samples failed" in said
    (row,) = json.loads((here / "runs" / "x" / "scores.json").read_text())["results"]
    assert (row["value"], row["n"], row["errors"]) == (None, 0, 8)
    assert (
        "the model's logits are NaN; try another --dtype"
        in lines_of(here / "runs" / "x" / "vqav2.val.jsonl")[0]["error"]
    )

    code, said = evalkit(*OURS, "--name", "x", "--max-errors", "3")
    assert code == 1
    assert "re-running 8 samples: failed before" in said
    assert "4 samples failed (--max-errors 3; last error: ArithmeticError" in said
    assert state_of(here / "runs" / "x").startswith("failed: vqav2/val: 4 samples failed")
    assert whole.keys() == weights.keys()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../../../secret.jpg", "is outside"),
        ("/etc/passwd", "is outside"),
    ],
)
def test_annotations_with_paths_outside_the_data(
    here: Path, evalkit: Callable[..., tuple[int, str]], name: str, sentence: str
) -> None:
    file = here / "data" / "docvqa" / "val_v1.0_withQT.json"
    content = json.loads(file.read_text())
    content["data"][0]["image"] = name
    file.write_text(json.dumps(content))
    code, said = evalkit("run", "-t", "docvqa", "--data", "data")
    assert code == 2
    assert sentence in said
    assert name in said


def test_malicious_pickle(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    (here / "data" / "refcoco" / "refs(unc).p").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    code, said = evalkit("run", "-t", "refcoco", "--data", "data")
    assert code == 2
    assert "refs(unc).p is not a readable annotation pickle (it refers to os.system)" in said
    assert not (here / "executed").exists()


def test_enormous_image(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    """50,000 × 50,000 pixels in a PNG of 300 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    side = 50_000
    packer = zlib.compressobj(1)
    row = bytes(1 + side // 8)
    packed = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    image = here / IMAGES / "COCO_val2014_000000000002.jpg"
    image.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )  # fmt: skip
    code, said = evalkit("run", "-t", "vqav2", "--data", "data")
    assert code == 2
    assert f"{image.name} cannot be read (a corrupt image, or too large" in said


def test_pickled_weights_need_permission(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    file = here / "ckpt" / "model.safetensors"
    torch.save(load_file(file), here / "ckpt" / "pytorch_model.bin")
    file.unlink()
    code, said = evalkit(*OURS)
    assert code == 2
    assert "pickled ones can execute anything and are loaded only under --allow-pickled-weights" in said
    code, said = evalkit(*OURS, "--allow-pickled-weights")
    assert code == 0, said
    (run,) = runs_in(here)
    assert evalkit(*OURS[:3], "-m", "tiny", *OURS[5:])[0] == 0
    ours, bundled = (compared(r) for r in (run, next(r for r in runs_in(here) if r != run)))
    assert [json.loads(line)["text"] for line in ours["vqav2.val.jsonl"]] == [
        json.loads(line)["text"] for line in bundled["vqav2.val.jsonl"]
    ]


def test_unloadable_checkpoint_leaves_no_folder(here: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    (here / "ckpt" / "model.safetensors").write_bytes(b"torn")
    code, said = evalkit(*OURS)
    assert code == 2
    assert "the checkpoint could not be loaded" in said
    assert not (here / "runs").exists()
