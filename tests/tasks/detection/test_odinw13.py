"""ODinW-13 from GLIP's files and the hub: the 13 folders, categories, objects, and files in another format."""

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
from evalkit.jobs import load_job
from evalkit.types import Sample

TASK = registry.tasks.get("odinw13")
DATASETS = tuple(split for split in TASK.splits if split != "test")
CONTENT: dict[str, Any] = {
    "categories": [{"id": 2, "name": "car"}, {"id": 1, "name": "boat"}],
    "images": [{"id": 10, "file_name": "b.jpg"}, {"id": 9, "file_name": "a.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 2, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [1.5, 2, 3, 4], "area": 12, "iscrowd": 1},
    ],
}


def write(root: Path, **change: Any) -> Path:
    """GLIP's folders with two images each."""
    for path in TASK.layout:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**CONTENT, **change}))
        for name in ("a.jpg", "b.jpg"):
            Image.new("RGB", (100, 80)).save(file.parent / name)
    return root


def samples(data: str, split: str = "test") -> list[Sample]:
    return list(load_job(TASK, split, open_data(data), limit=None, seed=0).samples)


def test_from_files(tmp_path: Path) -> None:
    found = samples(str(write(tmp_path)))
    assert len(DATASETS) == 13
    assert [sample.id for sample in found] == [f"{name}-{number}" for name in DATASETS for number in (9, 10)]
    first, second = found[:2]
    assert (first.text, first.meta["dataset"], first.cluster) == ("boat, car", "AerialMaritimeDrone", first.id)
    assert first.references == (
        {"label": "car", "box": (10.0, 20.0, 40.0, 60.0)},
        {"label": "boat", "box": (1.5, 2.0, 4.5, 6.0), "crowd": True},
    )
    assert second.references == ()
    assert first.images[0].name.endswith("odinw/AerialMaritimeDrone/large/valid/a.jpg")
    pistols = next(sample for sample in found if sample.id == "pistols-9")
    assert pistols.images[0].name.endswith("odinw/pistols/export/a.jpg")


def test_one_data_set_needs_no_other(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "odinw" / "Aquarium").rename(tmp_path / "Aquarium")
    assert [sample.id for sample in samples(str(tmp_path), "Raccoon")] == ["Raccoon-9", "Raccoon-10"]
    with pytest.raises(UserError, match=r"no annotations_without_background.json under .*; expected odinw/Aquarium/"):
        samples(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"categories": []}, "its categories have no different names"),
        ({"categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "Car"}]}, "its categories have no different names"),
        ({"categories": [{"id": 1, "name": "boat, small"}, {"id": 2, "name": "car"}]}, "'boat, small' cannot be named in a list"),
        ({"categories": [{"id": 1, "name": "boat"}]}, "the category 2 of annotation 1 is not listed"),
        ({"images": [{"id": 10, "file_name": "b.jpg"}]}, "it has objects of the image 9, which it does not list"),
        ({"images": [{"id": 9, "file_name": "../b.jpg"}]}, r"\.\./b\.jpg"),
        ({"annotations": [{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3]}]}, r"a box is \[1, 2, 3\], not four numbers"),
        ({"annotations": [{"image_id": 9, "category_id": 1, "bbox": [1, 2, -3, 4]}]}, "of negative width or height"),
        ({"annotations": {}}, "annotations is {}, not a list"),
    ],
)  # fmt: skip
def test_bad_files_are_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        samples(str(write(tmp_path, **change)))
    assert "\n" not in str(error.value)


def hub(root: Path, **change: Any) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 80)).save(buffer, "PNG")
    row = {
        "image": {"bytes": buffer.getvalue(), "path": None}, "dataset_name": "Raccoon", "categories": ["raccoon", "cub"],
        "bboxes": [[10.0, 20.0, 40.0, 60.0]], "labels": ["cub"], **change,
    }  # fmt: skip
    folder = root / "kcz358" / "ODinW-13" / "data"
    folder.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist([row, {**row, "dataset_name": "pothole"}]), folder / "test-00000-of-00001.parquet"
    )
    return f"hub:{root}"


def test_from_the_hub(tmp_path: Path) -> None:
    data = hub(tmp_path)
    first, second = samples(data)
    assert (first.id, second.id) == ("Raccoon-0", "pothole-1")
    assert (first.text, first.references) == ("raccoon, cub", ({"label": "cub", "box": (10.0, 20.0, 40.0, 60.0)},))
    assert first.images[0].size() == (100, 80)
    assert [sample.id for sample in samples(data, "pothole")] == ["pothole-1"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": ["dog"]}, "the label 'dog' is no category"),
        ({"labels": ["cub", "cub"]}, "not the official format"),
        ({"bboxes": [[40.0, 20.0, 10.0, 60.0]]}, "whose corners are swapped"),
    ],
)
def test_bad_rows_are_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        samples(hub(tmp_path, **change))
