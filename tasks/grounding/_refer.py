"""Reading RefCOCO, RefCOCO+ and RefCOCOg: three data sets in one format.

The format is that of lichengunc/refer.  ``refs(PARTITION).p`` holds the referred objects with their sentences and
splits, ``instances.json`` beside it the boxes (COCO annotations, xywh), joined by ``ann_id``.  The hub's copies have a
row an object: its image, its box (xywh, pixels) and the list of its expressions.

Each task's own file says its protocol; here is only what they share: one sample per *sentence*, boxes as xyxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, shown
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.pickles import load_plain_pickle
from evalkit.tasks._files import id_in, is_coordinate, list_in, list_of, official_format, text_in, texts_in, whole_in
from evalkit.types import Box, Sample

HUB_COLUMNS = ("image", "bbox", "answer")


def from_files(data: OfficialData, task: str, partition: str, split: str) -> Iterator[Sample]:
    """The sentences of ``split`` in the partition ``unc``, ``umd`` or ``google``, in the order of the refs file.

    ``task`` is also the folder's name in the toolbox.
    """
    refs_file = f"refs({partition}).p"
    path = data.find(f"{task}/{refs_file}", f"refer/data/{task}/{refs_file}", task=task)
    refs = load_plain_pickle(path)
    instances = data.json(f"{task}/instances.json", f"refer/data/{task}/instances.json", task=task)
    images = data.coco_images("train2014", task)
    toolbox = f"that of the refer toolbox's {task}.zip"
    with official_format(task, f"instances.json beside {path}", toolbox):
        boxes: dict[int, Any] = {}
        for annotation in list_in(instances, "annotations"):
            ann_id, box = whole_in(annotation, "id"), annotation["bbox"]
            if boxes.setdefault(ann_id, box) != box:
                raise ValueError(f"two different boxes of annotation {ann_id}")
    with official_format(task, str(path), toolbox):
        chosen = [ref for ref in list_of(refs, "the file") if text_in(ref, "split") == split]
        for ref in chosen:
            ann_id, image_id = whole_in(ref, "ann_id"), whole_in(ref, "image_id")
            if ann_id not in boxes:
                raise UserError(
                    f"{task}: {path} and instances.json beside it do not fit together (missing annotation {ann_id}); "
                    f"both come from the refer toolbox's {task}.zip."
                )
            box = _xyxy(boxes[ann_id], f"annotation {ann_id}")
            for sentence in list_in(ref, "sentences"):
                yield Sample(
                    id=id_in(sentence, "sent_id"),
                    # By image_id: the refs' own file_name has a suffix and names no file.
                    images=(images[image_id],),
                    text=_expression(sentence),
                    references=(box,),
                    cluster=str(image_id),
                    meta={"ref_id": whole_in(ref, "ref_id")},
                )


def from_hub(data: HubData, task: str, repo: str, split: str) -> Iterator[Sample]:
    """The expressions of a split of the hub's copy; they have no official id there, so it is made of their place."""
    if split == "train":
        raise UserError(f"{task}: the hub's copy ({repo}) has no training split; give --data ROOT.")
    rows = data.rows(repo, split, task=task, columns=HUB_COLUMNS)
    for index, row in data.iterate(rows):
        name = f"{repo}/{split}[{index}]"
        image = RowImage(name, rows, index)
        with official_format(task, name, "a box and expressions"):
            box, expressions = _xyxy(row["bbox"], "bbox"), texts_in(row, "answer")
        for k, expression in enumerate(expressions):
            yield Sample(
                id=f"{index}-{k}",
                images=(image,),
                text=expression,
                references=(box,),
                cluster=_image_of(row, index),
            )


def _xyxy(xywh: Any, what: str) -> Box:
    """The box of ``what``.  Raises ``ValueError`` for anything but four numbers that enclose something."""
    numbers = list_of(xywh, f"the box of {what}")
    if len(numbers) != 4 or not all(map(is_coordinate, numbers)):
        raise ValueError(f"the box of {what} is {shown(xywh)}, not x, y, width and height in pixels")
    x, y, w, h = map(float, numbers)
    if w <= 0 or h <= 0:
        raise ValueError(f"the box of {what} is {shown(xywh)}, which encloses nothing")
    return x, y, x + w, y + h


def _expression(sentence: Any) -> str:
    expression = text_in(sentence, "sent")
    expression.encode()  # a pickle, unlike JSON as it is read here, can hold half a character
    return expression


def _image_of(row: Mapping[str, Any], index: int) -> str:
    # COCO_train2014_000000581857_16.jpg: the part after the last underscore numbers the annotation, not the image.
    name = str(row.get("file_name", ""))
    return name.rpartition("_")[0] or str(index)
