"""VisuLogic: visual logic puzzles with four options in the image.

Paper: Xu et al., "VisuLogic: A Benchmark for Evaluating Visual Reasoning in Multi-modal Large Language Models", 2025
(arXiv 2504.15279).  Official data: VisuLogic/VisuLogic on the hub, ``data.jsonl`` and ``images.zip``; official scorer:
VisuLogic-Benchmark/VisuLogic-Eval.  Score: share of the 1,000 questions whose option was named
(``metrics/choice_accuracy.py``), with each of the six kinds of puzzles.

Protocol: the question names its options A to D; what they are is in the image.

Rules:
- ``official``: what the last ``\\boxed{…}`` holds, if it is a letter, else a letter at the end (``… A.``), on a line of
  its own at the beginning, or after phrases like "the answer is".  The official script asks gpt-4o-mini about other
  answers, VLMEvalKit (whose copy of the rule is followed here, commit e8e78f05) counts them as wrong, as is done here.
- ``lmms-eval-75571cf``: the last ``<answer>A</answer>``, else ``\\boxed{A}``, "answer: A", "option A", "(A)".

Deliberate choices:
- It is read from the official files or VLMEvalKit's file; the hub's rows have no images.

Not checked against the official download: the fields of ``data.jsonl`` beside ``image_path``, ``question``, ``label``
and ``tag``; the official script's position of the prompt (VLMEvalKit has it after the question).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import OfficialData, image_in, tsv_places
from evalkit.interfaces import Task
from evalkit.jsonl import parse, read_bytes
from evalkit.letters import Options, Reading, lmms_eval
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._choice import check_letter

OPTIONS = ("A", "B", "C", "D")
FILES = ("visulogic/data.jsonl", "VisuLogic/data.jsonl")
EXPECTED = "a line of data.jsonl of VisuLogic/VisuLogic, or of VLMEvalKit's VisuLogic.tsv"
VLMEVALKIT_PROMPT = (
    "{q}\nSolve the complex visual logical reasoning problem through step-by-step reasoning.Think about the reasoning "
    "process first and answer the question following this format: Answer: \\boxed{{$LETTER}}"
)

_BOX = re.compile(r"\\boxed\{|[^\\]\}")
_LATEX = (r"\text{", r"\rm{", r"\mathbf{", "$", "}")
_PHRASES = (
    "answer:", "the final answer is:", "the answer is option:", "the answer is:", "the correct answer is option:",
    "the correct answer is:", "the answer should be:", "the final answer is", "the answer is option", "the answer is",
    "the correct answer is option", "the correct answer is", "the answer should be",
)  # fmt: skip
_LMMS_EVAL = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"<answer>\s*\(?([A-D])\)?\s*</answer>",
        r"\\boxed\{\s*([A-D])\s*\}",
        r"answer\s*(?:is|:|-)\s*\(?([A-D])\)?\b",
        r"option\s*([A-D])\b",
        r"\(([A-D])\)",
    )
)


def read_official(text: str, options: Options) -> Reading:
    """The letter in an answer: in the last box, else in words."""
    boxed = _boxed(text).strip()
    if boxed in OPTIONS:
        return Reading(boxed, "box")
    letter = _in_words(text.replace("<|endoftext|>", ""))
    return Reading(letter, "stated" if letter else lmms_eval.NOTHING)


def _boxed(text: str) -> str:
    """What the last box holds, without LaTeX's commands; the whole text if there is none, or it holds no letter."""
    starts: list[int] = []
    found = ""
    for match in _BOX.finditer(text) if len(text) > 2 else ():
        if match[0].endswith("{"):
            starts.append(match.end())
        elif starts:
            start = starts.pop()
            found = found if starts else text[start : match.start() + 1]
    for command in _LATEX:
        found = found.replace(command, "")
    return text if not found or "letter" in found.lower() or "or" in found or len(found) > 2 else found


