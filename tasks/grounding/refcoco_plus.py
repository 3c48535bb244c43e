"""RefCOCO+: RefCOCO's game with a rule: no words for where in the image something is.

Paper: Yu et al., "Modeling Context in Referring Expressions", ECCV 2016 (arXiv 1608.00272); the UNC splits.
Official data and toolbox: lichengunc/refer.  Score: share of boxes with IoU ≥ 0.5 (``metrics/iou.py``).

Protocol: one sample per *sentence*; the box of its referred object, xywh in the files, xyxy here; images from COCO
train2014.  testA holds people, testB everything else.

Deliberate choices:
- ``refs(unc).p`` is a Python 2 pickle; it is read as plain data, and nothing in it is executed.
- The image's name comes from ``image_id``: the refs' own ``file_name`` has a suffix and names no file.
- ``sent_id`` s and ``ref_id`` s are the data set's own: the same number in RefCOCO is another sentence.
- The hub's copy (``lmms-lab/RefCOCOplus``) shows about 3.81k, 1.98k and 1.8k refs for val, testA and testB, which are
  the UNC splits' sizes (that its expressions are the same ones was not checked).

How the files are read stands in ``_refer.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evalkit.data import Data, HubData, OfficialData
from evalkit.types import Decoding, Kind, Sample, Split

from ._refer import from_files, from_hub

HUB_REPO = "lmms-lab/RefCOCOplus"


class RefCOCOPlus:
    """RefCOCO+ (UNC) val, testA and testB (and train, for exemplars), from the official files or the hub."""

    name = "refcoco+"
    version = 1
    kind: Kind = "grounding"
    splits: Mapping[str, Split] = {
        "val": Split(10_758, "UNC validation"),
        "testA": Split(5_726, "people"),
        "testB": Split(4_889, "other objects"),
        "train": Split(120_191, "training: for exemplars"),
    }
    default_splits = ("val", "testA", "testB")
    metric = "iou"
    decoding = Decoding(max_new_tokens=28)
    layout = ("refcoco+/refs(unc).p", "refcoco+/instances.json", "coco/train2014/COCO_train2014_*.jpg")
    hub = HUB_REPO

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The expressions of ``split``, in the order of the refs file."""
        if isinstance(data, HubData):
            yield from from_hub(data, self.name, HUB_REPO, split)
        elif isinstance(data, OfficialData):
            yield from from_files(data, self.name, "unc", split)


TASK = RefCOCOPlus()
