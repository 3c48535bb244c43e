"""COCO captions, Flickr30k and nocaps: roots in the official formats, the hub's format, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.tasks.captioning.coco_caption import TASK as COCO
from evalkit.tasks.captioning.flickr30k import TASK as FLICKR
from evalkit.tasks.captioning.nocaps import TASK as NOCAPS
from evalkit.types import Sample

KARPATHY = "dataset_coco.json"
CAPTIONS = "captions_val2014.json"
FLICKR_FILE = "dataset_flickr30k.json"
NOCAPS_FILE = "nocaps_val_4500_captions.json"


def _load(task: Task, root: Path | str, split: str) -> list[Sample]:
    return list(task.load(open_data(str(root)), split))


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def _image(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def _karpathy_entry(filename: str, split: str, captions: list[str], **more: Any) -> dict[str, Any]:
    sentences = [{"tokens": c.lower().split(), "raw": c, "imgid": 0, "sentid": k} for k, c in enumerate(captions)]
    entry = {"filename": filename, "imgid": 0, "split": split, "sentids": list(range(len(captions)))}
    return {**entry, "sentences": sentences, **more}


# ---------------------------------------------------------------------------------------------------------------- COCO


def _coco(root: Path) -> None:
    entries = [
        _karpathy_entry("COCO_val2014_000000000009.jpg", "test", ["A cat. ", "Cats!"], cocoid=9, filepath="val2014"),
        _karpathy_entry("COCO_val2014_000000000004.jpg", "val", ["A dog."], cocoid=4, filepath="val2014"),
        _karpathy_entry("COCO_train2014_000000000007.jpg", "train", ["A bus."], cocoid=7, filepath="train2014"),
        _karpathy_entry("COCO_val2014_000000000005.jpg", "restval", ["A van."], cocoid=5, filepath="val2014"),
        _karpathy_entry("COCO_val2014_000000000002.jpg", "test", ["A hat."], cocoid=2, filepath="val2014"),
    ]
    _write(root / "coco" / KARPATHY, {"images": entries, "dataset": "coco"})
    images = [{"id": 4, "file_name": "COCO_val2014_000000000004.jpg"}, {"id": 2, "file_name": "x.jpg"}]
    annotations = [
        {"id": 1, "image_id": 2, "caption": "A hat."},
        {"id": 2, "image_id": 4, "caption": "A dog.\n"},
        {"id": 3, "image_id": 2, "caption": "Hats."},
    ]
    _write(root / "coco" / "annotations" / CAPTIONS, {"images": images, "annotations": annotations})
    for name in ("val2014/COCO_val2014_000000000009", "val2014/COCO_val2014_000000000004"):
        _image(root / "coco" / f"{name}.jpg")
    _image(root / "coco" / "train2014" / "COCO_train2014_000000000007.jpg")


def test_coco_splits_and_captions_as_typed(tmp_path: Path) -> None:
    _coco(tmp_path)
    found = {split: [s.id for s in _load(COCO, tmp_path, split)] for split in COCO.splits}
    assert found == {"test": ["9", "2"], "val": ["4"], "train": ["7", "5"], "val2014": ["4", "2"]}
    first = _load(COCO, tmp_path, "test")[0]
    assert first.references == ("A cat. ", "Cats!")
    assert (first.text, first.cluster) == ("", "9")
    assert first.images[0].size() == (40, 30)
    assert [s.references for s in _load(COCO, tmp_path, "val2014")] == [("A dog.\n",), ("A hat.", "Hats.")]
    folders = [Path(s.images[0].name).parent.name for s in _load(COCO, tmp_path, "train")]
    assert folders == ["train2014", "val2014"]


def test_real_coco_annotations(real_root: str) -> None:
    root = Path(real_root)
    entries = json.loads((root / "coco" / KARPATHY).read_text())["images"]
    official = json.loads((root / "coco" / "annotations" / CAPTIONS).read_text())
    karpathy = _load(COCO, root, "test")
    assert [s.id for s in karpathy] == [str(e["cocoid"]) for e in entries if e["split"] == "test"]
    assert len(karpathy) == 21
    assert _load(COCO, root, "val") == []
    whole = _load(COCO, root, "val2014")
    assert [s.id for s in whole] == [str(image["id"]) for image in official["images"]]
    assert sum(len(s.references) for s in whole) == len(official["annotations"]) == 105
    # Both files have the same captions of an image, in the same order.
    assert {s.id: s.references for s in whole} == {s.id: s.references for s in karpathy}
    assert all(Path(s.images[0].name).is_file() for s in whole)
    assert karpathy[0].images[0].load().mode == "RGB"


@pytest.mark.parametrize("place", [f"coco/annotations/{KARPATHY}", f"caption_datasets/{KARPATHY}", KARPATHY])
def test_locations_of_karpathys_file(tmp_path: Path, place: str) -> None:
    _coco(tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "coco" / KARPATHY).rename(tmp_path / place)
    assert len(_load(COCO, tmp_path, "test")) == 2


Break = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("split", "break_it", "message"),
    [
        ("test", lambda r: (r / "coco" / KARPATHY).unlink(), f"coco_caption: no {KARPATHY} under .*expected coco/{KARPATHY} or "),
        ("test", lambda r: (r / "coco" / KARPATHY).write_text('{"images": [{'), "is not valid JSON .*download it again"),
        ("test", lambda r: _write(r / "coco" / KARPATHY, []), f"{KARPATHY} under .*: not the official format .*Karpathy's caption_datasets.zip"),
        ("test", lambda r: _write(r / "coco" / KARPATHY, {"images": [_karpathy_entry("1.jpg", "test", ["A."])]}), f"no 'cocoid' in {KARPATHY} under"),
        ("test", lambda r: _write(r / "coco" / KARPATHY, {"images": [_karpathy_entry("1.jpg", "test", [], cocoid=1, filepath="val2014")]}), f"image 1 in {KARPATHY} has no captions to score against"),
        ("test", lambda r: (r / "coco" / "val2014").rename(r / "images"), "no val2014 under .*expected coco/val2014 or"),
        ("train", lambda r: (r / "coco" / "train2014").rename(r / "images"), "no train2014 under .*expected coco/train2014 or"),
        ("val2014", lambda r: (r / "coco" / "annotations" / CAPTIONS).unlink(), f"no {CAPTIONS} under .*expected coco/annotations/{CAPTIONS} or"),
        ("val2014", lambda r: _write(r / "coco" / "annotations" / CAPTIONS, {"images": []}), f"no 'annotations' in {CAPTIONS} under .*expected the official {CAPTIONS}"),
        ("val2014", lambda r: _write(r / "coco" / "annotations" / CAPTIONS, {"images": [{"id": 4, "file_name": "a"}], "annotations": []}), f"image 4 in {CAPTIONS} has no captions to score against"),
        ("val2014", lambda r: _write(r / "coco" / "annotations" / CAPTIONS, {"images": [], "annotations": [{"image_id": 4, "caption": "A."}]}), "a caption of image 4, which is not among its images"),
    ],
)  # fmt: skip
def test_wrong_coco_files_are_reported(tmp_path: Path, split: str, break_it: Break, message: str) -> None:
    _coco(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        _load(COCO, tmp_path, split)


# ----------------------------------------------------------------------------------------------------------- Flickr30k


def _flickr(root: Path, images: str = "flickr30k/flickr30k-images") -> None:
    entries = [
        _karpathy_entry("1000092795.jpg", "train", ["Two men."]),
        _karpathy_entry("1007129816.jpg", "test", ["A man in a hat.", "Hats off."]),
        _karpathy_entry("1018148011.jpg", "val", ["A group."]),
        _karpathy_entry("1009434119.jpg", "test", ["A dog."]),
    ]
    _write(root / "flickr30k" / FLICKR_FILE, {"images": entries, "dataset": "flickr30k"})
    _image(root / images / "1007129816.jpg")


@pytest.mark.parametrize("images", ["flickr30k/flickr30k-images", "flickr30k/flickr30k_images", "flickr30k/images"])
def test_flickr30k(tmp_path: Path, images: str) -> None:
    _flickr(tmp_path, images)
    found = {split: [s.id for s in _load(FLICKR, tmp_path, split)] for split in ("test", "val", "train")}
    assert found == {"test": ["1007129816", "1009434119"], "val": ["1018148011"], "train": ["1000092795"]}
    first = _load(FLICKR, tmp_path, "test")[0]
    assert first.references == ("A man in a hat.", "Hats off.")
    assert first.images[0].size() == (40, 30)
    assert first.cluster == "1007129816"


@pytest.mark.parametrize(
    ("split", "break_it", "message"),
    [
        ("test", lambda r: (r / "flickr30k" / FLICKR_FILE).unlink(), f"flickr30k: no {FLICKR_FILE} under .*expected flickr30k/{FLICKR_FILE} or"),
        ("test", lambda r: (r / "flickr30k" / "flickr30k-images").rename(r / "p"), "no flickr30k-images under .*expected flickr30k/flickr30k-images or"),
        ("test", lambda r: _write(r / "flickr30k" / FLICKR_FILE, {"images": [{"split": "test", "sentences": []}]}), f"no 'filename' in {FLICKR_FILE}"),
        ("test", lambda r: _write(r / "flickr30k" / FLICKR_FILE, {"images": [_karpathy_entry("9.jpg", "test", [])]}), f"image 9.jpg in {FLICKR_FILE} has no captions"),
        ("all", lambda r: None, "Karpathy's 31,014 images; all 31,783 come with --data hub"),
    ],
)  # fmt: skip
def test_wrong_flickr_files_are_reported(tmp_path: Path, split: str, break_it: Break, message: str) -> None:
    _flickr(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        _load(FLICKR, tmp_path, split)


# -------------------------------------------------------------------------------------------------------------- nocaps


def _nocaps(root: Path, images: str = "nocaps/val", **more: Any) -> None:
    entries = [
        {"id": 0, "file_name": "0013ea2087020901.jpg", "open_images_id": "0013ea2087020901", "domain": "near-domain"},
        {"id": 1, "file_name": "00aa.jpg", "open_images_id": "00aa", "domain": "out-domain", **more},
    ]
    annotations = [{"id": k, "image_id": 1 - k % 2, "caption": f"Caption {k}."} for k in range(4)]
    _write(root / "nocaps" / NOCAPS_FILE, {"images": entries, "annotations": annotations})
    _image(root / images / "0013ea2087020901.jpg")


@pytest.mark.parametrize("images", ["nocaps/val", "nocaps/images", "nocaps/validation", "nocaps/Images/validation"])
def test_nocaps_carries_domain_that_metric_reads(tmp_path: Path, images: str, caplog: pytest.LogCaptureFixture) -> None:
    _nocaps(tmp_path, images)
    samples = _load(NOCAPS, tmp_path, "val")
    assert [(s.id, s.meta["domain"]) for s in samples] == [("0", "near-domain"), ("1", "out-domain")]
    assert [s.references for s in samples] == [("Caption 1.", "Caption 3."), ("Caption 0.", "Caption 2.")]
    assert samples[0].images[0].size() == (40, 30)
    assert not caplog.records


def test_nocaps_without_domains_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _nocaps(tmp_path)
    content = json.loads((tmp_path / "nocaps" / NOCAPS_FILE).read_text())
    del content["images"][1]["domain"]
    _write(tmp_path / "nocaps" / NOCAPS_FILE, content)
    assert [dict(s.meta) for s in _load(NOCAPS, tmp_path, "val")] == [{"domain": "near-domain"}, {}]
    assert "have no domain" in caplog.text


def test_nocaps_files_that_are_wrong_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"nocaps: no {NOCAPS_FILE} under .*expected nocaps/{NOCAPS_FILE} or"):
        _load(NOCAPS, tmp_path, "val")
    _nocaps(tmp_path)
    _write(tmp_path / "nocaps" / NOCAPS_FILE, {"images": [{"id": 0, "file_name": "a.jpg"}]})
    with pytest.raises(UserError, match=f"no 'annotations' in {NOCAPS_FILE}"):
        _load(NOCAPS, tmp_path, "val")
    _write(tmp_path / "nocaps" / NOCAPS_FILE, {"images": [{"id": 0}], "annotations": []})
    with pytest.raises(UserError, match=f"no 'file_name' in {NOCAPS_FILE}"):
        _load(NOCAPS, tmp_path, "val")
    _nocaps(tmp_path)
    (tmp_path / "nocaps" / "val").rename(tmp_path / "images")
    with pytest.raises(UserError, match="no val under .*expected nocaps/val or nocaps/images or"):
        _load(NOCAPS, tmp_path, "val")


# ------------------------------------------------------------------------------------------------------------- the hub


def _mirror(root: Path, repo: str, split: str, rows: dict[str, list[Any]], **types: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 20)).save(buffer, "PNG")
    count = len(next(iter(rows.values())))
    features: dict[str, Any] = {name: datasets.Value(types.get(name, "string")) for name in rows}
    features |= {
        name: [datasets.Value("string")] for name in rows if name in ("answer", "caption", "annotations_captions")
    }
    content = {"image": [{"bytes": buffer.getvalue(), "path": None}] * count, **rows}
    folder = root / repo / "data"
    folder.mkdir(parents=True, exist_ok=True)
    dataset = datasets.Dataset.from_dict(content, features=datasets.Features({"image": datasets.Image(), **features}))
    dataset.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return f"hub:{root}"


def test_cocos_val2014_from_mirror_and_karpathys_splits_refused(tmp_path: Path) -> None:
    names = ["COCO_val2014_000000000042.jpg", "COCO_val2014_000000581929.jpg"]
    rows = {"question_id": names, "answer": [["A shoe.", "Shoes."], ["A room."]]}
    mirror = _mirror(tmp_path, "lmms-lab/COCO-Caption", "val", rows)
    samples = _load(COCO, mirror, "val2014")
    assert [(s.id, s.cluster, s.references) for s in samples] == [
        ("42", "42", ("A shoe.", "Shoes.")),
        ("581929", "581929", ("A room.",)),
    ]
    assert samples[0].images[0].size() == (50, 20)
    assert samples[1].images[0].name == "lmms-lab/COCO-Caption/val2014[1]"
    for split in ("test", "val", "train"):
        with pytest.raises(UserError, match=f"does not say which images are Karpathy's {split}; give --data ROOT"):
            _load(COCO, mirror, split)


def test_flickr30k_from_mirror_is_never_karpathys(tmp_path: Path) -> None:
    rows = {"caption": [["A man.", "A hat."]], "filename": ["1007129816.jpg"], "img_id": ["7"]}
    mirror = _mirror(tmp_path, "lmms-lab/flickr30k", "test", rows)
    (sample,) = _load(FLICKR, mirror, "all")
    assert (sample.id, sample.references) == ("1007129816", ("A man.", "A hat."))
    assert sample.images[0].load().size == (50, 20)
    for split in ("test", "val", "train"):
        with pytest.raises(UserError, match=f"31,783 images and does not say which are Karpathy's {split}"):
            _load(FLICKR, mirror, split)


def test_nocaps_from_mirror_has_no_domains_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = {"image_id": [0, 1], "annotations_captions": [["A tap."], ["A bee.", "Bees."]]}
    mirror = _mirror(tmp_path, "lmms-lab/NoCaps", "validation", rows, image_id="int32")
    samples = _load(NOCAPS, mirror, "val")
    assert [(s.id, s.references, dict(s.meta)) for s in samples] == [
        ("0", ("A tap.",), {}),
        ("1", ("A bee.", "Bees."), {}),
    ]
    assert samples[1].images[0].size() == (50, 20)
    assert "lacks the domains" in caplog.text


def test_hub_rows_that_are_wrong_are_reported(tmp_path: Path) -> None:
    rows = {"image_id": [0, 1], "annotations_captions": [["A tap."], []]}
    mirror = _mirror(tmp_path, "lmms-lab/NoCaps", "validation", rows, image_id="int32")
    with pytest.raises(UserError, match=r"lmms-lab/NoCaps/val\[1\] has no captions to score against"):
        _load(NOCAPS, mirror, "val")
    mirror = _mirror(tmp_path, "lmms-lab/COCO-Caption", "val", {"question_id": ["COCO_val2014_000000000042.jpg"]})
    with pytest.raises(UserError, match="COCO-Caption has no column answer"):
        _load(COCO, mirror, "val2014")
    with pytest.raises(UserError, match="no folder .*lmms-lab/flickr30k; a mirror has"):
        _load(FLICKR, mirror, "all")
