"""ODinW-13: find all objects of given categories, in 13 data sets from drones' photographs to thermal images.

Papers: Li et al., "Grounded Language-Image Pre-training", CVPR 2022 (arXiv 2112.03857), for the 13; Li et al.,
"ELEVATER", NeurIPS 2022 (arXiv 2204.08790), for Object Detection in the Wild.  Data: GLIP's downloads, COCO annotations
with a folder of images each.  Scorer: ``evaluation/ODinW-13`` of QwenLM/Qwen3-VL (commit 9658872).  Score: the mean of
the data sets' mAP (``metrics/coco_ap.py``), with each one's.

Protocol: the prompt names all categories of the data set, and the answer is a list of boxes with labels.  Qwen2.5-VL
writes pixels of the resized image, Qwen3-VL thousandths: the model's family says which; nothing is guessed.

Files: those of mm_grounding_dino's configuration for ODinW-13 in open-mmlab/mmdetection, which Qwen's authors name
(issue 839 of their repository): ``valid/annotations_without_background.json``, not ``test``; GLIP's own configurations
evaluate these files as well.

Rules, beside evalkit's own (``docs/parsing.md``):
- ``qwen3-vl-evaluation`` (the default): as that script reads and rounds.

Deliberate choices:
- Categories are those of the annotation file, in the order of their ids.
- lmms-eval's task is not followed: of several readings of a box, as pixels, fractions or thousandths, it takes the one
  that fits the reference best.

Known differences from the reports' numbers:
- Qwen2.5-VL was asked for one category at a time (issue 839: ``Locate every {obj_name} in the image and output the
  coordinates in JSON format.``).  A user who did so with the 7B on twelve of the sets had 29.7; 37.3 is published.
- Qwen3-VL's answers were sampled, from images of 768 to 12,800 visual tokens (``--min-pixels``, ``--max-pixels``).

Not checked against the official download: the number of images (lmms-eval's copy has 4,938), and whether that copy
(``kcz358/ODinW-13``) has the same images and categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit import detections
from evalkit.data import HubData, OfficialData, image_in, shown
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import (
    integer_in,
    is_coordinate,
    list_in,
    list_of,
    name_in,
    official_format,
    text_in,
    texts_in,
)
from evalkit.types import CATEGORY_SEPARATOR, Box, Decoding, ImageRef, LabelledBox, Sample, ScoringRule, Split

HUB_REPO = "kcz358/ODinW-13"
HUB_COLUMNS = ("image", "dataset_name", "categories", "bboxes", "labels")
VALID = "valid/annotations_without_background.json"
EXPECTED = "COCO's annotations as in GLIP's download of ODinW"


@dataclass(frozen=True)
class Place:
    """Where a data set is below ``odinw``: the annotations and the images below its folder."""

    folder: str
    annotations: str = VALID
    images: str = "valid"


PLACES: Mapping[str, Place] = {
    "AerialMaritimeDrone": Place("AerialMaritimeDrone/large"),
    "Aquarium": Place("Aquarium/Aquarium Combined.v2-raw-1024.coco"),
    "CottontailRabbits": Place("CottontailRabbits"),
    "EgoHands": Place("EgoHands/generic"),
    "NorthAmericaMushrooms": Place("NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco"),
    "Packages": Place("Packages/Raw"),
    "PascalVOC": Place("PascalVOC"),
    "pistols": Place("pistols/export", "val_annotations_without_background.json", ""),
    "pothole": Place("pothole"),
    "Raccoon": Place("Raccoon/Raccoon.v2-raw.coco"),
    "ShellfishOpenImages": Place("ShellfishOpenImages/raw"),
    "thermalDogsAndPeople": Place("thermalDogsAndPeople"),
    "VehiclesOpenImages": Place("VehiclesOpenImages/416x416"),
}
"""The 13 data sets, in the order of the configuration."""
FOLDERS = ("odinw", "ODinW", "odinw13")


class ODinW13(Task):
    """ODinW-13, or one of its data sets, from GLIP's files or the hub."""

    name = "odinw13"
    version = 1
    kind = "detection"
    splits = {"test": Split(None, "all 13 data sets"), **{name: Split(None, "one of the 13") for name in PLACES}}
    default_splits = ("test",)
    metric = "coco_ap"
    decoding = Decoding(max_new_tokens=4096)
    rules = {
        detections.QWEN3_VL: ScoringRule(
            detections.QWEN3_VL, "coco_ap_rounded", "Qwen3-VL's script: a Python list, each data set's mAP to 0.1"
        )
    }
    default_rule = detections.QWEN3_VL
    layout = tuple(f"odinw/{place.folder}/{place.annotations}" for place in PLACES.values())
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The images of each data set by their ids, the order in which pycocotools counts boxes of equal score."""
        for dataset in PLACES if split == "test" else (split,):
            place = PLACES[dataset]
            candidates = [f"{folder}/{place.folder}/{place.annotations}" for folder in FOLDERS]
            content = data.json(*candidates, task=self.name)
            where = str(data.find(*candidates, task=self.name))
            folders = [f"{folder}/{place.folder}/{place.images}".rstrip("/") for folder in FOLDERS]
            images = data.image_folder(*folders, task=self.name)
            with official_format(self.name, where, EXPECTED):
                names = _categories(content)
                objects = _objects(content, names)
                entries = {integer_in(entry, "id"): name_in(entry, "file_name") for entry in list_in(content, "images")}
                if unknown := objects.keys() - entries.keys():
                    raise ValueError(f"it has objects of the image {min(unknown)}, which it does not list")
                for number, name in sorted(entries.items()):
                    image = replace(image_in(images, name, task=self.name), upright=False)
                    yield _sample(dataset, str(number), image, list(names.values()), objects.get(number, ()))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        """The rows of lmms-eval's copy, in its order; boxes are two corners."""
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, "an image's boxes with labels"):
                dataset = text_in(row, "dataset_name")
                if split not in ("test", dataset):
                    continue
                names, labels = texts_in(row, "categories"), texts_in(row, "labels")
                boxes = [_corners(box) for box in list_in(row, "bboxes")]
                objects: list[LabelledBox] = []
                for label, box in zip(labels, boxes, strict=True):
                    objects.append({"label": label, "box": box})
                yield _sample(dataset, str(index), RowImage(name, rows, index, upright=False), names, objects)


