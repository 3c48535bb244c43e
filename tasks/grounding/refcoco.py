"""RefCOCO, RefCOCO+ and RefCOCOg: find the object that an expression refers to, in COCO images.

Papers: Yu et al., "Modeling Context in Referring Expressions", ECCV 2016 (arXiv 1608.00272), for RefCOCO and RefCOCO+
(no words for where something is); Mao et al., "Generation and Comprehension of Unambiguous Object Descriptions", CVPR
2016 (arXiv 1511.02283), for RefCOCOg (longer expressions, written without a game).
Official data and toolbox: lichengunc/refer.  Score: share of boxes with IoU ≥ 0.5 (``metrics/iou.py``).

Protocol: one sample per *sentence*; the reference is the box of its object, xywh in the files, xyxy here; images from
COCO train2014.  RefCOCO and RefCOCO+ have the UNC splits: testA shows people, testB other objects.  RefCOCOg has those
of the University of Maryland (UMD; Nagaraja et al., "Modeling Context Between Objects for Referring Expression
Understanding", ECCV 2016), in which no image is in two splits.  Its paper's own split (``refs(google).p``, "val*")
shares images with training and is not read.

Files: ``refs(PARTITION).p`` holds the objects with their sentences and splits, ``instances.json`` beside it the boxes
(COCO annotations), joined by ``ann_id``.  The hub's copies have a row per object: image, box (xywh) and expressions.

Deliberate choices:
- ``refs(…).p`` is a Python 2 pickle; it is read as plain data, and nothing in it is executed.
- The image's name comes from ``image_id``: the refs' own ``file_name`` has a suffix and names no file.
- Boxes are in the pixels as they are stored: COCO's annotations are, and the refer toolbox reads images with skimage,
  which ignores the orientation in EXIF data.  So it is not applied here, to files as to the hub's copies.
- ``sent_id`` and ``ref_id`` are each data set's own: the same number in RefCOCO and RefCOCO+ is another sentence.
- The hub's val of RefCOCO (8,811 refs) and of RefCOCOg (about 7.57k) mix the UNC or UMD split with Google's: they are
  not comparable with the official val, and a warning says so.  RefCOCO+ (about 3.81k, 1.98k and 1.8k refs) and
  RefCOCOg's test (about 5.02k) have the official sizes; that their expressions are the same was not checked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from evalkit.data import HubData, OfficialData, shown
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.pickles import load_plain_pickle
from evalkit.tasks._files import id_in, integer_in, is_coordinate, list_in, list_of, official_format, text_in, texts_in
from evalkit.types import Box, Decoding, PromptTemplate, Sample, Split

log = logging.getLogger(__name__)

HUB_COLUMNS = ("image", "bbox", "answer")
TRAIN = "training: for few-shot examples"


class ReferringExpressions(Task):
    """One of the three data sets, from the official files or the hub.

    Args:
        name: also the toolbox's name of its folder.
        partition: the splits that are read, ``refs(PARTITION).p``.
        mixed: whether the hub's val mixes these splits with Google's.
    """

    version = 1
    kind = "grounding"
    metric = "iou"
    decoding = Decoding(max_new_tokens=28)
    prompts = {
        "lmms-eval": PromptTemplate(
            "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, "
            "bottom-right y). All values are floating point numbers bounded between 0 and 1. "
            "Please provide the bounding box coordinate of the region this sentence describes: {q}"
        ),
        "vlmevalkit": PromptTemplate(
            "Please provide the bounding box coordinate of the region this sentence describes: <ref>{q}</ref>"
        ),
    }

    def __init__(self, name: str, partition: str, hub: str, splits: Mapping[str, Split], *, mixed: bool) -> None:
        self.name = name
        self.partition = partition
        self.hub = hub
        self.splits = splits
        self.default_splits = tuple(split for split in splits if split != "train")
        self.layout = (f"{name}/refs({partition}).p", f"{name}/instances.json", "coco/train2014/COCO_train2014_*.jpg")
        self.mixed = mixed

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The sentences of ``split``, in the order of the refs file."""
        task, refs_file = self.name, f"refs({self.partition}).p"
        path = data.find(f"{task}/{refs_file}", f"refer/data/{task}/{refs_file}", task=task)
        refs = load_plain_pickle(path)
        instances = data.json(f"{task}/instances.json", f"refer/data/{task}/instances.json", task=task)
        images = data.coco_images("train2014", task)
        toolbox = f"that of the refer toolbox's {task}.zip"
        with official_format(task, f"instances.json beside {path}", toolbox):
            boxes: dict[int, Any] = {}
            for annotation in list_in(instances, "annotations"):
                ann_id, box = integer_in(annotation, "id"), annotation["bbox"]
                if boxes.setdefault(ann_id, box) != box:
                    raise ValueError(f"two different boxes of annotation {ann_id}")
        with official_format(task, str(path), toolbox):
            chosen = [ref for ref in list_of(refs, "the file") if text_in(ref, "split") == split]
            for ref in chosen:
                ann_id, image_id = integer_in(ref, "ann_id"), integer_in(ref, "image_id")
                if ann_id not in boxes:
                    raise UserError(
                        f"{task}: {path} and instances.json beside it do not fit together (missing annotation "
                        f"{ann_id}); both come from the refer toolbox's {task}.zip."
                    )
                box = _xyxy(boxes[ann_id], f"annotation {ann_id}")
                for sentence in list_in(ref, "sentences"):
                    yield Sample(
                        id=id_in(sentence, "sent_id"),
                        images=(replace(images[image_id], upright=False),),
                        text=_expression(sentence),
                        references=(box,),
                        cluster=str(image_id),
                        meta={"ref_id": integer_in(ref, "ref_id")},
                    )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        """The expressions of ``split`` of the hub's copy; without official ids, a sample's id is its place."""
        if split == "val" and self.mixed:
            own = self.partition.upper()
            log.warning(
                "%s val on the hub mixes the %s and Google splits: not comparable with %s val.", self.name, own, own
            )
        if split == "train":
            raise UserError(f"{self.name}: the hub's copy ({self.hub}) has no training split; give --data ROOT.")
        rows = data.rows(self.hub, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{self.hub}/{split}[{index}]"
            image = RowImage(name, rows, index, upright=False)
            with official_format(self.name, name, "a box and expressions"):
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
    expression.encode()  # unlike the JSON read here, a pickle can hold half a character
    return expression


def _image_of(row: Mapping[str, Any], index: int) -> str:
    # COCO_train2014_000000581857_16.jpg: the part after the last underscore numbers the annotation, not the image.
    name = str(row.get("file_name", ""))
    return name.rpartition("_")[0] or str(index)


TASKS = {
    task.name: task
    for task in (
        ReferringExpressions(
            "refcoco",
            "unc",
            "lmms-lab/RefCOCO",
            {
                "val": Split(10_834, "UNC validation"),
                "testA": Split(5_657, "people"),
                "testB": Split(5_095, "other objects"),
                "train": Split(120_624, TRAIN),
            },
            mixed=True,
        ),
        ReferringExpressions(
            "refcoco+",
            "unc",
            "lmms-lab/RefCOCOplus",
            {
                "val": Split(10_758, "UNC validation"),
                "testA": Split(5_726, "people"),
                "testB": Split(4_889, "other objects"),
                "train": Split(120_191, TRAIN),
            },
            mixed=False,
        ),
        ReferringExpressions(
            "refcocog",
            "umd",
            "lmms-lab/RefCOCOg",
            {
                "val": Split(4_896, "UMD validation"),
                "test": Split(9_602, "UMD test"),
                "train": Split(80_512, TRAIN),
            },
            mixed=True,
        ),
    )
}
