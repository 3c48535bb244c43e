from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.metrics.cc_ocr import METRICS
from evalkit.tasks.ocr import cc_ocr

from ..rows import encoded, write_tsv

TASK = cc_ocr.TASK
ROWS: list[dict[str, Any]] = [
    {"category": "kie", "l2-category": "constrained_category", "split": "CORD", "answer": json.dumps({"a": "1"})},
    {"category": "doc_parsing", "l2-category": "table", "split": "table_scan_eng", "answer": "<table></table>"},
    {"category": "multi_lan_ocr", "l2-category": "Arabic", "split": "Arabic_150", "answer": "nan"},
    {"category": "multi_scene_ocr", "l2-category": "document_text", "split": "CORD", "answer": "a b"},
]


def row(number: int, **changes: Any) -> dict[str, Any]:
    common = {"index": number, "image_name": f"x{number}.jpg", "question": "Read.", "image": encoded(number)}
    return {**common, **ROWS[number], **changes}


def test_protocol() -> None:
    counts = {track: (len(sets), sum(n for _, n in sets.values())) for track, sets in cc_ocr.SETS.items()}
    assert counts == {
        "multi_scene_ocr": (13, 2_750), "multi_lan_ocr": (10, 1_500), "doc_parsing": (10, 800), "kie": (6, 2_008),
    }  # fmt: skip
    assert {split: part.size for split, part in TASK.splits.items()} == {"test": 7_058}
    assert [TASK.rule_of(p) for p in ("official", "lmms-eval", "vlmevalkit")] == [
        "official", "official", "vlmevalkit-e8e78f05",
    ]  # fmt: skip


def test_one_file(tmp_path: Path) -> None:
    write_tsv(tmp_path / "cc_ocr/CCOCR.tsv", [row(n) for n in range(4)])
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    assert [s.id for s in samples] == [
        "kie/CORD/x0.jpg", "doc_parsing/table_scan_eng/x1.jpg", "multi_lan_ocr/Arabic/x2.jpg", "multi_scene_ocr/CORD/x3.jpg",
    ]  # fmt: skip
    assert samples[1].meta == {"category": "doc_parsing", "set": "table_scan_eng", "op": "table"}
    assert samples[2].references == ("nan",)
    assert samples[0].text == "Read."
    METRICS["cc_ocr"].check(samples, "vqa")


@pytest.mark.parametrize("layout", ["hub", "vlmevalkit"])
def test_a_file_per_set(tmp_path: Path, layout: str) -> None:
    number = 0
    for track, sets in cc_ocr.SETS.items():
        for name, (folder, count) in sets.items():
            answer = '{"a": "1"}' if track == "kie" else "a"
            rows = [
                row(0, category=track, split=name, answer=answer),
                row(1, category=track, split=name, answer=answer),
            ]
            camel = {part: "".join(word.capitalize() for word in part.split("_")) for part in (track, name)}
            path = {
                "hub": f"CC-OCR/{track}/{folder}/{name}_{count}.tsv",
                "vlmevalkit": f"LMUData/CCOCR_{camel[track]}_{camel[name]}.tsv",
            }
            write_tsv(tmp_path / path[layout], rows)
            number += 2
    if layout == "vlmevalkit":
        assert (tmp_path / "LMUData/CCOCR_MultiSceneOcr_Inversetext.tsv").exists()
        assert (tmp_path / "LMUData/CCOCR_Kie_Sroie2019Word.tsv").exists()
    samples = list(TASK.load(open_data(str(tmp_path)), "test"))
    assert number == 78
    assert len({s.id for s in samples}) == len({s.cluster for s in samples}) == 78


def test_hub(tmp_path: Path) -> None:
    for number, track in enumerate(("kie", "doc_parsing", "multi_lan_ocr", "multi_scene_ocr")):
        folder = tmp_path / "wulipc/CC-OCR" / track
        folder.mkdir(parents=True)
        table = datasets.Dataset.from_dict({key: [value] for key, value in row(number).items()})
        table.to_parquet(folder / "test-00000-of-00001.parquet")
    samples = list(TASK.load(open_data(f"hub:{tmp_path}"), "test"))
    assert {s.id for s in samples} == {
        "kie/CORD/x0.jpg", "doc_parsing/table_scan_eng/x1.jpg", "multi_lan_ocr/Arabic/x2.jpg", "multi_scene_ocr/CORD/x3.jpg",
    }  # fmt: skip
    assert {s.images[0].size() for s in samples} == {(20, 10)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category": "poems"}, "category is 'poems', not one of multi_scene_ocr"),
        ({"split": "POEMS"}, "split is 'POEMS', not one of sroie2019_word"),
        ({"split": None}, "split is None, not a text"),
        ({"answer": None}, "answer is None, not a text"),
        ({"image_name": None}, "image_name is None"),
        ({"image": None}, "has no image"),
    ],
)
def test_wrong_rows_are_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tsv(tmp_path / "CCOCR.tsv", [row(0, **changes), row(3)])
    with pytest.raises(UserError, match=f"^cc_ocr: .*{message}"):
        list(TASK.load(open_data(str(tmp_path)), "test"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_tsv(tmp_path / "cc_ocr/multi_scene_ocr/scene_text/TotalText_300.tsv", [row(3, split="TotalText")])
    with pytest.raises(UserError, match=r"^cc_ocr: .*IC15_500\.tsv"):
        list(TASK.load(open_data(str(tmp_path)), "test"))
