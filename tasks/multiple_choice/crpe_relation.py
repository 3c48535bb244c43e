"""CRPE, relations: multiple-choice questions on the subject, the predicate or the object of a relation in a photo.

Paper: Wang et al., "The All-Seeing Project V2: Towards General Relation Comprehension of the Open World", ECCV 2024
(arXiv 2402.19474).  Official data: OpenGVLab/CRPE; here VLMEvalKit's CRPE_RELATION.tsv (commit e8e78f05), whose
questions have their options and the instruction in the text.
Score: circular: of *four consecutive rows*, which ask one question with its options in four orders, all must be right
(``metrics/circular_accuracy.py``), with the same for subject, predicate and object.

Rules: evalkit's and VLMEvalKit's readings of letters; ``vlmevalkit-crpe`` is what VLMEvalKit does for this benchmark
(``is_correct`` in ``vlmeval/dataset/utils/crpe.py``): an answer that begins with A to D is right if the reference
begins with the same letter; any other longer answer is right if it contains the reference from its fifth character on,
in lower case.  *If the reference is a letter alone, that is nothing, and every such answer is right* ("The answer is B"
for A).  The quirk is reproduced for comparison.  lmms-eval scores another copy of the data (nv-njb/CRPE) by row, which
is not comparable.

Not checked against the official file: the number of rows (7,576 are named elsewhere), the form of the references, and
whether images are in it or beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from evalkit.data import HubData, shown
from evalkit.errors import UserError
from evalkit.letters import Options, Reading
from evalkit.types import PromptTemplate, Sample, ScoringRule, Split

from ._tables import ChoiceTable, Row
from .realworldqa import split_question

_LETTER = re.compile(r"\(?([A-D])(?![A-Za-z])")
ROWS = 4
"""Consecutive rows that ask one question."""


def read_whole(text: str, options: Options) -> Reading:
    """The answer itself."""
    return Reading(text, "text") if text else Reading(None, "empty")


class CRPERelation(ChoiceTable):
    """CRPE's questions on relations, from VLMEvalKit's TSV file."""

    name = "crpe_relation"
    splits = {"test": Split(None, "questions in four orders each")}
    default_splits = ("test",)
    metric = "circular_accuracy"
    tsv = {"test": ("CRPE_RELATION",)}
    tsv_columns = ("question",)
    layout = ("crpe_relation/CRPE_RELATION.tsv",)
    prompts = {"vlmevalkit": PromptTemplate("{prompt}", max_new_tokens=2048)}
    rules: Mapping[str, ScoringRule] = {
        "vlmevalkit-crpe": ScoringRule(
            "vlmevalkit-e8e78f05-crpe", "circular_accuracy_crpe", "VLMEvalKit's rule for this benchmark", read_whole
        ),
    }
    protocol_rules = {"vlmevalkit": "vlmevalkit-crpe"}

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        raise UserError(f"{self.name}: it is not read from the hub; give --data ROOT with CRPE_RELATION.tsv.")

    def samples(self, rows: Iterable[Row], split: str, source: str, *, images: bool = True) -> Iterator[Sample]:
        """As for every table, with four consecutive rows as one question and one cluster."""
        group, number = "", -1
        for number, sample in enumerate(super().samples(map(_with_options, rows), split, source, images=images)):
            turn = number % ROWS
            group = sample.id if turn == 0 else group
            yield replace(sample, cluster=group, meta={**sample.meta, "group": group, "rotation": turn})
        if (number + 1) % ROWS:
            raise UserError(
                f"crpe_relation: {source} has {number + 1:,} rows; four consecutive rows are one question, so the file "
                "is incomplete. Download it again."
            )

    def right(self, row: Row, split: str) -> str:
        match = _LETTER.match(row.answer or "")
        if match is None:
            raise ValueError(f"the answer is {shown(row.answer)}, which does not begin with a letter from A to D")
        return match[1]

    def meta(self, row: Row) -> dict[str, Any]:
        return {**super().meta(row), "prompt": row.fields["question"], "reference": row.answer}


def _with_options(row: Row) -> Row:
    """``row`` with the options that are in its question, if it has none in columns."""
    if row.options:
        return row
    question, options = split_question(row.question)
    return replace(row, question=question, options=options)


TASK = CRPERelation()
