"""Official annotations and parquet mirrors that were changed at random: refused, or another benchmark that says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit.api import load_task

from ..mutations import Mutation, binary, json_value, pickled, text
from ..official_root import write_official_root
from .accepted import other_benchmark
from .harness import BOTH, Evalkit, Target, called, fuzz

SHORTENED = 6
"""Entries that are kept of the bundled lists: parsing hundreds again and again takes time."""
V2 = ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json")
FILES: dict[str, tuple[str, Mutation, int]] = {
    # file: its split, how it is changed, its share of 5,000
    V2[0]: ("vqav2/val", json_value, 60),
    V2[1]: ("vqav2/val", json_value, 60),
    "textvqa/TextVQA_0.5.1_val.json": ("textvqa/val", json_value, 50),
    "docvqa/val_v1.0_withQT.json": ("docvqa/val", json_value, 50),
    "scienceqa/problems.json": ("scienceqa_img/test", json_value, 60),
    "scienceqa/pid_splits.json": ("scienceqa_img/test", json_value, 30),
    "refcoco/refs(unc).p": ("refcoco/testA", pickled, 80),
    "refcoco/instances.json": ("refcoco/testA", json_value, 50),
    "okvqa/mscoco_val2014_annotations.json": ("okvqa/val", json_value, 30),
    "vizwiz/Annotations/val.json": ("vizwiz/val", json_value, 40),
    "gqa/testdev_balanced_questions.json": ("gqa/testdev_balanced", json_value, 40),
    "chartqa/test/test_human.json": ("chartqa/test", json_value, 40),
    "ocrvqa/dataset.json": ("ocrvqa/test", json_value, 40),
    "infovqa/infographicsVQA_val_v1.0_withQT.json": ("infovqa/val", json_value, 30),
    "ai2d/questions/7.png.json": ("ai2d/test", json_value, 40),
    "ai2d/annotations/7.png.json": ("ai2d/test", json_value, 30),
    "ai2d/ai2d_test_ids.csv": ("ai2d/test", text, 20),
    "omnidocbench/OmniDocBench.json": ("omnidocbench/test", json_value, 60),
}
RED = Image.new("RGB", (300, 300), "red")


def shorten(root: Path) -> None:
    """Keep the first entries of the large bundled files."""
    for file, key in (
        (V2[0], "questions"),
        (V2[1], "annotations"),
        ("textvqa/TextVQA_0.5.1_val.json", "data"),
        ("docvqa/val_v1.0_withQT.json", "data"),
    ):
        content = json.loads((root / file).read_text())
        (root / file).write_text(json.dumps({**content, key: content[key][:SHORTENED]}))
    pids = json.loads((root / "scienceqa/pid_splits.json").read_text())
    problems = json.loads((root / "scienceqa/problems.json").read_text())
    kept = pids["test"][:SHORTENED]
    (root / "scienceqa/pid_splits.json").write_text(json.dumps({"test": kept}))
    (root / "scienceqa/problems.json").write_text(json.dumps({pid: problems[pid] for pid in kept}))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("official") / "root"
    write_official_root(root)
    shorten(root)
    for sample in load_task("refcoco/testA", data="tiny"):  # scoring boxes needs the images' sizes
        file = root / "coco" / "train2014" / Path(sample.images[0].name).name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.images[0].name, file)
    return root


def answer_all(evalkit: Evalkit, folder: Path, data: str, split: str) -> tuple[tuple[str, ...], ...]:
    """Score an answer to every question of ``split`` as the run R; returns the command for a run N."""
    samples = load_task(split, data=str(folder / data) if not data.startswith("hub:") else data)
    boxes = ("--boxes", "pixels") if split.startswith("refcoco") else ()
    answers = [{"id": s.id, "text": s.references[0] if n % 3 else s.references[-1]} for n, s in enumerate(samples)]
    if boxes:
        answers = [{"id": answer["id"], "text": str(list(answer["text"]))} for answer in answers]
    (folder / "p.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    command = ("score", "-t", split, "-p", "p.jsonl", "--data", data, "--skip-missing", *boxes, "--name")
    done = called(evalkit, *command, "R", cwd=folder)
    assert done.returncode == 0, done.stderr
    return ((*command, "N"),)


@BOTH
@pytest.mark.parametrize("file", FILES)
def test_changed_annotations_are_refused_or_another_benchmark(
    evalkit: Evalkit, official: Path, tmp_path: Path, file: str, total: int
) -> None:
    split, mutation, share = FILES[file]
    made = tmp_path / "made"
    folder = Path(file).parts[0]
    shutil.copytree(official / folder, made / "root" / folder)
    if folder == "refcoco":
        shutil.copytree(official / "coco" / "train2014", made / "root" / "coco" / "train2014")
    else:
        (made / "root" / "coco" / "val2014").mkdir(parents=True)
    target = Target(f"root/{file}", mutation, answer_all(evalkit, made, "root", split), share, other_benchmark)
    fuzz(evalkit, made, tmp_path / "copy", file, target, total)


# ------------------------------------------------------------------------------------------------------------ parquet

TEN = ["stop", "stop sign"] * 5
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vqav2/val": ("lmms-lab/VQAv2/data/validation", {"image_id": 3, "question": "What is it?", "answers": TEN, "answer_type": "other"}),
    "scienceqa_img/test": ("lmms-lab/ScienceQA/ScienceQA-IMG/test", {"question": "What?", "choices": ["a", "b"], "answer": 1, "hint": ""}),
    "docvqa/val": ("lmms-lab/DocVQA/DocVQA/validation", {"question": "What?", "answers": ["x", "y"]}),
}  # fmt: skip
IDS = {"vqav2/val": "question_id", "docvqa/val": "questionId"}


@BOTH
@pytest.mark.parametrize("split", ROWS)
def test_changed_parquet_is_refused_or_another_benchmark(
    evalkit: Evalkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, total: int
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "digests"))
    stem, row = ROWS[split]
    path = tmp_path / "made" / "mirror" / f"{stem}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    RED.resize((8, 8)).save(tmp_path / "image.png")
    image = {"bytes": (tmp_path / "image.png").read_bytes(), "path": None}
    ids = [{IDS[split]: number} if split in IDS else {} for number in range(4)]
    pq.write_table(pa.Table.from_pylist([{"image": image, **row, **key} for key in ids]), path)
    made = tmp_path / "made"
    monkeypatch.chdir(made)
    commands = answer_all(evalkit, made, "hub:mirror", split)
    target = Target(str(path.relative_to(made)), binary, commands, 60, other_benchmark)
    fuzz(evalkit, made, tmp_path / "copy", split, target, total)
