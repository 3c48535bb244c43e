"""nocaps: describe an image of Open Images in a sentence, many with objects that COCO's captions never name.

Paper: Agrawal et al., "nocaps: novel object captioning at scale", ICCV 2019 (arXiv 1812.08658).
Official scorer: a server on EvalAI that is not public; ours is COCO's (see ``metrics/cider.py``).

Protocol: validation, 4,500 images with ten captions each; one caption an image (30 new tokens); CIDEr and its
companions, overall and for the images that are in-domain (648), near-domain (2,938) and out-domain (914).

Deliberate choices:
- Captions and domains come from ``nocaps_val_4500_captions.json`` (nocaps.s3.amazonaws.com).  The file that the site
  offers, ``nocaps_val_image_info.json``, has no captions.
- The hub's copy (``lmms-lab/NoCaps``) lacks the domains: only the overall scores are there, and a warning says so.

Not checked, for the official file could not be had: its key ``domain`` and the values ``in-domain``, ``near-domain``
and ``out-domain`` are what public code reads from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from evalkit.data import HubData, OfficialData, image_in
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, official_format, required, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._captions import caption_results, coco_captions

log = logging.getLogger(__name__)

FILE = "nocaps_val_4500_captions.json"
FILES = (f"nocaps/{FILE}", f"nocaps/annotations/{FILE}", FILE)
IMAGES = ("nocaps/val", "nocaps/images", "nocaps/validation", "nocaps/Images/validation")

HUB_REPO = "lmms-lab/NoCaps"
HUB_SPLITS = {"val": "validation"}
HUB_COLUMNS = ("image", "image_id", "annotations_captions")


class NoCaps(Task):
    """nocaps val, from the official JSON file or (without domains) the hub."""

    name = "nocaps"
    version = 1
    kind = "caption"
    splits = {"val": Split(4_500, "validation, Open Images validation set")}
    default_splits = ("val",)
    metric = "cider"
    decoding = Decoding(max_new_tokens=30)
    prompts = {
        "lmms-eval": PromptTemplate("Provide a one-sentence caption for the provided image.", max_new_tokens=64),
    }
    layout = (FILES[0], "nocaps/val/*.jpg")
    hub = HUB_REPO

    def results(self, answers: Sequence[Answered]) -> str:
        """The captions as ``COCO.loadRes`` reads them."""
        return caption_results(answers, task=self.name)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The images of ``split``, in the order of the file."""
        rows = coco_captions(data, *FILES, task=self.name)
        folder = data.image_folder(*IMAGES, task=self.name)
        if not all("domain" in row for row, _ in rows):
            log.warning("nocaps: images of %s have no domain: no scores by domain for them.", FILE)
        with official_format(self.name, f"{FILE} under {data.root}", f"the official {FILE}"):
            domains = [{"domain": text_in(row, "domain")} if "domain" in row else {} for row, _ in rows]
        for (row, captions), meta in zip(rows, domains, strict=True):
            yield Sample(
                id=str(row["id"]),
                images=(image_in(folder, row["file_name"], task=self.name),),
                text="",
                references=captions,
                cluster=str(row["id"]),
                meta=meta,
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        log.warning("nocaps on the hub (%s) lacks the domains: overall scores only.", HUB_REPO)
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"an image of {HUB_REPO}"):
                image_id = id_in(row, "image_id")
            yield Sample(
                id=image_id,
                images=(RowImage(name, rows, index),),
                text="",
                references=required(row["annotations_captions"] or (), "captions", name, task=self.name),
                cluster=image_id,
            )


TASK = NoCaps()
