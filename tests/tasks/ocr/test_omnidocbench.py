from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.types import Sample

from ..rows import encoded, png, write_tsv

CURRENT, FIRST = registry.tasks.get("omnidocbench"), registry.tasks.get("omnidocbench_v1")


def page(number: int, language: str = "english", **changes: Any) -> dict[str, Any]:
    boxes = [
        {"category_type": "text_block", "poly": [0.0] * 8, "ignore": False, "order": 1, "anno_id": 3, "text": f"Page {number}",
         "line_with_spans": [], "attribute": {"text_language": "text_english"}},
        {"category_type": "abandon", "poly": [0.0] * 8, "ignore": True, "order": None, "anno_id": 4},
    ]  # fmt: skip
    relations = [{"source_anno_id": 4, "target_anno_id": 3, "relation_type": "parent_son"}]
    attributes = {"data_source": "book", "language": language, "layout": "single_column", "special_issue": ["None"]}
    info = {"page_attribute": attributes, "page_no": 1, "height": 10, "width": 20, "image_path": f"p{number}.jpg"}
    return {"layout_dets": boxes, "extra": {"relation": relations}, "page_info": info, **changes}


def write_root(root: Path, folder: str, pages: Any) -> Path:
    (root / folder / "images").mkdir(parents=True)
    (root / folder / "OmniDocBench.json").write_text(json.dumps(pages))
    for number in range(4):
        (root / folder / "images" / f"p{number}.jpg").write_bytes(png(number))
    return root


def load(task: Any, data: str, split: str) -> list[Sample]:
    return list(task.load(open_data(data), split))


PAGES = [page(0), page(1, "simplified_chinese"), page(2, "en_ch_mixed"), page(3)]


def test_protocol() -> None:
    assert {split: part.size for split, part in CURRENT.splits.items()} == {"test": 1_355}
    assert {split: part.size for split, part in FIRST.splits.items()} == {"en": 290, "zh": 612, "test": 981}
    assert (CURRENT.default_splits, FIRST.default_splits) == (("test",), ("en", "zh"))
    assert [CURRENT.rule_of(p) for p in ("official", "vlmevalkit")] == ["official", "official"]
    assert [FIRST.rule_of(p) for p in ("official", "vlmevalkit")] == ["official", "vlmevalkit-e8e78f05"]
    for task in (CURRENT, FIRST):
        assert {rule.metric or task.metric for rule in task.rules.values()} <= set(registry.metrics.names())


@pytest.mark.parametrize("folder", ["omnidocbench", "OmniDocBench"])
def test_the_official_file(tmp_path: Path, folder: str) -> None:
    samples = load(CURRENT, str(write_root(tmp_path, folder, PAGES)), "test")
    assert [s.id for s in samples] == [s.cluster for s in samples] == [f"p{n}.jpg" for n in range(4)]
    assert samples[0].images[0].size() == (20, 10)
    assert samples[0].meta == {"language": "english", "data_source": "book", "layout": "single_column", "special_issue": ["None"]}  # fmt: skip
    assert json.loads(samples[0].references[0]) == {
        "layout_dets": [
            {"category_type": "text_block", "anno_id": 3, "order": 1, "text": "Page 0", "attribute": {"text_language": "text_english"}},
            {"category_type": "abandon", "anno_id": 4, "order": None},
        ],
        "extra": {"relation": []},
    }  # fmt: skip
    assert samples[0].text.startswith(
        "You are an AI assistant specialized in converting PDF images to Markdown format."
    )
    registry.metrics.get("omnidocbench").check(samples, "vqa")


def test_pages_by_language(tmp_path: Path) -> None:
    root = str(write_root(tmp_path, "omnidocbench_v1", PAGES))
    found = {split: [s.id for s in load(FIRST, root, split)] for split in FIRST.splits}
    assert found == {"en": ["p0.jpg", "p3.jpg"], "zh": ["p1.jpg"], "test": [f"p{n}.jpg" for n in range(4)]}


def test_vlmevalkits_file_and_the_hub_have_the_same_pages(tmp_path: Path) -> None:
    official = load(FIRST, str(write_root(tmp_path / "a", "omnidocbench_v1", PAGES)), "test")
    rows = [{"index": n, "image": encoded(n), "answer": json.dumps(one)} for n, one in enumerate(PAGES)]
    write_tsv(tmp_path / "b/LMUData/OmniDocBench.tsv", rows)
    folder = tmp_path / "c/ouyanglinke/OmniDocBench_tsv"
    folder.mkdir(parents=True)
    datasets.Dataset.from_list(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    for data in (str(tmp_path / "b"), f"hub:{tmp_path / 'c'}"):
        samples = load(FIRST, data, "test")
        assert [(s.id, s.references, s.meta) for s in samples] == [(s.id, s.references, s.meta) for s in official]
        assert {s.images[0].size() for s in samples} == {(20, 10)}


INFO = page(0)["page_info"]


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ({}, "not a list"),
        ([3], "page 0 of OmniDocBench.json"),
        ([{}], "no 'page_info' in page 0"),
        ([page(0, page_info={**INFO, "image_path": "../p0.jpg"})], "p0.jpg"),
        ([page(0, page_info={**INFO, "image_path": 7})], "image_path is 7, not a file name"),
        ([page(0, page_info={**INFO, "page_attribute": {}})], "no 'language' in page 0"),
        (
            [page(0, page_info={**INFO, "page_attribute": {**INFO["page_attribute"], "special_issue": "None"}})],
            "special_issue is 'None', not a list",
        ),
        ([page(0, layout_dets=None)], "layout_dets is None, not a list"),
        ([page(0, layout_dets=[3])], "page 0"),
        ([page(0, extra={})], "no 'relation' in page 0"),
        ([page(0, extra={"relation": [{}]})], "no 'relation_type' in page 0"),
    ],
)
def test_wrong_pages_are_reported(tmp_path: Path, pages: Any, message: str) -> None:
    write_root(tmp_path, "omnidocbench", pages)
    with pytest.raises(UserError, match=f"^omnidocbench: .*{message}"):
        load(CURRENT, str(tmp_path), "test")


@pytest.mark.parametrize(
    ("answer", "message"),
    [("[", "not the official format"), ("{}", "no 'page_info'"), (None, "answer is None, not a text")],
)
def test_wrong_rows_are_reported(tmp_path: Path, answer: str | None, message: str) -> None:
    write_tsv(
        tmp_path / "OmniDocBench.tsv",
        [{"index": 0, "image": encoded(0), "answer": answer}, {"index": 1, "image": encoded(1), "answer": "3"}],
    )
    with pytest.raises(UserError, match=f"^omnidocbench_v1: .*{message}"):
        load(FIRST, str(tmp_path), "test")
