from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.tasks.multiple_choice.scienceqa import TASK
from evalkit.types import Answered, Prediction, TextPart

PROBLEM = {
    "question": "Which is farthest north?", "choices": ["Ohio", "Texas", "Maine"], "answer": 2, "hint": "",
    "image": "image.png", "grade": "grade2", "subject": "social science",
}  # fmt: skip
PROBLEMS = {
    "4": PROBLEM,
    "5": {**PROBLEM, "image": None, "grade": "grade12", "subject": "language science"},
    "11": {**PROBLEM, "hint": "Look at the pole.", "subject": "natural science"},
    "12": {**PROBLEM, "image": None, "hint": "Maine is cold.", "grade": "grade7"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for pid in ("4", "11"):
        (tmp_path / "scienceqa/images/test" / pid).mkdir(parents=True)
        Image.new("RGB", (40, 10)).save(tmp_path / "scienceqa/images/test" / pid / "image.png")
    (tmp_path / "scienceqa/problems.json").write_text(json.dumps(PROBLEMS))
    (tmp_path / "scienceqa/pid_splits.json").write_text(json.dumps({"test": ["11", "5", "4", "12"], "train": []}))
    return tmp_path


def test_problems_with_and_without_image(root: Path) -> None:
    samples = list(TASK.load(open_data(str(root)), "test"))
    assert [(s.id, len(s.images), s.meta["category"]) for s in samples] == [
        ("11", 1, ["natural science", "TXT", "IMG", "G1-6"]),
        ("5", 0, ["language science", "NO", "G7-12"]),
        ("4", 1, ["social science", "IMG", "G1-6"]),
        ("12", 0, ["social science", "TXT", "G7-12"]),
    ]
    assert samples[3].text == "Context: Maine is cold.\nWhich is farthest north?"
    assert TASK.splits["test"].size == 4_241
    (message,) = registry.families.get("qwen2.5-vl").prompt(TASK.prompt_spec("lmms-eval"), samples[1])
    assert message.content == (
        TextPart(
            "Which is farthest north?\nA. Ohio\nB. Texas\nC. Maine\n"
            "Answer with the option's letter from the given choices directly."
        ),
    )


def test_total_and_questions_with_image(root: Path) -> None:
    samples = list(TASK.load(open_data(str(root)), "test"))
    answers = [Answered(s, Prediction("C" if s.images else "A")) for s in samples]
    scores = score_answers(registry.metrics.get(TASK.metric), answers)
    assert scores.values["accuracy"] == 50
    assert scores.values["accuracy[IMG]"] == 100
    assert scores.values["accuracy[TXT]"] == 50
    assert scores.values["accuracy[NO]"] == scores.values["accuracy[G7-12]"] == 0


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "digests"))
    buffer = io.BytesIO()
    Image.new("RGB", (40, 10)).save(buffer, "PNG")
    rows = [
        {**PROBLEM, "image": {"bytes": buffer.getvalue(), "path": None}},
        {**PROBLEM, "image": None, "hint": "Maine is cold."},
    ]
    file = tmp_path / "lmms-lab/ScienceQA/ScienceQA-FULL/test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    samples = list(TASK.load(open_data(f"hub:{tmp_path}"), "test"))
    assert [(s.id, len(s.images), s.meta["category"][1:3]) for s in samples] == [
        ("0", 1, ["IMG", "G1-6"]), ("1", 0, ["TXT", "G1-6"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grade": 7}, "grade is 7, not a text"),
        ({"subject": ["x"]}, r"subject is \['x'\], not a text"),
        ({"answer": 3}, "has 3 options but calls 3 the right one"),
        ({"image": 3}, "image is 3, not a text"),
    ],
)
def test_wrong_fields_are_reported(root: Path, changes: dict[str, Any], message: str) -> None:
    (root / "scienceqa/problems.json").write_text(json.dumps({**PROBLEMS, "12": {**PROBLEMS["12"], **changes}}))
    with pytest.raises(UserError, match=f"^scienceqa: .*{message}"):
        list(TASK.load(open_data(str(root)), "test"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # LLaVA's, lmms-eval's
        ("B", "BB"),
        ("b", "-B"),
        (" B", "-B"),
        ("B.", "-B"),
        ("B. Texas", "BB"),
        ("The answer is B.", "B-"),
        ("The answer is B", "--"),  # a sign must follow
        ("The answer is A. No. The answer is B.", "--"),
        ("D", "--"),
        ("", "--"),
    ],
)
def test_rules(text: str, expected: str) -> None:
    rules = ("llava-c121f04", "lmms-eval-75571cf")
    for name in ("scienceqa", "scienceqa_img"):
        task = registry.tasks.get(name)
        found = [task.prompt_spec(rule=rule).letter(text, ("a", "b", "c")).letter or "-" for rule in rules]
        assert "".join(found) == expected
