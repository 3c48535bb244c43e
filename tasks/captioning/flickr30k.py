"""Flickr30k captions: describe a Flickr image in a sentence; five captions each.

Papers: Young et al., "From image descriptions to visual denotations", TACL 2014; Karpathy and Fei-Fei, "Deep
Visual-Semantic Alignments for Generating Image Descriptions", CVPR 2015 (arXiv 1412.2306), for the splits.
Official scorer: tylin/coco-caption (see ``metrics/cider.py``).

Protocol: Karpathy's test of 1,000 images; one caption an image (30 new tokens); CIDEr and its companions.

Deliberate choices:
- References are the captions as typed (``raw``): the scorer tokenizes them itself.
- Few-shot examples come from train.  Qwen-VL's script draws them from the test file itself, so its few-shot scores are
  not quite comparable.
- A sample's id is its image's name without the ending: the photo's number at Flickr, in files and on the hub.
- The hub's copy (``lmms-lab/flickr30k``) has 31,783 images in one split and does not say which are Karpathy's.
  They are the split ``all``, which is what lmms-eval scores as Flickr30k, and compare with no other split's scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from evalkit.data import HubData, OfficialData, image_in
from evalkit.errors import UserError
from evalkit.images import PathImage, RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import name_in, official_format, required
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._captions import caption_results, karpathy_images

FILE = "dataset_flickr30k.json"
FILES = (f"flickr30k/{FILE}", f"caption_datasets/{FILE}", FILE)
IMAGES = (
    "flickr30k/flickr30k-images",
    "flickr30k/flickr30k_images",
    "flickr30k/images",
    "flickr30k/Images",
    "flickr30k-images",
)

ALL = "all"
HUB_REPO = "lmms-lab/flickr30k"
HUB_SPLIT = "test"
HUB_COLUMNS = ("image", "caption", "filename")


class Flickr30k(Task):
    """Flickr30k captions: Karpathy's test, val and train from the official file; the hub's 31,783 as ``all``."""

    name = "flickr30k"
    version = 1
    kind = "caption"
    splits = {
        "test": Split(1_000, "Karpathy test"),
        "val": Split(1_014, "Karpathy validation"),
        "train": Split(29_000, "Karpathy training: for few-shot examples"),
        ALL: Split(31_783, "every image, as lmms-eval scores: from the hub only"),
    }
    default_splits = ("test",)
    metric = "cider"
    decoding = Decoding(max_new_tokens=30)
    prompts = {
        "lmms-eval": PromptTemplate("Provide a one-sentence caption for the provided image.", max_new_tokens=64),
    }
    layout = (FILES[0], "flickr30k/flickr30k-images/*.jpg")
    hub = HUB_REPO

    def results(self, answers: Sequence[Answered]) -> str:
        """The captions as ``COCO.loadRes`` reads them, by the photo's number."""
        return caption_results(answers, task=self.name)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The images of ``split``, in the order of the file."""
        if split == ALL:
            raise UserError(
                f"flickr30k: {FILE} has Karpathy's 31,014 images; all 31,783 come with --data hub ({HUB_REPO})."
            )
        rows = karpathy_images(data, *FILES, task=self.name, parts=(split,), fields={"filename": name_in})
        folder = data.image_folder(*IMAGES, task=self.name)
        for row, captions in rows:
            image = image_in(folder, row["filename"], task=self.name)
            yield _sample(image.path, image, captions)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split != ALL:
            raise UserError(
                f"flickr30k: {HUB_REPO} has 31,783 images and does not say which are Karpathy's {split}; give "
                f"--data ROOT with {FILE}, or evaluate flickr30k/{ALL}, which is not comparable with it."
            )
        rows = data.rows(HUB_REPO, HUB_SPLIT, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"an image of {HUB_REPO}"):
                filename = name_in(row, "filename")
            captions = required(row["caption"] or (), "captions", name, task=self.name)
            yield _sample(filename, RowImage(name, rows, index), captions)


def _sample(filename: str, image: PathImage | RowImage, captions: tuple[str, ...]) -> Sample:
    photo = PurePath(filename).stem
    return Sample(id=photo, images=(image,), text="", references=captions, cluster=photo)


TASK = Flickr30k()
