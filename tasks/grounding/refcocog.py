"""RefCOCOg: find the object that a longer expression refers to, in COCO images; written without a game.

Paper: Mao et al., "Generation and Comprehension of Unambiguous Object Descriptions", CVPR 2016 (arXiv 1511.02283).
Official data and toolbox: lichengunc/refer.  Score: share of boxes with IoU ≥ 0.5 (``metrics/iou.py``).

Protocol: one sample per *sentence*; the box of its referred object, xywh in the files, xyxy here; images from COCO
train2014.  The splits are those of the University of Maryland (UMD; Nagaraja et al., "Modeling Context Between Objects
for Referring Expression Understanding", ECCV 2016), which is what tables mean by RefCOCOg val and test: no image
is in two of them.  The paper's own split (``refs(google).p``, "val*") shares images with training; it is not read.

Deliberate choices:
- ``refs(umd).p`` is a Python 2 pickle; it is read as plain data, and nothing in it is executed.
- The image's name comes from ``image_id``: the refs' own ``file_name`` has a suffix and names no file.
- The hub's copy (``lmms-lab/RefCOCOg``) shows about 7.57k refs in val, where UMD val has 2,573 and Google's 5,000: as
  for RefCOCO, a mixture, and a warning says so.  Its test has about 5.02k, as UMD test (5,023).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from evalkit.data import Data, HubData, OfficialData
from evalkit.types import Decoding, Kind, Sample, Split

from ._refer import from_files, from_hub

log = logging.getLogger(__name__)

HUB_REPO = "lmms-lab/RefCOCOg"


class RefCOCOg:
    """RefCOCOg (UMD) val and test (and train, for exemplars), from the official files or the hub."""

    name = "refcocog"
    version = 1
    kind: Kind = "grounding"
    splits: Mapping[str, Split] = {
        "val": Split(4_896, "UMD validation"),
        "test": Split(9_602, "UMD test"),
        "train": Split(80_512, "training: for exemplars"),
    }
    default_splits = ("val", "test")
    metric = "iou"
    decoding = Decoding(max_new_tokens=28)
    layout = ("refcocog/refs(umd).p", "refcocog/instances.json", "coco/train2014/COCO_train2014_*.jpg")
    hub = HUB_REPO

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The expressions of ``split``, in the order of the refs file."""
        if isinstance(data, HubData):
            if split == "val":
                log.warning("refcocog val on the hub mixes the UMD and Google splits: not comparable with UMD val.")
            yield from from_hub(data, self.name, HUB_REPO, split)
        elif isinstance(data, OfficialData):
            yield from from_files(data, self.name, "umd", split)


TASK = RefCOCOg()
