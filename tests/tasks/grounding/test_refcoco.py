from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from pathlib import Path

import datasets
import pytest
from PIL import Image

from evalkit.data import bundled_root, open_data
from evalkit.errors import UserError
from evalkit.tasks.grounding.refcoco import TASKS

TASK = TASKS["refcoco"]

REFS = "refs(unc).p"


def _counts(root: Path) -> Counter[str]:
    refs = pickle.loads((root / "refcoco" / REFS).read_bytes())
    return Counter({s: sum(len(r["sentences"]) for r in refs if r["split"] == s) for s in ("val", "testA", "testB")})


@pytest.mark.parametrize("split", ["val", "testA", "testB", "train"])
def test_one_sample_per_sentence_with_its_refs_box_in_xyxy(split: str) -> None:
    root = bundled_root()
    refs = [r for r in pickle.loads((root / "refcoco" / REFS).read_bytes()) if r["split"] == split]
    instances = json.loads((root / "refcoco" / "instances.json").read_text())
    boxes = {a["id"]: a["bbox"] for a in instances["annotations"]}
    sizes = {i["id"]: (i["width"], i["height"]) for i in instances["images"]}
    samples = {s.id: s for s in TASK.load(open_data("tiny"), split)}
    assert len(samples) == sum(len(r["sentences"]) for r in refs) > 30
    for ref in refs:
        x, y, w, h = boxes[ref["ann_id"]]
        for sentence in ref["sentences"]:
            sample = samples[str(sentence["sent_id"])]
            assert sample.text == sentence["sent"]
            assert sample.references == ((x, y, x + w, y + h),)
            assert sample.cluster == str(ref["image_id"])
            assert sample.images[0].size() == sizes[ref["image_id"]]


def test_real_expressions_and_empty_splits(real_root: str) -> None:
    data = open_data(real_root)
    found = {split: len(list(TASK.load(data, split))) for split in ("val", "testA", "testB")}
    assert found == dict(_counts(Path(real_root))) == {"val": 0, "testA": 0, "testB": 14}
    first = next(iter(TASK.load(data, "testB")))
    assert first.images[0].load().size == first.images[0].size()


def _write(root: Path, refs: object) -> None:
    (root / "coco" / "train2014").mkdir(parents=True)
    (root / "refcoco").mkdir()
    content = refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol=2)
    (root / "refcoco" / REFS).write_bytes(content)
    instances = {"annotations": [{"id": 5, "bbox": [1, 2, 3, 4]}], "images": []}
    (root / "refcoco" / "instances.json").write_text(json.dumps(instances))


REF = {"split": "val", "ann_id": 5, "image_id": 9, "ref_id": 0, "sentences": [{"sent_id": 1, "sent": "cat"}]}


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        ([{**REF, "ann_id": 6}], "do not fit together .missing annotation 6"),
        ([{"split": "val"}], r"no 'ann_id' in .*refs\(unc\)\.p; expected that of the refer toolbox's refcoco.zip"),
        ({"a": 1}, "the file is {'a': 1}, not a list"),
        (b"", "is not a readable annotation pickle"),
    ],
)
def test_corrupt_annotations_are_reported(tmp_path: Path, refs: object, message: str) -> None:
    _write(tmp_path, refs)
    with pytest.raises(UserError, match=message):
        list(TASK.load(open_data(str(tmp_path)), "val"))


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"refcoco: no refs\(unc\)\.p under .*expected refcoco/refs\(unc\)\.p or refer/"
    ):
        list(TASK.load(open_data(str(tmp_path)), "val"))


def test_hub_format_from_local_mirror(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40)).save(buffer, "PNG")
    rows = {
        "question_id": ["0"],
        "image": [{"bytes": buffer.getvalue(), "path": None}],
        "bbox": [[10.0, 5.0, 20.0, 15.0]],
        "answer": [["left man", "man in red"]],
        "file_name": ["COCO_train2014_000000581857_16.jpg"],
    }
    features = datasets.Features(
        {
            "question_id": datasets.Value("string"), "image": datasets.Image(), "file_name": datasets.Value("string"),
            "bbox": [datasets.Value("float32")], "answer": [datasets.Value("string")],
        }
    )  # fmt: skip
    folder = tmp_path / "lmms-lab" / "RefCOCO" / "data"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "testA-00000-of-00001.parquet")
    samples = list(TASK.load(open_data(f"hub:{tmp_path}"), "testA"))
    assert [(s.id, s.text) for s in samples] == [("0-0", "left man"), ("0-1", "man in red")]
    assert samples[0].references == ((10.0, 5.0, 30.0, 20.0),)
    assert {s.cluster for s in samples} == {"COCO_train2014_000000581857"}
    assert samples[0].images[0].size() == (50, 40)
    with pytest.raises(UserError, match="has no training split"):
        list(TASK.load(open_data(f"hub:{tmp_path}"), "train"))
