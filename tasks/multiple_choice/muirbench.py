"""MuirBench: questions about several images, with unanswerable counterparts.

Paper: Wang et al., "MuirBench: A Comprehensive Benchmark for Robust Multi-image Understanding", ICLR 2025 (arXiv
2406.09411).  Official data: MUIRBENCH/MUIRBENCH on the hub; official parser: ``eval/utils/`` of muirbench/MuirBench
(commit 840b85f).  Score: share of the 2,600 questions whose option was named (``metrics/choice_accuracy.py``), with
each of the 12 tasks; "none of the choices" is an option like any other.

Protocol: ``<image>`` in the question or an option is where the next image stands.

Rules:
- ``official``: MMMU's parser, of which MuirBench's is a copy (``evalkit/letters/mmmu.py``).  Upstream draws an option
  where nothing is found (seed 42); here that is wrong.
- ``lmms-eval-75571cf``: a capital and a point at the beginning, else the answer alone.

Deliberate choices:
- Images stand at their marks, as in VLMEvalKit and Qwen3-VL's report; images beyond the marks come first.

Not checked against the official download: whether every question has as many marks as images; VLMEvalKit's names of the
tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.letters import VLMEVALKIT, lmms_eval, mmmu
from evalkit.tasks._files import id_in, official_format, text_in, texts_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._choice import check_letter
from ._marks import in_order

HUB_REPO = "MUIRBENCH/MUIRBENCH"
HUB_COLUMNS = ("idx", "task", "question", "options", "answer", "image_list")
EXPECTED = f"a question of {HUB_REPO}, or of VLMEvalKit's MUIRBench.tsv"
LETTER = "{q}\n{options}\nAnswer with the option's letter from the given choices directly."


class MuirBench(Task):
    """MuirBench test, from the hub or VLMEvalKit's TSV file."""

    name = "muirbench"
    version = 1
    kind = "choice"
    splits = {"test": Split(2_600, "12 tasks, half of the questions unanswerable counterparts")}
    default_splits = ("test",)
    metric = "choice_accuracy"
    decoding = Decoding(max_new_tokens=1024)
    prompts = {
        "official": PromptTemplate(
            "Question: {q}\nChoices:\n{bracketed_options}\n"
            "Hint: Please provide the correct option letter, such as A, B, C, D, directly.\nAnswer:"
        ),
        "lmms-eval": PromptTemplate(LETTER, max_new_tokens=16),
        "vlmevalkit": PromptTemplate(LETTER, max_new_tokens=2048),
    }
    rules = {
        "official": ScoringRule("mmmu-bb0b95a", about="MuirBench's own parser, which is MMMU's", read=mmmu.read),
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-muirbench",
            about="a capital and a point at the beginning, else the answer alone",
            read=lmms_eval.read_muirbench,
        ),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT, "vlmevalkit": VLMEVALKIT}
    layout = ("muirbench/MUIRBench.tsv",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file."""
        table = data.tsv(*tsv_places(self.name, "MUIRBench"), task=self.name, columns=("question", "answer"))
        for row in table.rows:
            with official_format(self.name, row.where, EXPECTED):
                category = row.get("task") or row.get("category")
                yield self._sample(
                    row.index, category, row, row.options, row.images, row.where, required=data.images_required
                )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        counts = [len(cell) if cell.is_valid else 0 for cell in rows.data.column("image_list")]
        for index, row in data.iterate(rows, without=("image_list",)):
            name = f"{HUB_REPO}/test[{index}]"
            images = [
                RowImage(f"{name}.image_list[{k}]", rows, index, "image_list", place=k) for k in range(counts[index])
            ]
            with official_format(self.name, name, EXPECTED):
                options = texts_in(row, "options")
                yield self._sample(id_in(row, "idx"), text_in(row, "task"), row, options, images, name)

    def _sample(
        self,
        sample_id: str,
        category: str | None,
        row: Mapping[str, Any],
        options: tuple[str, ...],
        images: Sequence[ImageRef],
        where: str,
        *,
        required: bool = True,
    ) -> Sample:
        references = (check_letter(row["answer"], options, task=self.name, where=where),)
        marked = in_order(text_in(row, "question"), options, images, required=required)
        return marked.sample(sample_id, references, meta={"category": category})


TASK = MuirBench()
