"""MM-Vet: 218 open-ended questions that need several capabilities at once; a judge grades the answers.

Paper: Yu et al., "MM-Vet: Evaluating Large Multimodal Models for Integrated Capabilities" (arXiv 2308.02490).
Official data and scorer: yuweihao/MM-Vet (commit 7d717c2), ``mm-vet.json`` with ``images/``, and
``mm-vet_evaluator.py``.  Score: the mean correctness from 0 to 1 in percent, by a judge (``metrics/mmvet.py``), with
six capabilities (recognition, OCR, knowledge, generation, spatial awareness, mathematics) and their 16 combinations.

Protocol: the prompt is the question; lmms-eval has an instruction to reason before it.  The scripts name no token
limit: 1,024, as lmms-eval.

Rules: ``official`` and ``vlmevalkit-e8e78f0``, which differ in the judge's prompt and in how its replies are read.

Deliberate choices:
- No score without a judge: lmms-eval gives 0 then.

Not checked against the official download: the columns of lmms-lab/MMVet on the hub and of VLMEvalKit's ``MMVet.tsv``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import name_in, official_format, text_in
from evalkit.tasks._tsv import has_tsv, image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

HUB_REPO = "lmms-lab/MMVet"
HUB_COLUMNS = ("question_id", "image", "question", "answer", "capability")
TSV = "MMVet"
FILES = ("mmvet/mm-vet.json", "mm-vet/mm-vet.json", "MMVet/mm-vet.json")
IMAGES = ("mmvet/images", "mm-vet/images", "MMVet/images")
EXPECTED = "a question of mm-vet.json"
CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
VLMEVALKIT = "vlmevalkit-e8e78f0"
REASONING = (
    "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n{q}"
)


class MMVet(Task):
    """MM-Vet, from the official files, VLMEvalKit's TSV file or the hub."""

    name = "mmvet"
    version = 1
    kind = "vqa"
    splits = {"test": Split(218, "all questions")}
    default_splits = ("test",)
    metric = "mmvet"
    decoding = Decoding(max_new_tokens=1024)
    prompts = {
        "official": PromptTemplate("{q}"),
        "vlmevalkit": PromptTemplate("{q}"),
        "lmms-eval": PromptTemplate(REASONING),
    }
    rules = {
        "official": ScoringRule(metric="mmvet", about="the official judge prompt", verbatim=True),
        VLMEVALKIT: ScoringRule(metric="mmvet_vlmevalkit", about="VLMEvalKit's judge prompt", verbatim=True),
    }
    default_rule = "official"
    protocol_rules = {"vlmevalkit": VLMEVALKIT}
    layout = ("mmvet/MMVet.tsv (VLMEvalKit's)", f"{FILES[0]} (official)", f"{IMAGES[0]}/*.{{jpg,png}} (official)")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file if there is one, else of the official file."""
        if has_tsv(data, self.name, TSV):
            columns = ("question", "answer", "category")
            for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
                images = row_images(row, data, self.name, TSV)
                with official_format(self.name, row.where, f"a question of {TSV}.tsv"):
                    yield self._sample(row.index, row, text_in(row, "category"), images, image_cluster(row))
            return
        content = data.json(*FILES, task=self.name)
        folder = data.image_folder(*IMAGES, task=self.name)
        with official_format(self.name, FILES[0], "an object of questions by id"):
            entries = list(content.items())
        for key, entry in entries:
            with official_format(self.name, f"{key} of {FILES[0]}", EXPECTED):
                name = name_in(entry, "imagename")
                image = image_in(folder, name, task=self.name)
                yield self._sample(str(key), entry, entry["capability"], (image,), name)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                key = text_in(row, "question_id")
                yield self._sample(key, row, row["capability"], (RowImage(name, rows, index),), key)

    def _sample(
        self, key: str, row: Mapping[str, Any], capability: Any, images: tuple[ImageRef, ...], cluster: str
    ) -> Sample:
        named = capability.split(",") if isinstance(capability, str) else capability
        found = [name.strip() for name in named]
        if not found or not set(found) <= set(CAPABILITIES):
            raise ValueError(f"capability is {capability!r}, not one of {', '.join(CAPABILITIES)}, or several")
        together = [name for name in CAPABILITIES if name in found]
        return Sample(
            id=key,
            images=images,
            text=text_in(row, "question"),
            references=(text_in(row, "answer"),),
            cluster=cluster,
            meta={"capability": together, "combination": "+".join(together)},
        )


TASK = MMVet()
