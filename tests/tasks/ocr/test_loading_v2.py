from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.metrics import ocrbench_v2 as metric
from evalkit.tasks.ocr import ocrbench_v2

from ..rows import encoded, mirror, png, write_tsv

TASK = ocrbench_v2.TASK
CORNERS = [10, 10, 20, 10, 20, 20, 10, 20]
ENTRIES: list[dict[str, Any]] = [
    {"type": "math QA en", "question": "What?", "answers": ["B"], "eval": "multiple choice"},
    {"type": "text grounding en", "question": "Where?", "answers": [1, 2, 3, 4]},
    {"type": "text spotting en", "question": "All?", "answers": [""], "bbox": [CORNERS], "content": ["Hello"]},
    {"type": "VQA with position en", "question": "Which?", "answers": ["a", "b"], "bbox": [1, 2, 3, 4]},
    {"type": "chart parsing en", "question": "Chart?", "answers": [{"é": {"x": "1"}}]},
    {"type": "text counting en", "question": "How many?", "answers": [7], "eval": "regression"},
    {"type": "key information extraction cn", "question": "什么?", "answers": ["{'a': '1'}"]},
]


def official(root: Path, entries: list[dict[str, Any]]) -> str:
    folder = root / "OCRBench_v2"
    (folder / "EN_part").mkdir(parents=True)
    (folder / "EN_part/0.png").write_bytes(png(0))
    rows = [{"id": n, "dataset_name": "x", "image_path": "EN_part/0.png", **e} for n, e in enumerate(entries)]
    (folder / "OCRBench_v2.json").write_text(json.dumps(rows))
    return str(root)


def test_groups_are_those_of_the_metric() -> None:
    assert ocrbench_v2.GROUP_OF == metric.GROUP_OF
    assert {split: part.size for split, part in TASK.splits.items()} == {"en": 7_400, "cn": 2_600}
    count = {lang: sum(task.endswith(lang) for task in metric.GROUP_OF) for lang in ("en", "cn")}
    assert count == {"en": 21, "cn": 9}


def test_official_file(tmp_path: Path) -> None:
    data = open_data(official(tmp_path, ENTRIES))
    samples = list(TASK.load(data, "en"))
    assert [s.id for s in samples] == ["0", "1", "2", "3", "4", "5"]
    assert [s.references for s in samples] == [
        ("B",), ("1", "2", "3", "4"), ("",), ("a", "b"), ('{"é": {"x": "1"}}',), ("7",),
    ]  # fmt: skip
    assert samples[0].meta == {"category": "math QA en", "part": "mathematical_calculation", "eval": "multiple choice"}
    assert samples[2].meta["bbox"] == [CORNERS]
    assert samples[2].meta["content"] == ["Hello"]
    assert samples[3].meta["bbox"] == [1, 2, 3, 4]
    assert {s.cluster for s in samples} == {"EN_part/0.png"}
    (chinese,) = TASK.load(data, "cn")
    assert (chinese.id, chinese.text, chinese.meta["part"]) == ("6", "什么?", "relationship_extraction")
    metric.METRIC.check([*samples, chinese], "vqa")


def test_tsv_has_the_same_questions(tmp_path: Path) -> None:
    rows = [
        {
            "index": n, "question": e["question"], "answer": repr(e["answers"]), "category": e["type"],
            "eval": e.get("eval", "without eval"), "bbox": repr(e["bbox"]) if "bbox" in e else "without bbox",
            "content": repr(e["content"]) if "content" in e else "without content", "image": encoded(0),
        }
        for n, e in enumerate(ENTRIES)
    ]  # fmt: skip
    write_tsv(tmp_path / "tsv/ocrbench_v2/OCRBench_v2.tsv", rows)
    official(tmp_path / "json", ENTRIES)
    for split in TASK.splits:
        found = list(TASK.load(open_data(str(tmp_path / "tsv")), split))
        expected = list(TASK.load(open_data(str(tmp_path / "json")), split))
        assert [(s.id, s.text, s.references, s.meta) for s in found] == [
            (s.id, s.text, s.references, s.meta) for s in expected
        ]
        assert {s.cluster for s in found} == {"0"}  # one image


def test_hub_has_the_same_questions(tmp_path: Path) -> None:
    def texts(answers: list[Any]) -> list[str]:
        return [json.dumps(a, ensure_ascii=False) if isinstance(a, dict) else str(a) for a in answers]

    spotting = [e["type"] == "text spotting en" for e in ENTRIES]
    columns = {
        "id": list(range(len(ENTRIES))),
        "dataset_name": ["x"] * len(ENTRIES),
        "question": [e["question"] for e in ENTRIES],
        "type": [e["type"] for e in ENTRIES],
        "answers": [texts(e["answers"]) for e in ENTRIES],
        "eval": [str(e.get("eval")) for e in ENTRIES],
        "bbox": [None if s else e.get("bbox") for e, s in zip(ENTRIES, spotting, strict=True)],
        "bbox_list": [e["bbox"] if s else None for e, s in zip(ENTRIES, spotting, strict=True)],
        "content": [e.get("content") for e in ENTRIES],
    }
    data = open_data(mirror(tmp_path / "hub", "ling99/OCRBench_v2", "test", columns))
    official(tmp_path / "json", ENTRIES)
    for split in TASK.splits:
        found = list(TASK.load(data, split))
        expected = list(TASK.load(open_data(str(tmp_path / "json")), split))
        assert [(s.id, s.text, s.references, s.meta) for s in found] == [
            (s.id, s.text, s.references, s.meta) for s in expected
        ]
    assert found[0].images[0].size() == (20, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "poems en"}, "the task is 'poems en', not one of"),
        ({"type": 3}, "type is 3, not a text"),
        ({"answers": []}, "has no answers to score against"),
        ({"answers": [None]}, "None is not a text"),
        ({"answers": [["a"]]}, "is not a text"),
        ({"eval": "by taste"}, "eval is 'by taste', not one of multiple choice"),
        ({"question": None}, "question is None, not a text"),
        ({"image_path": "../x.png"}, "outside"),
        ({"type": "text spotting en"}, "no 'bbox' in"),
        ({"type": "text spotting en", "bbox": [[1, 2]], "content": ["a"]}, "a box has 2 numbers, not 8"),
        ({"type": "text spotting en", "bbox": [], "content": ["a"]}, "there are 0 boxes and 1 texts"),
        ({"type": "VQA with position en", "bbox": ["a", 2, 3, 4]}, "not 4 numbers"),
        ({"type": "VQA with position en", "bbox": 7}, "a box is 7, not a list"),
    ],
)
def test_wrong_entries_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = open_data(official(tmp_path, [{**ENTRIES[1], **changes}]))
    with pytest.raises(UserError, match=f"^ocrbench_v2: .*{message}"):
        list(TASK.load(data, "en"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("answer", "['B'", "answer is .* not a list"),
        ("bbox", "[1", "bbox is .* not a list"),
        ("category", "poems", "not one of"),
        ("image", None, "has no image"),
    ],
)
def test_wrong_rows_are_reported(tmp_path: Path, column: str, value: str | None, message: str) -> None:
    row = {
        "index": 0, "question": "What?", "answer": "['B']", "category": "math QA en", "eval": "without eval",
        "bbox": "without bbox", "content": "without content", "image": encoded(0),
    }  # fmt: skip
    write_tsv(tmp_path / "OCRBench_v2.tsv", [{**row, column: value}, {**row, "index": 1}])
    with pytest.raises(UserError, match=f"^ocrbench_v2: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "en"))
