"""ScreenSpot and ScreenSpot-v2: click the element of a screenshot that an instruction is about.

Papers: Cheng et al., "SeeClick: Harnessing GUI Grounding for Advanced Visual GUI Agents", ACL 2024 (arXiv 2401.10935);
Wu et al., "OS-ATLAS", ICLR 2025 (arXiv 2410.23218), for v2, which corrects the labels of v1.  Official data:
``screenspot_{desktop,mobile,web}.json`` (v2: ``screenspot_{…}_v2.json``) with their images; official scorer:
``pretrain/screenspot_test.py`` of njucckevin/SeeClick (commit 0ef37ac).  Score: share of clicks inside the element's
box, of 1,272 (``metrics/point_in_box.py``), with every platform and type; the leaderboard's average is this one.

Protocol: boxes are x, y, width and height in pixels in the official files, and fractions on the hub.  Each family is
asked for a point in its own words, and answers in its own coordinates; a box counts by its centre.

Rules, beside those that read points (``docs/parsing.md``):
- ``official``: SeeClick's reader, in fractions of the image, as its script has it.
- ``seeclick-macro``: the same, with SeeClick's average: the unweighted mean of the six cells platform × type.  The two
  averages differ by up to 2 points.
- ``vlmevalkit-e8e78f0``, ``lmms-eval-75571cf``: other harnesses' readers, which take thousandths for pixels.

Deliberate choices:
- The default rule reads a point in the family's coordinates, since no model but SeeClick answers as its script expects.
- Platforms are by file, as in the official tables; on the hub, by ``data_source``.
- Images are shared by several elements and are one cluster.

Not checked against the official download: the counts per platform and type of v1, the names of the v2 files, and the
columns of VLMEvalKit's ``ScreenSpot_Mobile.tsv``, ``…_Desktop.tsv`` and ``…_Web.tsv`` (``ScreenSpot_v2_…``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit import points
from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.jsonl import parse
from evalkit.tasks._files import list_of, name_in, official_format, text_in
from evalkit.types import Decoding, Sample, ScoringRule, Split

from ._clicks import PROMPTS, PROTOCOL_RULES, SEECLICK_MACRO, box_of, cell, harness_rules, scaled

HUB_COLUMNS = ("image", "bbox", "instruction", "data_type", "data_source")
PLATFORMS = ("mobile", "desktop", "web")
PLATFORM_OF = {
    **dict.fromkeys(("ios", "android"), "mobile"),
    **dict.fromkeys(("macos", "windows"), "desktop"),
}
"""The platform by ``data_source``; all others are web sites."""
TYPES = ("text", "icon")
EXPECTED = "an entry of screenspot_*.json"


class ScreenSpot(Task):
    """One of the two versions, from the official files or the hub.

    Args:
        suffix: of the official files' names.
    """

    version = 1
    kind = "pointing"
    splits = {"test": Split(1_272, "all elements")}
    default_splits = ("test",)
    metric = "point_in_box"
    decoding = Decoding(max_new_tokens=128)
    prompts = PROMPTS
    rules = {
        "official": ScoringRule(points.SEECLICK, about="SeeClick's script, in fractions of the image"),
        "seeclick-macro": SEECLICK_MACRO,
        **harness_rules("point_in_box_vlmevalkit"),
    }
    protocol_rules = PROTOCOL_RULES

    def __init__(self, name: str, suffix: str, hub: str) -> None:
        self.name = name
        self.suffix = suffix
        self.hub = hub
        files = [f"{name}/screenspot_{platform}{suffix}.json" for platform in PLATFORMS]
        self.layout = (*files, f"{name}/{'screenspotv2_image' if suffix else 'screenspot_imgs'}/*.png")

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The elements of the three files, in SeeClick's order: mobile, desktop, web."""
        tables = [tsv_places(self.name, f"ScreenSpot{self.suffix}_{platform.capitalize()}") for platform in PLATFORMS]
        official = [f"{self.name}/screenspot_{platform}{self.suffix}.json" for platform in PLATFORMS]
        present = [any((data.root / place).exists() for place in places) for places in (official, *tables)]
        if not present[0] and any(present):
            for platform, places in zip(PLATFORMS, tables, strict=True):
                yield from self._from_tsv(data, platform, places)
            return
        folders = [f"{self.name}/{below}" for below in ("screenspot_imgs", "screenspotv2_image", "images")]
        images = data.image_folder(*folders, task=self.name)
        for platform in PLATFORMS:
            name = f"{self.name}/screenspot_{platform}{self.suffix}.json"
            entries = data.json(name, task=self.name)
            with official_format(self.name, name, f"a list as in {name}"):
                entries = list_of(entries, "the file")
            for place, entry in enumerate(entries):
                where = f"entry {place + 1} of {name}"
                with official_format(self.name, where, EXPECTED):
                    image = image_in(images, name_in(entry, "img_filename"), task=self.name)
                    box = box_of(entry["bbox"], sizes=True)
                    yield self._sample(f"{platform}-{place}", entry, platform, image, box, entry["img_filename"])

    def _from_tsv(self, data: OfficialData, platform: str, places: Sequence[str]) -> Iterator[Sample]:
        """The rows of one of VLMEvalKit's files."""
        columns = ("question", "bbox", "data_type", "data_source")
        for row in data.tsv(*places, task=self.name, columns=columns).rows:
            with official_format(self.name, row.where, "an element with its box"):
                numbers = parse((row["bbox"] or "").encode())
                image = row.images[0] if row.images else None
                cluster = image.key if image is not None else row.index
                entry = {**row, "instruction": row["question"]}
                yield self._sample(
                    f"{platform}-{row.index}", entry, platform, image, box_of(numbers, sizes=True), cluster
                )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(self.hub, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{self.hub}/{split}[{index}]"
            image = RowImage(name, rows, index)
            with official_format(self.name, name, "an element with its box"):
                box = box_of(row["bbox"], sizes=False)
                if max(box) > 1:
                    raise ValueError(f"the box is {row['bbox']}, not fractions of the image")
                try:
                    size = image.size()
                except OSError as error:
                    raise UserError(f"{self.name}: {name}: the image cannot be read ({error}).") from error
                source = text_in(row, "data_source")
                platform = PLATFORM_OF.get(source.lower(), "web")
                cluster = str(row.get("file_name") or row.get("img_filename") or index)
                yield self._sample(str(index), row, platform, image, scaled(box, size), cluster)

    def _sample(
        self, sample_id: str, entry: Mapping[str, Any], platform: str, image: Any, box: Any, cluster: str
    ) -> Sample:
        kind = text_in(entry, "data_type")
        if kind not in TYPES:
            raise ValueError(f"data_type is {kind!r}, neither text nor icon")
        return Sample(
            id=sample_id,
            images=() if image is None else (image,),
            text=text_in(entry, "instruction"),
            references=(box,),
            cluster=cluster,
            meta={**cell(platform, kind), "source": text_in(entry, "data_source")},
        )


TASKS = {
    task.name: task
    for task in (
        ScreenSpot("screenspot", "", "rootsautomation/ScreenSpot"),
        ScreenSpot("screenspot_v2", "_v2", "HongxinLi/ScreenSpot_v2"),
    )
}
