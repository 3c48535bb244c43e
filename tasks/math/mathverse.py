"""MathVerse testmini: 788 problems of geometry and functions, each in five versions with less and less text.

Paper: Zhang et al., "MathVerse: Does Your Multi-modal LLM Truly See the Diagrams in Visual Math Problems?", ECCV 2024
(arXiv 2403.14624).  Official data: AI4Math/MathVerse on the hub; official scorer: ZrrSkywalker/MathVerse (commit
937b090).  Score: the share of right answers, by a judge in two steps (``metrics/mathverse.py``), with each version,
subject and subfield.

Protocol: the prompt is the data set's ``query_wo`` (its ``question`` in VLMEvalKit's TSV files); 2,048 new tokens.

Splits: ``testmini`` has the five versions with images; the mean over its 3,940 rows is that of the paper's five
columns.  ``testmini-vision-only`` is the last of them, which some reports print alone: VLMEvalKit has a file for each.

Rules: ``official`` and ``vlmevalkit-e8e78f0``, which differ in the judge's prompts.

Deliberate choices:
- The text-only version (788 rows without images) and the test split (not public) are left out, and so is CoT-E.
- The versions of a problem are one cluster.

Not checked against the official download: the columns of VLMEvalKit's TSV files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import official_format, text_in
from evalkit.tasks._tsv import row_images
from evalkit.tasks.ocr._literal import literal_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

HUB_REPO = "AI4Math/MathVerse"
HUB_COLUMNS = (
    "sample_index", "problem_index", "problem_version", "question", "image", "answer", "metadata", "query_wo",
    "question_for_eval",
)  # fmt: skip
TESTMINI, VISION_ONLY = "testmini", "testmini-vision-only"
TSV = {
    TESTMINI: ("MathVerse_MINI", "MathVerse_MINIV"),
    VISION_ONLY: ("MathVerse_MINI_Vision_Only", "MathVerse_MINIVOnly"),
}
VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
VLMEVALKIT = "vlmevalkit-e8e78f0"


class MathVerse(Task):
    """MathVerse testmini, from VLMEvalKit's TSV files or the hub."""

    name = "mathverse"
    version = 1
    kind = "vqa"
    splits = {
        TESTMINI: Split(3_940, "788 problems in five versions"),
        VISION_ONLY: Split(788, "the problems in the version Vision Only"),
    }
    default_splits = (TESTMINI,)
    metric = "mathverse"
    decoding = Decoding(max_new_tokens=2048)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    rules = {
        "official": ScoringRule(metric="mathverse", about="the official judge prompts", verbatim=True),
        VLMEVALKIT: ScoringRule(metric="mathverse_vlmevalkit", about="VLMEvalKit's judge prompts", verbatim=True),
    }
    default_rule = "official"
    protocol_rules = {"vlmevalkit": VLMEVALKIT}
    layout = tuple(f"mathverse/{names[0]}.tsv (VLMEvalKit's)" for names in TSV.values())
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        names = TSV[split]
        columns = ("question", "answer", "problem_version", "question_for_eval", "metadata")
        for row in data.tsv(*tsv_places(self.name, *names), task=self.name, columns=columns).rows:
            images = row_images(row, data, self.name, names[0])
            with official_format(self.name, row.where, f"a problem of {names[0]}.tsv"):
                problem = str(row.get("problem_index") or row.index)
                question = text_in(row, "question")
                yield self._sample(row.index, problem, row, question, literal_in(row, "metadata"), images)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "testmini", "testmini", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            if split == VISION_ONLY and row["problem_version"] != VERSIONS[-1]:
                continue
            name = f"{HUB_REPO}/testmini[{index}]"
            with official_format(self.name, name, f"a problem of {HUB_REPO}"):
                key, problem = text_in(row, "sample_index"), text_in(row, "problem_index")
                image = RowImage(name, rows, index)
                yield self._sample(key, problem, row, text_in(row, "query_wo"), row["metadata"], (image,))

    def _sample(
        self,
        key: str,
        problem: str,
        row: Mapping[str, Any],
        query: str,
        metadata: Mapping[str, Any],
        images: tuple[ImageRef, ...],
    ) -> Sample:
        version = text_in(row, "problem_version")
        if version not in VERSIONS:
            raise ValueError(f"problem_version is {version!r}, not one of {', '.join(VERSIONS)}")
        return Sample(
            id=key,
            images=images,
            text=query,
            references=(text_in(row, "answer"),),
            cluster=problem,
            meta={
                "problem_version": version,
                "question": text_in(row, "question"),
                "question_for_eval": text_in(row, "question_for_eval"),
                "subject": metadata["subject"],
                "subfield": metadata["subfield"],
            },
        )


TASK = MathVerse()