def _sample(dataset: str, number: str, image: ImageRef, names: Sequence[str], objects: Sequence[LabelledBox]) -> Sample:
    """An image of a data set.  Raises ``ValueError`` if a name cannot be in a list, or is no category."""
    for name in names:
        if not name.strip() or CATEGORY_SEPARATOR in name:
            raise ValueError(f"the category {shown(name)} cannot be named in a list")
    if wrong := {one["label"] for one in objects} - set(names):
        raise ValueError(f"the label {shown(min(wrong))} is no category")
    sample_id = f"{dataset}-{number}"
    text = CATEGORY_SEPARATOR.join(names)
    return Sample(sample_id, (image,), text, tuple(objects), sample_id, meta={"dataset": dataset})


def _categories(content: Any) -> dict[int, str]:
    """The categories by id, in ascending order."""
    found = {integer_in(entry, "id"): text_in(entry, "name") for entry in list_in(content, "categories")}
    if not found or len({name.lower() for name in found.values()}) != len(found):
        raise ValueError("its categories have no different names")
    return dict(sorted(found.items()))


def _objects(content: Any, names: Mapping[int, str]) -> dict[int, list[LabelledBox]]:
    """The objects by image."""
    found: dict[int, list[LabelledBox]] = {}
    for entry in list_in(content, "annotations"):
        category = integer_in(entry, "category_id")
        if category not in names:
            raise ValueError(f"the category {category} of annotation {shown(entry.get('id'))} is not listed")
        box: LabelledBox = {"label": names[category], "box": _xyxy(entry["bbox"])}
        if entry.get("iscrowd"):
            box["crowd"] = True
        found.setdefault(integer_in(entry, "image_id"), []).append(box)
    return found


def _xyxy(xywh: Any) -> Box:
    """COCO's box as corners.  One without area is kept: it counts as an object that cannot be found, as in COCO."""
    x, y, w, h = _four(xywh)
    if w < 0 or h < 0:
        raise ValueError(f"a box is {shown(xywh)}, of negative width or height")
    return x, y, x + w, y + h


def _corners(value: Any) -> Box:
    x1, y1, x2, y2 = _four(value)
    if x1 > x2 or y1 > y2:
        raise ValueError(f"a box is {shown(value)}, whose corners are swapped")
    return x1, y1, x2, y2


def _four(value: Any) -> Box:
    numbers = list_of(value, "a box")
    if len(numbers) != 4 or not all(map(is_coordinate, numbers)):
        raise ValueError(f"a box is {shown(value)}, not four numbers in pixels")
    a, b, c, d = map(float, numbers)
    return a, b, c, d


TASK = ODinW13()
