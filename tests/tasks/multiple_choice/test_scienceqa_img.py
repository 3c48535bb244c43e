from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.multiple_choice.scienceqa_img import TASK
from evalkit.types import Answered, Prediction

PROBLEM = {
    "question": "Which is farthest north?", "choices": ["Ohio", "Texas", "Maine"], "answer": 2, "hint": "",
    "image": "image.png", "task": "closed choice", "grade": "grade2", "subject": "social science",
    "topic": "geography", "category": "Geography", "skill": "Read a map", "lecture": "Maps …", "solution": "Maine.",
    "split": "test",
}  # fmt: skip
PROBLEMS = {
    "4": PROBLEM,
    "5": {**PROBLEM, "image": None},
    "11": {**PROBLEM, "hint": "Look at the pole.\nIt is up.", "subject": "natural science", "answer": 0},
    "1": {**PROBLEM, "split": "train"},
}
SPLITS = {"train": ["1"], "val": [], "test": ["11", "5", "4"], "minitest": ["4"]}


def _write(root: Path, folder: str = "scienceqa", images: str = "images/") -> Path:
    base = root / folder
    for split, pid in (("test", "4"), ("test", "11"), ("train", "1")):
        (base / images / split / pid).mkdir(parents=True)
        Image.new("RGB", (40, int(pid) + 10)).save(base / images / split / pid / "image.png")
    (base / "problems.json").write_text(json.dumps(PROBLEMS))
    (base / "pid_splits.json").write_text(json.dumps(SPLITS))
    return base


def test_protocol() -> None:
    assert {s: p.size for s, p in TASK.splits.items()} == {"test": 2_017, "train": 6_218}
    assert (TASK.kind, TASK.metric, TASK.decoding.max_new_tokens) == ("choice", "choice_accuracy", 10)
    assert TASK.default_splits == ("test",)


@pytest.mark.parametrize("images", ["images/", ""])
@pytest.mark.parametrize("folder", ["scienceqa", "scienceqa/data/scienceqa", "ScienceQA/data/scienceqa"])
def test_only_problems_with_image_in_splits_order(tmp_path: Path, folder: str, images: str) -> None:
    base = _write(tmp_path, folder, images)
    data = open_data(str(tmp_path))
    samples = list(TASK.load(data, "test"))
    assert [(s.id, s.references, s.cluster) for s in samples] == [("11", ("A",), "11"), ("4", ("C",), "4")]
    assert samples[0].options == ("Ohio", "Texas", "Maine")
    assert Path(samples[0].images[0].name) == base / images / "test" / "11" / "image.png"
    assert samples[0].images[0].size() == (40, 21)
    assert [s.id for s in TASK.load(data, "train")] == ["1"]


def test_hint_stands_before_question(tmp_path: Path) -> None:
    _write(tmp_path)
    hinted, plain = TASK.load(open_data(str(tmp_path)), "test")
    assert hinted.text == "Context: Look at the pole.\nIt is up.\nWhich is farthest north?"
    assert plain.text == "Which is farthest north?"
    assert hinted.meta["hint"] == "Look at the pole.\nIt is up."
    assert plain.meta["hint"] == ""
    assert hinted.meta["question"] == plain.meta["question"] == "Which is farthest north?"
    shown = {hinted.text, *hinted.options}
    assert not any(PROBLEM[secret] in text for secret in ("lecture", "solution") for text in shown)


def test_accuracy_by_subject(tmp_path: Path) -> None:
    _write(tmp_path)
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    scores = registry.metrics.get(TASK.metric).score([Answered(s, Prediction("A")) for s in samples])
    assert scores.values["accuracy[natural science]"] == 100.0
    assert scores.values["accuracy[social science]"] == 0.0


