"""HallusionBench: yes/no questions about figures and their edited versions.

Paper: Guan et al., "HallusionBench: An Advanced Diagnostic Suite for Entangled Language Hallucination and Visual
Illusion in Large Vision-Language Models", CVPR 2024 (arXiv 2310.14566).  Official data: tianyi-lab/HallusionBench
(commit 744007c), ``HallusionBench.json`` and ``hallusion_bench/``.
Score: the mean of aAcc, fAcc and qAcc (``metrics/hallusionbench.py``); 128 new tokens: no short answer is asked for.

Protocol: the 951 questions with an image, of 1,129; 346 figures and 455 groups of a question about a set's figures.
The other 178 are text only (``visual_input`` 0) and left out, as in VLMEvalKit and on the hub.

Rules: evalkit's own reading, or ``vlmevalkit-yes-no``, from which the published numbers come; VLMEvalKit asks a judge
where that reads nothing, here such an answer is wrong.  The benchmark's own scorer asks GPT-4 about every answer.

Deliberate choices:
- A set's figures are one cluster: they are versions of one image, and a question group spans them.
- Groups are by l2-category (``VD_math``).  By subcategory alone (evalscope) there are 332 and 429 of them.
- Ids are VLMEvalKit's: category, subcategory, visual input, set, figure and question (``VD_illusion_1_0_0_0``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, list_of, name_in, official_format, text_in
from evalkit.tasks._tsv import has_tsv, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, Split
from evalkit.values import shown
from evalkit.yes_no import NO, VLMEVALKIT, YES

from ._yes_no import yes_no_in

HUB_REPO = "lmms-lab/HallusionBench"
COLUMNS = ("question", "answer")
"""Of the TSV file."""
TSV = "HallusionBench"
FILES = ("hallusionbench/HallusionBench.json", "HallusionBench/HallusionBench.json", "HallusionBench.json")
IMAGES = ("hallusionbench/hallusion_bench", "HallusionBench/hallusion_bench", "hallusion_bench")
PARTS = ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")
HUB_COLUMNS = (*PARTS, "image", "question", "gt_answer")
EXPECTED = "a question of HallusionBench.json"

_INDEX = re.compile(r"(V[DS])_([a-z]+)_([012])_(\d+)_(\d+)_(\d+)")
_ANSWERS = {"0": NO, "1": YES}


class HallusionBench(Task):
    """HallusionBench's questions with an image, from the official files, VLMEvalKit's TSV file or the hub."""

    name = "hallusionbench"
    version = 1
    kind = "yes_no"
    splits = {"image": Split(951, "the questions with an image")}
    default_splits = ("image",)
    metric = "hallusionbench"
    decoding = Decoding(max_new_tokens=128)
    prompts = {
        "lmms-eval": PromptTemplate("{q}"),
        "vlmevalkit": PromptTemplate("{q}"),
    }
    protocol_rules = {"vlmevalkit": VLMEVALKIT}
    complete_clusters = True
    layout = (
        "hallusionbench/HallusionBench.tsv (VLMEvalKit's)",
        f"{FILES[0]} (official)",
        f"{IMAGES[0]}/VD/math/*.png (official)",
    )
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file if there is one, else of the official file."""
        if has_tsv(data, self.name, TSV):
            for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=COLUMNS).rows:
                with official_format(self.name, row.where, "a question of HallusionBench.tsv"):
                    yield self._sample(
                        row.index, text_in(row, "question"), yes_no_in(row, "answer"),
                        row_images(row, data, self.name, TSV),
                    )  # fmt: skip
            return
        content = data.json(*FILES, task=self.name)
        images = data.image_folder(*IMAGES, task=self.name)
        with official_format(self.name, FILES[0], "a list of questions"):
            entries = list_of(content, "it")
        for number, entry in enumerate(entries):
            with official_format(self.name, f"entry {number} of {FILES[0]}", EXPECTED):
                if id_in(entry, "visual_input") == "0":
                    continue
                name = name_in(entry, "filename").removeprefix("./").removeprefix("hallusion_bench/")
                yield self._official(entry, (image_in(images, name, task=self.name),))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "image", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/image[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                yield self._official(row, (RowImage(name, rows, index),))

    def _official(self, entry: Mapping[str, Any], images: tuple[ImageRef, ...]) -> Sample:
        index = "_".join(id_in(entry, part) for part in PARTS)
        answer = id_in(entry, "gt_answer")
        if answer not in _ANSWERS:
            raise ValueError(f"gt_answer is {shown(entry['gt_answer'])}, neither 0 nor 1")
        return self._sample(index, text_in(entry, "question"), _ANSWERS[answer], images)

    def _sample(self, index: str, question: str, answer: str, images: tuple[ImageRef, ...]) -> Sample:
        parts = _INDEX.fullmatch(index)
        if parts is None:
            raise ValueError(f"the index is {shown(index)}, not one such as VD_illusion_1_0_0_0")
        category, subcategory, _, number, figure, asked = parts.groups()
        group = f"{category}_{subcategory}"
        return Sample(
            id=index,
            images=images,
            text=question,
            references=(answer,),
            cluster=f"{group}/{number}",
            meta={
                "category": category,
                "l2-category": group,
                "figure": f"{group}/{number}/{figure}",
                "question_group": f"{group}/{number}/{asked}",
            },
        )


TASK = HallusionBench()
