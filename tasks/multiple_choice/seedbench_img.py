"""SEED-Bench, its questions on images: multiple-choice questions in 9 categories.

Paper: Li et al., "SEED-Bench: Benchmarking Multimodal Large Language Models", CVPR 2024 (arXiv 2307.16125).  Official
data: AILab-CVC/SEED-Bench; here VLMEvalKit's SEEDBench_IMG.tsv or the hub's copy (lmms-lab/SEED-Bench).
Score: share of right answers, of all and by category (question types 1 to 9).

Protocol: the official scorer ranks the options by likelihood (``--choice loglikelihood`` ranks their letters).  The
scores in tables are of generated answers: by the first character (``first-character``, LLaVA and lmms-eval) or by
VLMEvalKit's readings.

The numbers of questions differ: 14,233 on images in the official file, 14,232 in VLMEvalKit's.  The questions on videos
(types 10 to 12) are left out.  In VLMEvalKit's data, 180 rows lack an option ("None", of which pandas makes a missing
value), in 33 of them the right one.  Questions on one image are one cluster.

Not checked against the hub: that its rows on images have one image each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evalkit.images import RowImage
from evalkit.tasks._files import id_in, integer_in, text_in
from evalkit.types import ImageRef, PromptTemplate, Sample, Split

from ._first_letter import RULE
from ._tables import LETTER, VLMEVALKIT_PROMPT, ChoiceTable, Row

CATEGORIES = (
    "Scene Understanding", "Instance Identity", "Instance Attributes", "Instance Location", "Instances Counting",
    "Spatial Relation", "Instance Interaction", "Visual Reasoning", "Text Understanding",
)  # fmt: skip
"""By question type, from 1, as VLMEvalKit names them."""
OPTIONS = ("choice_a", "choice_b", "choice_c", "choice_d")


class SeedBenchImages(ChoiceTable):
    """SEED-Bench's questions on images, from VLMEvalKit's TSV file or the hub."""

    name = "seedbench_img"
    splits = {"test": Split(14_232, "questions on images (14,233 in the official file)")}
    default_splits = ("test",)
    tsv = {"test": ("SEEDBench_IMG",)}
    hub = "lmms-lab/SEED-Bench"
    hub_splits = {"test": (None, "test")}
    hub_columns = ("question_id", "question", "answer", *OPTIONS, "data_type", "question_type_id", "image")
    layout = ("seedbench_img/SEEDBench_IMG.tsv",)
    prompts = {"lmms-eval": PromptTemplate(LETTER), "vlmevalkit": VLMEVALKIT_PROMPT}
    rules = {"first-character": RULE}
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": "first-character"}

    def hub_images(self, rows: Any, index: int, name: str) -> tuple[ImageRef, ...]:
        return (RowImage(name, rows, index, place=0),)

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        number = integer_in(row, "question_type_id")
        category = CATEGORIES[number - 1] if 1 <= number <= len(CATEGORIES) else ""
        options = tuple(text_in(row, column) for column in OPTIONS)
        fields = {**row, "category": category}
        return Row(id_in(row, "question_id"), text_in(row, "question"), options, row["answer"], images, name, fields)

    def samples(self, rows: Iterable[Row], split: str, source: str, *, images: bool = True) -> Iterator[Sample]:
        on_images = (row for row in rows if row.fields.get("data_type") in (None, "image"))
        return super().samples(on_images, split, source, images=images)

    def cluster(self, row: Row) -> str:
        image = row.fields.get("data_id")
        return str(image) if image not in (None, "") else super().cluster(row)


TASK = SeedBenchImages()
