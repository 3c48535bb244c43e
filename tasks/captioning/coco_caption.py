"""COCO captions: describe a COCO image in a sentence; five captions each, a few images have more.

Papers: Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015 (arXiv 1504.00325);
Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", CVPR 2015 (arXiv 1412.2306),
for the splits.  Official scorer: tylin/coco-caption (see ``metrics/cider.py``).

Protocol: one caption an image (30 new tokens); CIDEr and its companions against every caption of the image.  test
and val are Karpathy's, 5,000 images of val2014 each, and what papers report; ``val2014`` is COCO's own validation.

Deliberate choices:
- References are the captions as typed (``raw``), not Karpathy's tokens: the scorer tokenizes them itself.
- An image's folder is what its entry says (``filepath``); a sample's id is COCO's (``cocoid``), the same everywhere.
- train is Karpathy's train and restval, which papers train on together.
- The hub's copy (``lmms-lab/COCO-Caption``) has COCO's val2014 and does not say which images are Karpathy's: it
  serves ``val2014`` only, and its test has no public captions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from evalkit.data import HubData, OfficialData, shown
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import integer_in, official_format, required, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._captions import caption_results, coco_captions, karpathy_images

KARPATHY = "dataset_coco.json"
KARPATHY_PLACES = (f"coco/{KARPATHY}", f"coco/annotations/{KARPATHY}", f"caption_datasets/{KARPATHY}", KARPATHY)
PARTS = {"test": ("test",), "val": ("val",), "train": ("train", "restval")}
SUBSETS = ("train2014", "val2014")

CAPTIONS = "captions_val2014.json"
CAPTIONS_PLACES = (f"coco/annotations/{CAPTIONS}", f"annotations/{CAPTIONS}", f"coco/{CAPTIONS}", CAPTIONS)

HUB_REPO = "lmms-lab/COCO-Caption"
HUB_SPLITS = {"val2014": "val"}
HUB_COLUMNS = ("image", "question_id", "answer")


class COCOCaption(Task):
    """COCO captions: Karpathy's test, val and train (for few-shot examples), and val2014, also from the hub."""

    name = "coco_caption"
    version = 1
    kind = "caption"
    splits = {
        "test": Split(5_000, "Karpathy test, COCO val2014"),
        "val": Split(5_000, "Karpathy validation, COCO val2014"),
        "val2014": Split(40_504, "COCO's own validation, COCO val2014"),
        "train": Split(113_287, "Karpathy train and restval, COCO train2014 and val2014: for few-shot examples"),
    }
    default_splits = ("test",)
    metric = "cider"
    decoding = Decoding(max_new_tokens=30)
    prompts = {
        "lmms-eval": PromptTemplate("Provide a one-sentence caption for the provided image.", max_new_tokens=64),
        "vlmevalkit": PromptTemplate(
            "Please describe this image in general. "
            'Directly provide the description, do not include prefix like "This image depicts". '
        ),
    }
    layout = (KARPATHY_PLACES[0], CAPTIONS_PLACES[0], "coco/val2014/COCO_val2014_*.jpg")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The images of ``split``, in the order of its file."""
        return self._from_karpathy(data, split) if split in PARTS else self._from_coco(data)

    def results(self, answers: Sequence[Answered]) -> str:
        """The captions as ``COCO.loadRes`` reads them."""
        return caption_results(answers, task=self.name)

    def _from_karpathy(self, data: OfficialData, split: str) -> Iterator[Sample]:
        fields = {"cocoid": integer_in, "filepath": _subset_in}
        rows = karpathy_images(data, *KARPATHY_PLACES, task=self.name, parts=PARTS[split], fields=fields)
        subsets = dict.fromkeys(row["filepath"] for row, _ in rows)
        folders = {subset: data.coco_images(subset, self.name) for subset in subsets}
        for row, captions in rows:
            image_id = row["cocoid"]
            yield Sample(
                id=str(image_id),
                images=(folders[row["filepath"]][image_id],),
                text="",
                references=captions,
                cluster=str(image_id),
            )

    def _from_coco(self, data: OfficialData) -> Iterator[Sample]:
        images = data.coco_images("val2014", self.name)
        for row, captions in coco_captions(data, *CAPTIONS_PLACES, task=self.name):
            image_id = row["id"]
            yield Sample(
                id=str(image_id), images=(images[image_id],), text="", references=captions, cluster=str(image_id)
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split not in HUB_SPLITS:
            raise UserError(
                f"coco_caption: {HUB_REPO} holds COCO's val2014 and does not say which images are Karpathy's "
                f"{split}; give --data ROOT with {KARPATHY}, or evaluate coco_caption/val2014."
            )
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"an image of {HUB_REPO}"):
                image_id = _image_id(text_in(row, "question_id"))
            yield Sample(
                id=image_id,
                images=(RowImage(name, rows, index),),
                text="",
                references=required(row["answer"] or (), "captions", name, task=self.name),
                cluster=image_id,
            )


def _subset_in(image: Any, key: str) -> str:
    subset = text_in(image, key)
    if subset not in SUBSETS:  # it becomes a folder's name
        raise ValueError(f"{key} is {shown(subset)}, neither {' nor '.join(SUBSETS)}")
    return subset


def _image_id(question_id: str) -> str:
    # COCO_val2014_000000000042.jpg: the hub's question_id is the image's name.
    return str(int(PurePath(question_id).stem.rpartition("_")[2]))


TASK = COCOCaption()
