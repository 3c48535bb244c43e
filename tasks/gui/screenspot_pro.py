"""ScreenSpot-Pro: click the element of a high-resolution screenshot of professional software.

Paper: Li et al., "ScreenSpot-Pro: GUI Grounding for Professional High-Resolution Computer Use", 2025 (arXiv
2504.07981).  Official data: likaixin/ScreenSpot-Pro on the hub (``annotations/*.json``, ``images/``); official scorer:
``eval_screenspot_pro.py`` of likaixin2000/ScreenSpot-Pro-GUI-Grounding (commit bd8bbbb).  Score: share of clicks inside
the element's box, of 1,581, 977 texts and 604 icons (``metrics/point_in_box.py``), with every group (Dev 299, Creative
341, CAD 261, Scientific 254, Office 230, OS 196), type and application; the mean over all samples is the official one.

Protocol: English instructions that have an element (the files have Chinese ones, too); boxes are two corners in pixels.
The official reader of each model has its own prompt and coordinates.

Rules, beside those that read points (``docs/parsing.md``):
- ``official``: the reader for Qwen2.5-VL, in the family's coordinates: the coordinate of a tool call, two numbers, or
  four whose centre counts.
- ``vlmevalkit-e8e78f0``, ``lmms-eval-75571cf``: other harnesses' readers, which take thousandths for pixels.

Deliberate choices:
- The default rule reads a point in the family's coordinates and any usual form.
- The prompt for Qwen2.5-VL gives it no tool and does not force the beginning of its answer, as the official one does
  (26.76 for 7B); its report has 29.0 by a prompt that is not published.

Not checked against the official download: the columns of TIGER-Lab/ScreenSpot-Pro, the hub's copy with a row per
instruction that lmms-eval reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit import points
from evalkit.data import HubData, OfficialData, image_in, shown
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.jsonl import parse, read_bytes
from evalkit.tasks._files import id_in, list_of, name_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, Sample, ScoringRule, Split

from ._clicks import PROMPTS, PROTOCOL_RULES, box_of, cell, harness_rules

HUB_REPO = "TIGER-Lab/ScreenSpot-Pro"
HUB_COLUMNS = ("image", "bbox", "instruction", "ui_type", "group", "platform", "application")
FOLDERS = ("screenspot_pro", "ScreenSpot-Pro")
EXPECTED = "an entry of annotations/*.json of likaixin/ScreenSpot-Pro"
TYPES = ("text", "icon")


class ScreenSpotPro(Task):
    """ScreenSpot-Pro with English instructions, from the official files or the hub."""

    name = "screenspot_pro"
    version = 1
    kind = "pointing"
    splits = {"test": Split(1_581, "all elements, instructions in English")}
    default_splits = ("test",)
    metric = "point_in_box"
    decoding = Decoding(max_new_tokens=128)
    prompts = PROMPTS
    rules = {
        "official": ScoringRule(points.SCREENSPOT_PRO, about="the official reader for Qwen2.5-VL: a tool call"),
        **harness_rules("point_in_box"),
    }
    protocol_rules = PROTOCOL_RULES
    layout = ("screenspot_pro/annotations/*.json", "screenspot_pro/images/*/*.png")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The elements of the files in ``annotations/``, files by name."""
        folder = data.find(*(f"{folder}/annotations" for folder in FOLDERS), task=self.name)
        images = data.image_folder(*(f"{folder}/images" for folder in FOLDERS), task=self.name)
        files = sorted(folder.glob("*.json"))
        if not files:
            raise UserError(f"{self.name}: there is no .json file in {folder}; download annotations/ again.")
        for path in files:
            try:
                entries = parse(read_bytes(path, f"{self.name}:"))
            except ValueError as error:
                raise UserError(f"{self.name}: {path} is not valid JSON ({error}); download it again.") from error
            with official_format(self.name, str(path), EXPECTED):
                entries = list_of(entries, "the file")
            for place, entry in enumerate(entries):
                with official_format(self.name, f"entry {place + 1} of {path}", EXPECTED):
                    name = name_in(entry, "img_filename")
                    sample_id = id_in(entry, "id") if "id" in entry else f"{path.stem}-{place}"
                    yield self._sample(sample_id, entry, image_in(images, name, task=self.name), name)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, "an element with its box"):
                sample_id = id_in(row, "id") if row.get("id") is not None else str(index)
                cluster = str(row.get("img_filename") or sample_id)
                yield self._sample(sample_id, row, RowImage(name, rows, index), cluster)

    def _sample(self, sample_id: str, entry: Mapping[str, Any], image: ImageRef, cluster: str) -> Sample:
        kind, group = text_in(entry, "ui_type"), text_in(entry, "group")
        if kind not in TYPES:
            raise ValueError(f"ui_type is {shown(kind)}, neither text nor icon")
        box = entry["bbox"]
        if isinstance(box, str):
            box = json.loads(box)
        return Sample(
            id=sample_id,
            images=(image,),
            text=text_in(entry, "instruction"),
            references=(box_of(box, sizes=False),),
            cluster=cluster,
            meta={
                **cell(group, kind),
                "platform": text_in(entry, "platform"),
                "group": group,
                "application": text_in(entry, "application"),
            },
        )


TASK = ScreenSpotPro()
