from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.tasks.hallucination.pope import CATEGORIES, TASK

from ..rows import encoded, mirror, write_tsv

TAIL = " Please answer yes or no."
ROW = {"question": f"Is there a cat?{TAIL}", "answer": "No", "category": "adversarial,random"}


def test_protocol() -> None:
    assert {s: p.size for s, p in TASK.splits.items()} == {"test": 9_000, "test-2910": 8_910}
    assert TASK.default_splits == ("test",)
    found = {name: (TASK.scoring_rule(name).metric or TASK.metric) for name in TASK.scoring_rules}
    assert found == {
        "evalkit-yes-no-1": "pope", "vlmevalkit-yes-no": "pope_pooled", "official": "pope",
        "lmms-eval-75571cf": "pope_accuracy",
    }  # fmt: skip
    assert [TASK.rule_of(p) for p in ("official", "lmms-eval", "vlmevalkit")] == [
        "official", "lmms-eval-75571cf", "vlmevalkit-yes-no",
    ]  # fmt: skip


def test_tsv(tmp_path: Path) -> None:
    rows = [{"index": n, **ROW, "image": encoded(n % 2)} for n in range(3)]
    write_tsv(tmp_path / "pope/POPE.tsv", rows)
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    assert [(s.id, s.text, s.references, s.cluster) for s in samples] == [
        ("0", "Is there a cat?", ("no",), "0"), ("1", "Is there a cat?", ("no",), "1"),
        ("2", "Is there a cat?", ("no",), "0"),
    ]  # fmt: skip
    assert samples[0].meta == {"category": ["adversarial", "random"]}


def official(root: Path, random: int) -> Path:
    folder = root / "pope"
    folder.mkdir()
    (root / "coco/val2014").mkdir(parents=True)
    for category in CATEGORIES:
        rows = [
            {"question_id": n + 1, "image": f"COCO_val2014_{n:012d}.jpg", "text": "Is there a cat?", "label": "yes"}
            for n in range(random if category == "random" else 3_000)
        ]
        path = folder / f"coco_pope_{category}.json"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(("random", "split"), [(3_000, "test"), (2_910, "test-2910")])
def test_both_versions_of_the_official_files(tmp_path: Path, random: int, split: str) -> None:
    official(tmp_path, random)
    samples = list(TASK.load(open_data(str(tmp_path)), split))
    assert len(samples) == TASK.splits[split].size
    assert (samples[0].id, samples[-1].id) == ("random/1", "adversarial/3000")
    assert samples[0].cluster == "COCO_val2014_000000000000.jpg"
    assert samples[0].images[0].name == str(tmp_path / "coco/val2014/COCO_val2014_000000000000.jpg")
    (other,) = {"test", "test-2910"} - {split}
    with pytest.raises(UserError, match=rf"pope/{other}: .* has {random:,} questions, which is the version {split};"):
        list(TASK.load(open_data(str(tmp_path)), other))


def test_hub(tmp_path: Path) -> None:
    data = mirror(
        tmp_path, "lmms-lab/POPE", "test",
        {
            "question_id": ["1", "1"], "image_source": ["COCO_val2014_000000000001"] * 2,
            "question": ["Is there a cat?"] * 2, "answer": ["yes", "no"], "category": ["random", "popular"],
        },
    )  # fmt: skip
    samples = list(TASK.load(open_data(data), "test"))
    assert [(s.id, s.references, s.cluster) for s in samples] == [
        ("random/1", ("yes",), "COCO_val2014_000000000001"), ("popular/1", ("no",), "COCO_val2014_000000000001"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="pope/test-2910: this version is not on the hub"):
        list(TASK.load(open_data(data), "test-2910"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "1"}, "POPE.tsv, line 2: not the official format .answer is '1', neither yes nor no"),
        ({"category": "adversarial,rare"}, "category is 'rare', not one of random, popular, adversarial"),
        ({"category": None}, "category is None, not a text"),
        ({"question": None}, "question is None, not a text"),
        ({"image": None}, "the row 0 has no image"),
    ],
)
def test_wrong_rows_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tsv(tmp_path / "POPE.tsv", [{"index": 0, **ROW, "image": encoded(0), **changes}, {"index": 1, **ROW}])
    with pytest.raises(UserError, match=f"^pope: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def test_missing_or_corrupt_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="pope: no POPE.tsv and no coco_pope_random.json under .*expected pope/POPE.tsv"
    ):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    folder = official(tmp_path, 3_000)
    path = folder / "coco_pope_popular.json"
    path.write_text('{"question_id": 1, "image": "x.jpg", "text": "Is there?"}\n')
    with pytest.raises(
        UserError, match=r"no 'label' in .*coco_pope_popular.json, line 1; expected a line of coco_pope"
    ):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    path.write_text("[")
    with pytest.raises(UserError, match="coco_pope_popular.json, line 1"):
        list(TASK.load(open_data(str(tmp_path)), "test"))
    path.unlink()
    with pytest.raises(UserError, match="pope: no coco_pope_popular.json under"):
        list(TASK.load(open_data(str(tmp_path)), "test"))
