"""Prompts of a run: few-shot examples, protocols, families, multiple choice, image sizes; and ``--dry-run``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit import registry
from evalkit.api import load_task
from evalkit.checkpoint import bundled_folder, resolve_checkpoint
from evalkit.runner import dry_run

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split())


def lines(run: Path, split: str) -> dict[str, Any]:
    rows = [json.loads(line) for line in (run / f"{split}.jsonl").read_text().splitlines()]
    return {row["id"]: row for row in rows}


def rows_of(run: Path) -> dict[str, Any]:
    rows = json.loads((run / "scores.json").read_text())["results"]
    return {f"{row['task']}/{row['split']}": row for row in rows}


# -------------------------------------------------------------------------------------------------------------- examples


def test_sweep_of_shots_is_one_table_and_one_image(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "-t", "vqav2,refcoco/val,textvqa", "--limit", "5", "--data", "tiny")
    done = evalkit(*command, "--shots", "0,1,2,4,8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiny (8-shot)" in done.stdout
    assert done.stdout.count("vqav2") >= 1
    runs = {
        json.loads((p / "manifest.json").read_text())["shots"]: p for p in (tmp_path / "runs").iterdir() if p.is_dir()
    }
    assert sorted(runs) == [0, 1, 2, 4, 8]
    (image,) = (tmp_path / "runs").glob("shots-*.png")
    assert str(image.relative_to(tmp_path)) in said(done)
    assert min(Image.open(image).size) > 400
    for split in ("vqav2.val", "refcoco.val", "textvqa.val"):
        plain = lines(runs[0], split)
        changed = 0
        for shots, run in runs.items():
            for key, row in lines(run, split).items():
                # The examples' images reach the model: each is 16 visual tokens here, and a frame of its own.
                assert len(row["images"]) == len(row["frames"]) == len(row["digests"]) == shots + 1
                assert row["images"][-1] == plain[key]["images"][0]
                assert len(set(row.get("shots", []))) == shots
                assert row["prompt_tokens"] >= plain[key]["prompt_tokens"] + shots * 16
                changed += row["text"] != plain[key]["text"]
        assert changed or split == "vqav2.val", f"{split}: examples change nothing"
    signatures = {rows_of(run)["vqav2/val"]["signature"] for run in runs.values()}
    assert len(signatures) == 5
    assert any("|protocol:official|shots:4-random|" in signature for signature in signatures)


def test_examples_for_captions(evalkit: Evalkit, tmp_path: Path) -> None:
    """Shown, not run: to score captions takes two Java machines."""
    done = evalkit(
        "run", "-t", "coco_caption", "--data", "tiny", "--limit", "1", "--shots", "2", "--dry-run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resized to") == done.stdout.count("<|image_pad|>") == 3
    pool = {sample.id: sample.references[0] for sample in load_task("coco_caption/train", data="tiny")}
    (ids,) = re.findall(r"examples (.*)", done.stdout)
    for name in ids.split(", "):
        assert f"{pool[name]}<|im_end|>" in done.stdout


def test_examples_do_not_depend_on_batching(evalkit: Evalkit, tmp_path: Path) -> None:
    def chosen(*options: str, out: str) -> dict[str, list[str]]:
        done = evalkit("run", "-t", "vqav2", "--data", "tiny", "--shots", "3", "--out", out, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (run,) = (p for p in (tmp_path / out).iterdir() if p.is_dir())
        return {key: row["shots"] for key, row in lines(run, "vqav2.val").items()}

    whole = chosen("--limit", "20", "--batch-size", "7", out="a")
    assert chosen("--limit", "20", "--batch-size", "1", out="b") == whole
    few = chosen("--limit", "6", out="c")
    assert few.items() <= whole.items()
    assert chosen("--limit", "20", out="c") == whole, "continued"
    assert chosen("--limit", "20", "--seed", "1", out="d") != whole
    (one,) = {tuple(ids) for ids in chosen("--limit", "6", "--shots-by", "fixed", out="e").values()}
    assert len(one) == 3
    train = {s.id for s in load_task("vqav2/train", data="tiny")}
    assert {i for ids in whole.values() for i in ids} <= train


def test_similar_examples(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "-t", "vqav2", "--data", "tiny", "--limit", "4", "--shots", "2", "--shots-by", "similar")
    for out in ("a", "b"):
        assert evalkit(*command, "--out", out, cwd=tmp_path).returncode == 0
    first, second = (lines(next(p for p in (tmp_path / o).iterdir()), "vqav2.val") for o in ("a", "b"))
    assert {k: r["shots"] for k, r in first.items()} == {k: r["shots"] for k, r in second.items()}
    assert len({tuple(r["shots"]) for r in first.values()}) > 1


def test_examples_from_file_for_real_photographs(evalkit: Evalkit, real_root: str, tmp_path: Path) -> None:
    """Questions about other images of that folder, as a file of one's own."""
    samples = list(load_task("textvqa/val", data=real_root))
    others = list(load_task("vqav2/val", data=real_root))[:30]
    rows = [
        {"id": s.id, "image": s.images[0].name, "question": s.text, "answers": list(s.references)} for s in others
    ]  # fmt: skip
    (tmp_path / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for shots in ("0", "1", "4", "8"):
        done = evalkit(
            "run", "-t", "textvqa", "--data", real_root, "--limit", "3", "--shots", shots, "--shots-from", "shots.jsonl",
            "--max-pixels", "12544", "--name", f"r{shots}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = lines(tmp_path / "runs" / f"r{shots}", "textvqa.val")
        assert len(found) == 3
        assert {len(row["frames"]) for row in found.values()} == {int(shots) + 1}
        for row in found.values():  # a visual token is 28 × 28 pixels
            visual = sum(w * h // 28**2 for w, h in (frame["resized"] for frame in row["frames"]))
            assert row["prompt_tokens"] > visual >= int(shots) + 1
        assert {i for row in found.values() for i in row.get("shots", [])} <= {s.id for s in others}
    assert samples


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-t", "vqav2", "--shots", "many"], "--shots many: give a number of examples"),
        (["-t", "vqav2", "--shots", "-1"], "--shots -1: give a number of examples"),
        (["-t", "vqav2/train", "--shots", "1"], "which is evaluated itself; give --shots-from FILE"),
        (
            ["-t", "vqav2", "--shots", "1", "--shots-by", "luck"],
            "--shots-by luck: unknown; use random, fixed or similar",
        ),
        (["-t", "vqav2", "--shots", "9999"], "vqav2/train has only"),
        (["-t", "vqav2", "--shots", "1", "--shots-from", "absent.jsonl"], "absent.jsonl: the file cannot be read"),
        (["-t", "vqav2", "--shots", "0,2", "--name", "x"], "2 numbers of shots make 2 runs; drop --name"),
        (["-t", "vqav2", "--protocol", "mine"], "--protocol mine: unknown; use official, lmms-eval or vlmevalkit"),
        (["-t", "vqav2", "--choice", "guess"], "--choice guess: unknown; use generate or loglikelihood"),
        (
            ["-t", "vqav2", "--shots", "1", "--family", "paligemma"],
            "paligemma take one image per prompt; leave out --shots",
        ),
        (["-t", "vqav2", "--family", "qwen9"], "unknown model family 'qwen9'"),
        (["-t", "vqav2", "--min-pixels", "9", "--max-pixels", "4"], "--min-pixels 9 is more than --max-pixels 4"),
        (["-t", "vqav2", "--max-pixels", "0"], "--max-pixels 0: give at least 1"),
        (["-t", "vqav2", "--adapter", "absent"], "--adapter absent"),
    ],
)
def test_usage_errors(evalkit: Evalkit, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = evalkit("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in said(done)
    assert not (tmp_path / "runs").exists(), "nothing is left behind by a mistake"


# -------------------------------------------------------------------------------------- protocols, families, choices


def test_protocol_is_part_of_the_identity(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "-t", "vqav2", "--data", "tiny", "--limit", "6")
    assert evalkit(*command, cwd=tmp_path).returncode == 0
    done = evalkit(*command, "--protocol", "lmms-eval", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "protocol: official → lmms-eval" in said(done)
    assert "protocol:lmms-eval" in done.stdout
    runs = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    assert len(runs) == 2
    prompts = [{row["prompt"] for row in lines(run, "vqav2.val").values()} for run in runs]
    assert not prompts[0] & prompts[1]
    for run in runs:
        assert "vqav2/val: unchanged" in said(evalkit("rescore", str(run), cwd=tmp_path))


def test_protocol_that_does_not_know_task_is_refused(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit(
        "run", "-t", "scienceqa_img,vqav2", "--data", "tiny", "--protocol", "lmms-eval", "--limit", "2", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    (tmp_path / "mine.jsonl").write_text('{"id": 1, "image": "a.png", "question": "?", "answers": ["yes"]}\n')
    done = evalkit("run", "-t", "mine.jsonl", "--protocol", "lmms-eval", cwd=tmp_path)
    assert done.returncode == 2
    assert "lmms-eval has no prompt for mine" in said(done)


def test_boxes_are_read_as_protocols_prompt_asks_for_them(evalkit: Evalkit, tmp_path: Path) -> None:
    """lmms-eval asks for fractions of the image; the tiny checkpoint answers in pixels all the same: nothing is right."""
    done = evalkit(
        "run",
        "-t",
        "refcoco/val",
        "--data",
        "tiny",
        "--limit",
        "6",
        "--protocol",
        "lmms-eval",
        "--name",
        "x",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    row = rows_of(tmp_path / "runs" / "x")["refcoco/val"]
    assert row["value"] == 0
    assert "protocol:lmms-eval" in row["signature"]


def test_multiple_choice_by_letter_and_log_likelihood(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "-t", "scienceqa_img", "--data", "tiny", "--limit", "30")
    for mode in ("generate", "loglikelihood"):
        done = evalkit(*command, "--choice", mode, "--name", mode, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    written, ranked = (
        rows_of(tmp_path / "runs" / mode)["scienceqa_img/test"] for mode in ("generate", "loglikelihood")
    )
    assert written["n"] == ranked["n"] == 30
    assert "choice:loglikelihood" in ranked["signature"]
    assert "choice" not in written["signature"].replace("choice_accuracy", "")
    assert ranked["unparsed"] == 0
    assert ranked["value"] > 40
    texts = {row["text"] for row in lines(tmp_path / "runs" / "loglikelihood", "scienceqa_img.test").values()}
    assert texts <= set("ABCDE")


def test_unknown_architecture_uses_generic_prompts(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit(
        "run", "-t", "vqav2", "--data", "tiny", "--limit", "3", "--family", "generic", "--dry-run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Answer the question using a single word or phrase." in done.stdout


def test_image_limits_are_part_of_the_identity(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "-t", "refcoco/val", "--data", "tiny", "--limit", "4")
    assert evalkit(*command, cwd=tmp_path).returncode == 0
    done = evalkit(*command, "--max-pixels", "6272", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "max_pixels: none → 6272" in said(done)
    sizes = [
        {tuple(row["frames"][0]["resized"]) for row in lines(run, "refcoco.val").values()}
        for run in sorted((tmp_path / "runs").iterdir(), key=lambda p: p.stat().st_mtime)
    ]
    assert all(w * h <= 6272 for w, h in sizes[1])
    assert not sizes[0] & sizes[1]


# --------------------------------------------------------------------------------------------------------------- dry run


def test_dry_run_shows_everything_and_loads_no_weights(evalkit: Evalkit, tmp_path: Path) -> None:
    shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt")
    (tmp_path / "ckpt" / "model.safetensors").write_bytes(b"never read")
    command = ("run", "-t", "vqav2,refcoco/val", "-m", "ckpt", "--data", "tiny", "--shots", "1")
    done = evalkit(*command, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "runs").exists()
    shown = done.stdout
    assert "ckpt: vqav2/val, 324 samples" in shown
    assert "family qwen2.5-vl, protocol official, 1 shots (random); greedy" in shown
    assert "<|im_start|>user" in shown
    assert "Please try to answer the question with short words or phrases if possible." in shown
    assert "resized to 112 × 112" in shown
    assert "0 to 128 new tokens" in shown
    first = next(iter(load_task("vqav2/val", data="tiny")))
    assert f"sample {first.id}" in shown
    real = evalkit(*command[:3], "-m", "tiny", *command[5:], "--limit", "400", "--name", "x", cwd=tmp_path)
    assert real.returncode == 0, real.stderr
    tokens = lines(tmp_path / "runs" / "x", "vqav2.val")[first.id]["prompt_tokens"]
    assert f"sample {first.id}: {tokens:,} tokens" in shown


@pytest.mark.parametrize("protocol", ["official", "lmms-eval", "vlmevalkit"])
def test_every_task_shows_its_prompts(evalkit: Evalkit, tmp_path: Path, protocol: str) -> None:
    for task in registry.tasks.all():
        done = evalkit("tasks", task.name, "--protocol", protocol, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\nprompt ") == len(registry.families.all())
        assert f"|protocol:{protocol}|shots:0|" in "".join(done.stdout.split())
    assert "not defined" in done.stdout or protocol == "official"


def test_long_prompts_are_reported_before_loading(
    evalkit: Evalkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "LONG", 70)
    Image.new("RGB", (560, 280)).save(tmp_path / "large.png")
    Image.new("RGB", (28, 28)).save(tmp_path / "small.png")
    rows = [{"id": n, "image": f"{n}.png", "question": "?", "answers": ["yes"]} for n in ("small", "large")]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit("run", "-t", "mine.jsonl", "--max-pixels", "200000", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tokens = {key: row["prompt_tokens"] for key, row in lines(tmp_path / "runs" / "x", "mine.own").items()}
    assert tokens["large"] >= 20 * 10 > tokens["small"]
    warning = f"mine/own: prompts of up to {tokens['large']} tokens (sample large, an image of 560 × 280 pixels)"
    assert warning in said(done)
    assert said(done).index(warning) < said(done).index("loaded in")
    monkeypatch.setattr(dry_run, "LONG", 8192)
    assert "prompts of up to" not in said(evalkit("run", "-t", "mine.jsonl", "--max-pixels", "200001", cwd=tmp_path))


def test_quantization_is_part_of_the_identity() -> None:
    checkpoint = resolve_checkpoint("tiny")
    quantised = replace(checkpoint, config={**checkpoint.config, "quantization_config": {"quant_method": "awq"}})
    backend = registry.backends.get("hf")
    plain, packed = (backend.identity(c, device="cpu", dtype="float32") for c in (checkpoint, quantised))
    assert (plain["quantization"], packed["quantization"]) == (None, "awq")


# -------------------------------------------------------------------------------------------------------------- decoding


def test_decoding_from_command_line_is_in_answers_signature_and_identity(evalkit: Evalkit, tmp_path: Path) -> None:
    command = ("run", "-t", "refcoco/val", "--limit", "8", "--data", "tiny", "--out", str(tmp_path))
    texts = {}
    for name, options in {
        "greedy": (),
        "drawn": ("--temperature", "2", "--top-k", "30"),
        "again": ("--temperature", "2", "--top-k", "30", "--batch-size", "3"),
        "cut": ("--stop", ",", "--max-new-tokens", "30"),
    }.items():
        done = evalkit(*command, "--name", name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        texts[name] = {key: row["text"] for key, row in lines(tmp_path / name, "refcoco.val").items()}
    assert texts["greedy"] != texts["drawn"] == texts["again"]
    assert texts["cut"] == {key: text.partition(",")[0] for key, text in texts["greedy"].items()}
    signature = rows_of(tmp_path / "drawn")["refcoco/val"]["signature"]
    assert "|decoding:temperature=2.0,top_k=30,seed=0|" in signature
    assert "decoding" not in rows_of(tmp_path / "greedy")["refcoco/val"]["signature"]
    done = evalkit(*command, "--name", "drawn", cwd=tmp_path)  # greedily: another run
    assert "decoding" in said(done)
    done = evalkit("compare", str(tmp_path / "greedy"), str(tmp_path / "drawn"), cwd=tmp_path)
    assert done.returncode == 2
    assert "temperature" in said(done)


def test_example_boxes_use_the_checkpoints_frame(evalkit: Evalkit, tmp_path: Path) -> None:
    """Its processor's limits, not those that its family was released with; read back from what is shown."""
    shutil.copytree(bundled_folder("tiny"), tmp_path / "ckpt", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "ckpt" / "model.safetensors").touch()
    settings = json.loads((tmp_path / "ckpt" / "processor_config.json").read_text())
    settings["image_processor"]["size"] = {"shortest_edge": 784, "longest_edge": 6272}
    (tmp_path / "ckpt" / "processor_config.json").write_text(json.dumps(settings))
    command = ("run", "-t", "refcoco/val", "-m", "ckpt", "--data", "tiny", "--shots", "2", "--limit", "2", "--dry-run")
    done = evalkit(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pool = {sample.id: sample for sample in load_task("refcoco/train", data="tiny")}
    ids = [name for found in re.findall(r"examples (.*)", done.stdout) for name in found.split(", ")]
    sizes = re.findall(r"(\d+) × (\d+) pixels, resized to (\d+) × (\d+)", done.stdout)
    boxes = re.findall(r"bbox_2d.*\[(.*?)\]", done.stdout)
    assert len(ids) == len(boxes) == 4
    assert len(sizes) == 6
    of_examples = [size for place, size in enumerate(sizes) if place % 3 < 2]
    for name, size, box in zip(ids, of_examples, boxes, strict=True):
        width, height, wide, high = map(int, size)
        x1, y1, x2, y2 = pool[name].references[0]
        assert wide * high <= 6272 < width * height
        expected = [x1 * wide / width, y1 * high / height, x2 * wide / width, y2 * high / height]
        assert [int(v) for v in box.split(",")] == pytest.approx(expected, abs=0.5)
