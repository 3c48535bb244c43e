"""Reading RefCOCO, RefCOCO+ and RefCOCOg: three data sets in one format.

The format is that of lichengunc/refer.  ``refs(PARTITION).p`` holds the referred objects with their sentences and
splits, ``instances.json`` beside it the boxes (COCO annotations, xywh), joined by ``ann_id``.  The hub's copies have a
row an object: its picture, its box (xywh, pixels) and the list of its expressions.

Each task's own file says its protocol; here is only what they share: one sample per *sentence*, boxes as xyxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, RowImage
from evalkit.errors import UserError
from evalkit.pickles import load_plain_pickle
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
    try:
        boxes = {a["id"]: _xyxy(a["bbox"]) for a in instances["annotations"]}
        chosen = [ref for ref in refs if ref["split"] == split]
        for ref in chosen:
            for sentence in ref["sentences"]:
                yield Sample(
                    id=str(sentence["sent_id"]),
                    # By image_id: the refs' own file_name has a suffix and names no file.
                    images=(images[ref["image_id"]],),
                    text=sentence["sent"],
                    references=(boxes[ref["ann_id"]],),
                    cluster=str(ref["image_id"]),
                    meta={"ref_id": ref["ref_id"]},
                )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{task}: {path} and instances.json beside it do not fit together (missing {error}); "
            f"both come from the refer toolbox's {task}.zip."
        ) from error


def from_hub(data: HubData, task: str, repo: str, split: str) -> Iterator[Sample]:
    """The expressions of a split of the hub's copy; they have no official id there, so it is made of their place."""
    if split == "train":
        raise UserError(f"{task}: the hub's copy ({repo}) has no training split; give --data ROOT.")
    rows = data.rows(repo, split, task=task, columns=HUB_COLUMNS)
    for index, row in data.iterate(rows):
        image = RowImage(f"{repo}/{split}[{index}]", rows, index)
        for k, expression in enumerate(row["answer"]):
            yield Sample(
                id=f"{index}-{k}",
                images=(image,),
                text=expression,
                references=(_xyxy(row["bbox"]),),
                cluster=_image_of(row, index),
            )


def _xyxy(xywh: Any) -> Box:
    x, y, w, h = (float(v) for v in xywh)
    return x, y, x + w, y + h


def _image_of(row: Mapping[str, Any], index: int) -> str:
    # COCO_train2014_000000581857_16.jpg: the part after the last underscore numbers the annotation, not the picture.
    name = str(row.get("file_name", ""))
    return name.rpartition("_")[0] or str(index)
