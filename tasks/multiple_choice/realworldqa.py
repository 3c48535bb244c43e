"""RealWorldQA: questions about photos of the real world, many taken from cars.

Official data: xAI, "RealWorldQA" (x.ai/blog/grok-1.5v), 765 questions, whose texts have the options and end with an
instruction; a copy is on the hub (lmms-lab/RealWorldQA).  There is no official scorer.
Score: share of right answers.

Two versions of the questions:
- *VLMEvalKit's RealWorldQA.tsv*, which the scores in tables are of, has two to four options for every question, also
  for those that xAI asks without.  In the file of 2024-07 the answer of row 731 is "Uphill", which no letter is: no
  answer to it is right; VLMEvalKit corrected the file on 2024-12-30.
- *The hub's copy* has the original texts.  Options are the lines ``A. …`` of the text.  A question without any is an
  open one: right if the answer is the reference in lower case, without a final point (lmms-eval's rule).

Rules: VLMEvalKit's readings; ``lmms-eval-2026-04``.  Qwen3-VL's own evaluation draws a letter where its copy of
VLMEvalKit's rule (``qwen3-vl-evaluation``) leaves an answer open; here it is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evalkit.data import shown
from evalkit.tasks._files import text_in
from evalkit.types import ImageRef, PromptTemplate, Sample, Split

from ._tables import VLMEVALKIT_PROMPT, ChoiceTable, Row

_OPTION = re.compile(r"^\s*([A-I])\.\s+(.*\S)\s*$")
_TAIL = re.compile(r"\s*(?:Please answer directly with|Answer with the option's letter)[^\n]*$")


def split_question(text: str) -> tuple[str, tuple[str, ...]]:
    """The question and its options, without the instruction at the end; no options for an open question."""
    text = _TAIL.sub("", text.strip())
    lines = text.split("\n")
    options: list[str] = []
    first = len(lines)
    for number, line in enumerate(lines):
        match = _OPTION.match(line)
        if match is not None and match[1] == "ABCDEFGHI"[len(options)]:
            first = min(first, number)
            options.append(match[2])
    return "\n".join(lines[:first]).strip(), tuple(options)


class RealWorldQA(ChoiceTable):
    """RealWorldQA, from VLMEvalKit's TSV file or the hub."""

    name = "realworldqa"
    splits = {"test": Split(765, "")}
    default_splits = ("test",)
    tsv = {"test": ("RealWorldQA",)}
    hub = "lmms-lab/RealWorldQA"
    hub_splits = {"test": (None, "test")}
    hub_columns = ("question", "answer", "image")
    layout = ("realworldqa/RealWorldQA.tsv",)
    breakdowns: Mapping[str, str] = {}
    prompts = {
        "lmms-eval": PromptTemplate("{prompt}", max_new_tokens=16, others={"vqa": "{prompt}"}),
        "vlmevalkit": replace(VLMEVALKIT_PROMPT, others={"vqa": "Question: {q}\n"}),
    }
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": "lmms-eval-2026-04"}

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        text = text_in(row, "question").strip()
        question, options = split_question(text)
        answer = text_in(row, "answer").strip()
        if len(answer) > 1:  # an open question, even if its text has lines like options
            question, options = _TAIL.sub("", text), ()
        return Row(str(index), question, options, answer.upper() if options else answer, images, name, {"prompt": text})

    def right(self, row: Row, split: str) -> str:
        if row.options and row.answer is not None and row.answer in row.options:
            return row.answer  # of the TSV file of 2024-07: "Uphill"
        return super().right(row, split)

    def meta(self, row: Row) -> dict[str, Any]:
        listed = [f"{letter}. {option}" for letter, option in zip("ABCD", row.options, strict=False) if option]
        tail = "Please answer directly with only the letter of the correct option and nothing else."
        return {"prompt": row.text("prompt") or "\n".join((f"{row.question}\n", *listed, tail))}

    def _sample(self, row: Row, split: str) -> Sample:
        if row.options or "prompt" not in row.fields:  # VLMEvalKit's file has options in every row
            return super()._sample(row, split)
        if not row.question or not isinstance(row.answer, str) or not row.answer.strip():
            raise ValueError(f"the answer to {shown(row.question)} is {shown(row.answer)}, not a text")
        return Sample(
            row.index,
            row.images,
            row.question,
            (row.answer.strip(),),
            self.cluster(row),
            meta=self.meta(row),
            kind="vqa",
        )


TASK = RealWorldQA()