def _in_words(text: str) -> str | None:
    for letter in OPTIONS:
        ends = text.endswith((f" {letter}.", f" ({letter})."))
        if ends or text.startswith((f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")):
            return letter
    rest = text.lower()
    for phrase in _PHRASES:
        if phrase in rest:  # what one phrase leaves is searched for the next
            rest = rest.rpartition(phrase)[2].strip().split("\n")[0].split(".")[0]
            if rest.upper() in OPTIONS:
                return rest.upper()
    return text if text in OPTIONS else None


def read_lmms_eval(text: str, options: Options) -> Reading:
    """The letter in an answer by lmms-eval's rule."""
    text = text.strip()
    for pattern in _LMMS_EVAL:
        found = pattern.findall(text)
        if found:
            return Reading(str(found[-1]).upper(), "stated")
    first = text[:1].upper()
    return Reading(first, "letter") if len(text) <= 3 and first in OPTIONS else Reading(None, lmms_eval.NOTHING)


class VisuLogic(Task):
    """VisuLogic, from the official files or VLMEvalKit's TSV file."""

    name = "visulogic"
    version = 1
    kind = "choice"
    splits = {"test": Split(1_000, "six kinds of puzzles")}
    default_splits = ("test",)
    metric = "choice_accuracy"
    decoding = Decoding(max_new_tokens=4096)
    prompts = {
        "official": PromptTemplate(
            "{q}\nSolve the complex visual logical reasoning problem through step-by-step reasoning. Think about the "
            "reasoning process first and answer the question following this format: Answer: \\boxed{{$LETTER}}."
        ),
        "lmms-eval": PromptTemplate("{q}\nAnswer with the option letter only.", max_new_tokens=64),
        "vlmevalkit": PromptTemplate("", max_new_tokens=2048, others={"choice": VLMEVALKIT_PROMPT}),
    }
    rules = {
        "official": ScoringRule(
            "visulogic-vlmevalkit-e8e78f05", about="VisuLogic's own without GPT", read=read_official
        ),
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-visulogic", about="lmms-eval's: tags, boxes, phrases", read=read_lmms_eval
        ),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}
    layout = ("visulogic/data.jsonl", "visulogic/images/*.png", "or visulogic/VisuLogic.tsv")

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The lines of ``data.jsonl``, or else the rows of VLMEvalKit's file."""
        path = next((data.root / name for name in FILES if (data.root / name).exists()), None)
        if path is None:
            table = data.tsv(*tsv_places(self.name, "VisuLogic"), task=self.name, columns=("question", "answer"))
            for row in table.rows:
                with official_format(self.name, row.where, EXPECTED):
                    yield self._sample(row.index, row, row["answer"], row.get("category"), row.images, row.where)
            return
        for number, line in enumerate(read_bytes(path, "visulogic:").splitlines(), 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            with official_format(self.name, where, EXPECTED):
                entry = parse(line)
                if not isinstance(entry, Mapping):
                    raise ValueError("the line is no JSON object")
                sample_id = id_in(entry, "id") if entry.get("id") is not None else name_in(entry, "image_path")
                image = image_in(path.parent, name_in(entry, "image_path"), task=self.name)
                yield self._sample(sample_id, entry, entry["label"], entry.get("tag"), (image,), where)

    def _sample(
        self, sample_id: str, row: Mapping[str, Any], answer: Any, tag: Any, images: tuple[ImageRef, ...], where: str
    ) -> Sample:
        if tag is not None and not isinstance(tag, str):
            raise ValueError("the kind of puzzle (tag) is not a text")
        return Sample(
            id=sample_id,
            images=images,
            text=text_in(row, "question").strip(),
            references=(check_letter(answer, OPTIONS, task=self.name, where=where),),
            cluster=sample_id,
            options=OPTIONS,
            meta={"category": (tag or "").removesuffix(" Reasoning") or None},
        )


TASK = VisuLogic()
