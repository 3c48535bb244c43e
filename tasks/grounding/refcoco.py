"""RefCOCO: find the object that an expression refers to, in COCO images.

Paper: Yu et al., "Modeling Context in Referring Expressions", ECCV 2016 (arXiv 1608.00272); the UNC splits.
Official data and toolbox: lichengunc/refer.  Score: share of boxes with IoU ≥ 0.5 (``metrics/iou.py``).

Protocol: one sample per *sentence*; the box of its referred object, xywh in the files, xyxy here; images from COCO
train2014.  testA holds people, testB everything else.

Deliberate choices:
- ``refs(unc).p`` is a Python 2 pickle; it is read as plain data, and nothing in it is executed.
- The image's name comes from ``image_id``: the refs' own ``file_name`` has a suffix and names no file.
- The hub's copy (``lmms-lab/RefCOCO``) has 8,811 refs in val, a mixture of the UNC and Google splits: its val is not
  the 10,834 sentences of UNC val, and a warning says so.

How the files are read stands in ``_refer.py``: RefCOCO+ and RefCOCOg have the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from evalkit.data import Data, HubData, OfficialData
from evalkit.types import Decoding, Kind, Sample, Split

from ._refer import from_files, from_hub

log = logging.getLogger(__name__)

HUB_REPO = "lmms-lab/RefCOCO"


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
            if split == "val":
                log.warning("refcoco val on the hub mixes the UNC and Google splits: not comparable with UNC val.")
            yield from from_hub(data, self.name, HUB_REPO, split)
        elif isinstance(data, OfficialData):
            yield from from_files(data, self.name, "unc", split)


TASK = RefCOCO()
