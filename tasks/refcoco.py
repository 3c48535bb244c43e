"""RefCOCO: find the object that an expression refers to, in COCO pictures.

Paper: Yu et al., "Modeling Context in Referring Expressions", ECCV 2016 (arXiv 1608.00272); the UNC splits.
Official data and toolbox: lichengunc/refer.  Score: share of boxes with IoU ≥ 0.5 (``metrics/iou.py``).

Protocol: one sample per *sentence*; the box of its referred object, xywh in the files, xyxy here; pictures from COCO
train2014.  testA holds people, testB everything else.

Deliberate choices:
- ``refs(unc).p`` is a Python 2 pickle; it is read as plain data, and nothing in it is executed.
- The picture's name comes from ``image_id``: the refs' own ``file_name`` has a suffix and names no file.
- The hub's copy (``lmms-lab/RefCOCO``) has 8,811 refs in val, a mixture of the UNC and Google splits: its val is not
  the 10,834 sentences of UNC val, and a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import Data, HubData, OfficialData, RowImage
from evalkit.errors import UserError
from evalkit.pickles import load_plain_pickle
from evalkit.types import Box, Decoding, Kind, Sample, Split

log = logging.getLogger(__name__)

HUB_REPO = "lmms-lab/RefCOCO"
HUB_COLUMNS = ("image", "bbox", "answer")


class RefCOCO:
    """RefCOCO (UNC) val, testA and testB (and train, for exemplars), from the official files or the hub."""

    name = "refcoco"
    version = 1
    kind: Kind = "grounding"
    splits: Mapping[str, Split] = {
        "val": Split(10_834, "UNC validation"),
        "testA": Split(5_657, "people"),
        "testB": Split(5_095, "other objects"),
        "train": Split(120_624, "training: for exemplars"),
    }
    default_splits = ("val", "testA", "testB")
    metric = "iou"
    decoding = Decoding(max_new_tokens=28)
    layout = ("refcoco/refs(unc).p", "refcoco/instances.json", "coco/train2014/COCO_train2014_*.jpg")
    hub = HUB_REPO

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The expressions of ``split``, in the order of the refs file."""
        if isinstance(data, HubData):
            yield from self._from_hub(data, split)
        elif isinstance(data, OfficialData):
            yield from self._from_files(data, split)

    def _from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        path = data.find("refcoco/refs(unc).p", "refer/data/refcoco/refs(unc).p", task=self.name)
        refs = load_plain_pickle(path)
        instances = data.json("refcoco/instances.json", "refer/data/refcoco/instances.json", task=self.name)
        images = data.coco_images("train2014", self.name)
        try:
            boxes = {a["id"]: _xyxy(a["bbox"]) for a in instances["annotations"]}
            chosen = [ref for ref in refs if ref["split"] == split]
            for ref in chosen:
                for sentence in ref["sentences"]:
                    yield Sample(
                        id=str(sentence["sent_id"]),
                        images=(images[ref["image_id"]],),
                        text=sentence["sent"],
                        references=(boxes[ref["ann_id"]],),
                        cluster=str(ref["image_id"]),
                        meta={"ref_id": ref["ref_id"]},
                    )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"refcoco: {path} and instances.json beside it do not fit together (missing {error}); "
                "both come from the refer toolbox's refcoco.zip."
            ) from error

    def _from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split == "train":
            raise UserError(f"refcoco: the hub's copy ({HUB_REPO}) has no training split; give --data ROOT.")
        if split == "val":
            log.warning("refcoco val on the hub mixes the UNC and Google splits: not comparable with UNC val.")
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            image = RowImage(f"{HUB_REPO}/{split}[{index}]", rows, index)
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


TASK = RefCOCO()
