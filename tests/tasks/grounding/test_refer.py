"""RefCOCO+ and RefCOCOg; what they share with RefCOCO is tested there too."""

from __future__ import annotations

import io
import json
import logging
import pickle
from collections import Counter
from pathlib import Path

import datasets
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Task

FILES = {"refcoco+": "refs(unc).p", "refcocog": "refs(umd).p"}
REPOS = {"refcoco+": "RefCOCOplus", "refcocog": "RefCOCOg"}
NAMES = sorted(FILES)


def _task(name: str) -> Task:
    return registry.tasks.get(name)


def test_splits_are_those_of_papers() -> None:
    sizes = {name: {s: split.size for s, split in _task(name).splits.items()} for name in NAMES}
    assert sizes["refcoco+"] == {"val": 10_758, "testA": 5_726, "testB": 4_889, "train": 120_191}
    assert sizes["refcocog"] == {"val": 4_896, "test": 9_602, "train": 80_512}
    assert [_task(n).default_splits for n in NAMES] == [("val", "testA", "testB"), ("val", "test")]


@pytest.mark.parametrize(("name", "split", "count"), [("refcoco+", "testB", 12), ("refcocog", "val", 4)])
def test_real_expressions(real_root: str, name: str, split: str, count: int) -> None:
    folder = Path(real_root) / name
    refs = pickle.loads((folder / FILES[name]).read_bytes())
    expected = Counter(r["split"] for r in refs for _ in r["sentences"])
    data = open_data(real_root)
    found = {s: len(list(_task(name).load(data, s))) for s in _task(name).splits}
    assert found == {s: expected[s] for s in _task(name).splits}
    assert found[split] == sum(found.values()) == count
    boxes = {a["id"]: a["bbox"] for a in json.loads((folder / "instances.json").read_text())["annotations"]}
    samples = {s.id: s for s in _task(name).load(data, split)}
    for ref in refs:
        x, y, w, h = boxes[ref["ann_id"]]
        for sentence in ref["sentences"]:
            sample = samples[str(sentence["sent_id"])]
            assert sample.text == sentence["sent"]
            assert sample.references == ((x, y, x + w, y + h),)
            assert sample.cluster == str(ref["image_id"])
            width, height = sample.images[0].load().size
            assert x + w <= width + 0.01
            assert y + h <= height + 0.01


def _write(root: Path, name: str, *, below: str = "", ref: dict[str, object] | None = None) -> None:
    (root / "coco" / "train2014").mkdir(parents=True, exist_ok=True)
    folder = root / below / name
    folder.mkdir(parents=True)
    row = {
        "split": "val", "ann_id": 5, "image_id": 9, "ref_id": 0, "file_name": "COCO_train2014_000000000009_0.jpg",
        "sentences": [{"sent_id": 1, "sent": "the cat"}, {"sent_id": 2, "sent": "black one"}], **(ref or {}),
    }  # fmt: skip
    (folder / FILES[name]).write_bytes(pickle.dumps([row, {**row, "split": "train", "sentences": []}], protocol=2))
    instances = {"annotations": [{"id": 5, "bbox": [1, 2, 3, 4]}], "images": []}
    (folder / "instances.json").write_text(json.dumps(instances))