def _problem(**changes: Any) -> Any:
    def change(base: Path) -> None:
        problem = {k: v for k, v in {**PROBLEM, **changes}.items() if v != "gone"}
        (base / "problems.json").write_text(json.dumps({**PROBLEMS, "4": problem}))

    return change


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda b: (b / "problems.json").unlink(), "no problems.json under .*expected scienceqa/problems.json"),
        (lambda b: (b / "pid_splits.json").unlink(), "no pid_splits.json under .*expected scienceqa/pid_splits.json"),
        (lambda b: (b / "problems.json").write_text("{"), "problems.json is not valid JSON"),
        (lambda b: (b / "problems.json").write_text("{}"), "do not fit together .missing '11'"),
        (lambda b: (b / "problems.json").write_text("[]"), "do not fit together"),
        (lambda b: (b / "pid_splits.json").write_text('{"val": []}'), "no 'test' in pid_splits.json; expected the one of lupantech"),
        (lambda b: (b / "images").rename(b / "elsewhere"), "no test under .*expected scienceqa/images/test or scienceqa/test"),
        (_problem(image="gone"), "no 'image' in problem 4 of .*; expected problems.json"),
        (_problem(question="gone"), "no 'question' in problem 4 of"),
        (_problem(choices="gone"), "no 'choices' in problem 4 of"),
        (_problem(answer="gone"), "no 'answer' in problem 4 of"),
        (_problem(answer=3), "problem 4 of .* has 3 options but calls 3 the right one"),
        (_problem(answer=None), "problem 4 of .* has 3 options but calls None the right one"),
    ],
)  # fmt: skip
def test_wrong_files_are_reported(tmp_path: Path, break_it: Any, message: str) -> None:
    break_it(_write(tmp_path))
    with pytest.raises(UserError, match=f"^scienceqa_img: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # datasets keys its cache of a local folder by its README alone, so two mirrors with equal ones would share rows.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _mirror(root: Path, right: list[int], without: str = "") -> None:
    buffer = io.BytesIO()
    Image.new("L", (20, 10), 70).save(buffer, "PNG")
    text = datasets.Value("string")
    rows: dict[str, list[Any]] = {
        "image": [{"bytes": buffer.getvalue(), "path": None}] * 2, "question": ["Which?", "Where?"],
        "choices": [["Ohio", "Texas"], ["here", "there"]], "answer": right, "hint": ["", "A map."],
        "subject": ["social science"] * 2,
    }  # fmt: skip
    features: dict[str, Any] = {
        "image": datasets.Image(), "question": text, "choices": [text], "answer": datasets.Value("int8"), "hint": text,
        "subject": text,
    }  # fmt: skip
    rows.pop(without, None)
    features.pop(without, None)
    folder = root / "lmms-lab" / "ScienceQA"
    (folder / "ScienceQA-IMG").mkdir(parents=True)
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    table.to_parquet(folder / "ScienceQA-IMG" / "test-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: ScienceQA-IMG\n  data_files:\n  - split: test\n    path: ScienceQA-IMG/test-*\n---\n"
    )


@pytest.mark.usefixtures("own_cache")
def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    _mirror(tmp_path, [1, 0])
    samples = list(TASK.load(open_data(f"hub:{tmp_path}"), "test"))
    assert [(s.id, s.text, s.references, s.options) for s in samples] == [
        ("0", "Which?", ("B",), ("Ohio", "Texas")), ("1", "Context: A map.\nWhere?", ("A",), ("here", "there")),
    ]  # fmt: skip
    assert samples[1].images[0].load().getpixel((0, 0)) == (70, 70, 70)
    assert samples[1].meta == {"hint": "A map.", "question": "Where?", "category": "social science"}


@pytest.mark.usefixtures("own_cache")
def test_hub_rows_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    _mirror(tmp_path, [1, 2])
    data = open_data(f"hub:{tmp_path}")
    with pytest.raises(UserError, match=r"ScienceQA-IMG/test\[1\] has 2 options but calls 2 the right one"):
        list(TASK.load(data, "test"))
    with pytest.raises(UserError, match=r"no parquet files of split train under .*ScienceQA-IMG"):
        list(TASK.load(data, "train"))


@pytest.mark.usefixtures("own_cache")
def test_mirror_without_column_is_reported(tmp_path: Path) -> None:
    _mirror(tmp_path, [1, 0], without="hint")
    with pytest.raises(UserError, match="ScienceQA has no column hint"):
        list(TASK.load(open_data(f"hub:{tmp_path}"), "test"))
