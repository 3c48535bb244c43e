"""SEED-Bench-2-Plus: multiple-choice questions about charts, maps and web pages, rich in text.

Paper: Li et al., "SEED-Bench-2-Plus: Benchmarking Multimodal Large Language Models with Text-Rich Visual
Comprehension", 2024 (arXiv 2404.16790).  Official data: AILab-CVC/SEED-Bench-2-plus; here VLMEvalKit's
SEEDBench2_Plus.tsv or the hub's copy (doolayer/SEED-Bench-2-Plus, which lmms-eval reads).
Score: share of right
answers among the 2,277 questions (810 on charts, 807 on maps, 660 on web pages), and by type.

Rules: ``first-character`` (lmms-eval); VLMEvalKit's readings, by which Qwen2.5-VL's report scores.

Not checked: the names of the categories in VLMEvalKit's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.tasks._files import id_in, text_in
from evalkit.types import ImageRef, PromptTemplate, Split

from ._first_letter import RULE
from ._tables import LETTER, VLMEVALKIT_PROMPT, ChoiceTable, Row

OPTIONS = ("choice_A", "choice_B", "choice_C", "choice_D")


class SeedBench2Plus(ChoiceTable):
    """SEED-Bench-2-Plus, from VLMEvalKit's TSV file or the hub."""

    name = "seedbench2_plus"
    splits = {"test": Split(2_277, "810 on charts, 807 on maps, 660 on web pages")}
    default_splits = ("test",)
    tsv = {"test": ("SEEDBench2_Plus",)}
    hub = "doolayer/SEED-Bench-2-Plus"
    hub_splits = {"test": (None, "test")}
    hub_columns = ("question_id", "question", "answer", *OPTIONS, "question_image_type", "image")
    layout = ("seedbench2_plus/SEEDBench2_Plus.tsv",)
    prompts = {"lmms-eval": PromptTemplate(LETTER, max_new_tokens=16), "vlmevalkit": VLMEVALKIT_PROMPT}
    rules = {"first-character": RULE}
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": "first-character"}

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        options = tuple(text_in(row, column) for column in OPTIONS)
        fields = {**row, "category": text_in(row, "question_image_type").capitalize()}
        return Row(id_in(row, "question_id"), text_in(row, "question"), options, row["answer"], images, name, fields)


TASK = SeedBench2Plus()