@pytest.mark.parametrize("below", ["", "refer/data"])
@pytest.mark.parametrize("name", NAMES)
def test_official_files_alone_or_in_toolbox(tmp_path: Path, name: str, below: str) -> None:
    _write(tmp_path, name, below=below)
    samples = list(_task(name).load(open_data(str(tmp_path)), "val"))
    assert [(s.id, s.text, s.references) for s in samples] == [
        ("1", "the cat", ((1.0, 2.0, 4.0, 6.0),)),
        ("2", "black one", ((1.0, 2.0, 4.0, 6.0),)),
    ]
    assert Path(samples[0].images[0].name).name == "COCO_train2014_000000000009.jpg"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: next(f.glob("refs*")).unlink(), r"no refs\(u\w\w\)\.p under .*expected {name}/refs\(u"),
        (lambda f: (f / "instances.json").unlink(), "no instances.json under .*expected {name}/instances.json"),
        (lambda f: (f / "instances.json").write_text('{"annot'), "instances.json is not valid JSON"),
        (lambda f: (f / "instances.json").write_text("[]"), "instances.json beside .*: not the official format .*{name}.zip"),
        (lambda f: (f / "instances.json").write_text('{"annotations": []}'), "do not fit together .missing annotation 5.*{name}.zip"),
        (lambda f: next(f.glob("refs*")).write_bytes(b"x"), "is not a readable annotation pickle"),
    ],
)  # fmt: skip
def test_wrong_files_are_reported(tmp_path: Path, name: str, break_it: object, message: str) -> None:
    _write(tmp_path, name)
    break_it(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(UserError, match=message.replace("{name}", name.replace("+", r"\+"))):
        list(_task(name).load(open_data(str(tmp_path)), "val"))


@pytest.mark.parametrize("name", NAMES)
def test_invalid_box_is_reported(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name)
    (tmp_path / name / "instances.json").write_text('{"annotations": [{"id": 5, "bbox": [1, 2, 3]}]}')
    with pytest.raises(
        UserError, match=r"the box of annotation 5 is \[1, 2, 3\], not x, y, width and height in pixels"
    ):
        list(_task(name).load(open_data(str(tmp_path)), "val"))


def test_other_partition_is_not_read(tmp_path: Path) -> None:
    _write(tmp_path, "refcocog")
    (tmp_path / "refcocog" / "refs(umd).p").rename(tmp_path / "refcocog" / "refs(google).p")
    with pytest.raises(UserError, match=r"refcocog: no refs\(umd\)\.p"):
        list(_task("refcocog").load(open_data(str(tmp_path)), "val"))


def _mirror(root: Path, repo: str, split: str, *, without: str | None = None) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40)).save(buffer, "PNG")
    rows = {
        "image": [{"bytes": buffer.getvalue(), "path": None}],
        "bbox": [[10.0, 5.0, 20.0, 15.0]],
        "answer": [["left man", "man in red"]],
        "file_name": ["COCO_train2014_000000581857_16.jpg"],
    }
    features = {
        "image": datasets.Image(), "file_name": datasets.Value("string"),
        "bbox": [datasets.Value("float32")], "answer": [datasets.Value("string")],
    }  # fmt: skip
    if without:
        del rows[without], features[without]
    folder = root / "lmms-lab" / repo / "data"
    folder.mkdir(parents=True)
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize(("name", "split"), [("refcoco+", "testA"), ("refcocog", "test")])
def test_hub_format_from_local_mirror(tmp_path: Path, name: str, split: str) -> None:
    _mirror(tmp_path, REPOS[name], split)
    data = open_data(f"hub:{tmp_path}")
    samples = list(_task(name).load(data, split))
    assert [(s.id, s.text) for s in samples] == [("0-0", "left man"), ("0-1", "man in red")]
    assert samples[0].references == ((10.0, 5.0, 30.0, 20.0),)
    assert {s.cluster for s in samples} == {"COCO_train2014_000000581857"}
    assert samples[0].images[0].size() == (50, 40)
    with pytest.raises(UserError, match=r"has no training split; give --data ROOT"):
        list(_task(name).load(data, "train"))


def test_mirror_without_column_is_reported(tmp_path: Path) -> None:
    _mirror(tmp_path, "RefCOCOg", "test", without="answer")
    with pytest.raises(UserError, match="RefCOCOg has no column answer"):
        list(_task("refcocog").load(open_data(f"hub:{tmp_path}"), "test"))


@pytest.mark.parametrize(("name", "warned"), [("refcoco+", False), ("refcocog", True)])
def test_warning_for_mixed_val(tmp_path: Path, name: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    _mirror(tmp_path, REPOS[name], "val")
    with caplog.at_level(logging.WARNING, logger="evalkit"):
        assert len(list(_task(name).load(open_data(f"hub:{tmp_path}"), "val"))) == 2
    assert ("mixes the UMD and Google splits" in caplog.text) is warned
