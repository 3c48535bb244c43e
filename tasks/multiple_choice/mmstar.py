"""MMStar: 1,500 multiple-choice questions that cannot be answered without the image.

Paper: Chen et al., "Are We on the Right Way for Evaluating Large Vision-Language Models?", NeurIPS 2024 (arXiv
2403.20330).  Official data: Lin-Chen/MMStar on the hub; official scorer: MMStar-Benchmark/MMStar (commit 88f243a),
``eval/vlmeval/evaluate/mmstar.py``.
Score: share of right answers, of all and of each of 6 categories (250 questions each) and 18 L2 categories.

Rules:
- ``official``: the answer, in lower case, begins with the letter, ``(`` and the letter, ``option `` and the letter, or
  ``the answer is `` and the letter.  Nothing has to follow it: "a dog" is A, "Both" is B.
- ``lmms-eval-2026-04``: lmms-eval's reading, and its score: the *mean of the 18 L2 means*, which is up to 1.2 points
  higher than the accuracy on the same answers, since the L2 categories differ in size.  Every rule has this mean
  beside the accuracy, as ``accuracy_l2``.
- ``vlmevalkit-DATE``: VLMEvalKit's readings; its score is the accuracy.

Data: the hub has the options in the question (``Options: A: …, B: …``) and VLMEvalKit's MMStar.tsv in columns; here
they are options in either case.  lmms-eval's prompt is the hub's text.  In VLMEvalKit's data of 2024, three rows lack
an option ("None", of which pandas makes a missing value), in two of them the right one.

Not checked against the hub: whether every question has its options in one of the two forms that are read.

Not computed: multi-modal gain and leakage, which need runs without images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evalkit.letters import LETTERS, Options, Reading
from evalkit.tasks._files import id_in, text_in
from evalkit.types import ImageRef, PromptTemplate, ScoringRule, Split

from ._tables import VLMEVALKIT_PROMPT, ChoiceTable, Row

_OPTIONS = re.compile(r"\n\s*Options:\s*(?=A: )")
_CHOICES = re.compile(r"\n\s*(?:Choices|Options):\s*\n?(?=\(A\))")
_BRACKETED = re.compile(r"\s*\(([A-I])\)\s*")
LMMS_EVAL = "lmms-eval-2026-04"


def read_official(text: str, options: Options) -> Reading:
    """The letter at the beginning of an answer, or after ``(``, ``option `` or ``the answer is ``.

    The official scorer knows the right letter only, and asks not whether there is such an option.
    """
    text = text.lower().strip()
    letters = LETTERS[: max(4, len(options.texts))]
    for beginning in ("(", "option ", "the answer is ", ""):
        if text.startswith(beginning):
            letter = text[len(beginning) : len(beginning) + 1].upper()
            if letter and letter in letters:
                return Reading(letter, "letter")
    return Reading(None, "no option")


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """The question and the options of ``question\\nOptions: A: …, B: …``, or of MathVista's ``Choices:\\n(A) …``.

    Raises:
        ValueError: there are no options in ``text``.
    """
    question, *rest = _OPTIONS.split(text, maxsplit=1)
    if not rest and (bracketed := _CHOICES.split(text, maxsplit=1))[1:]:
        parts = _BRACKETED.split(bracketed[1])
        if parts[1::2] == list("ABCDEFGHI"[: len(parts) // 2]):
            return bracketed[0].strip(), tuple(option.strip() for option in parts[2::2])
    if not rest:
        raise ValueError("there are no options in the question (Options: A: …)")
    options, left = [], rest[0]
    for letter in "BCDEFGHI":
        option, separator, after = left.partition(f", {letter}: ")
        if not separator:
            option, separator, after = left.partition(f",{letter}: ")
        options.append(option.removeprefix("A: ") if letter == "B" else option)
        if not separator:
            break
        left = after
    return question.strip(), tuple(option.strip() for option in options)


class MMStar(ChoiceTable):
    """MMStar val, from the hub or VLMEvalKit's TSV file."""

    name = "mmstar"
    splits = {"val": Split(1_500, "6 categories of 250 questions")}
    default_splits = ("val",)
    tsv = {"val": ("MMStar",)}
    hub = "Lin-Chen/MMStar"
    hub_splits = {"val": (None, "val")}
    hub_columns = ("index", "question", "image", "answer", "category", "l2_category")
    layout = ("mmstar/MMStar.tsv",)
    breakdowns = {"category": "category", "l2_category": "l2_category"}
    prompts = {
        "lmms-eval": PromptTemplate("{prompt}\nAnswer with the option's letter from the given choices directly"),
        "vlmevalkit": VLMEVALKIT_PROMPT,
    }
    rules = {
        "official": ScoringRule("mmstar-88f243a", about="MMStar's own scorer", read=read_official),
        LMMS_EVAL: ScoringRule(LMMS_EVAL, "choice_accuracy_l2", "lmms-eval: the mean of the 18 L2 categories' means"),
    }
    default_rule = "official"
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": LMMS_EVAL}

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        question, options = split_options(text_in(row, "question"))
        return Row(id_in(row, "index"), question, options, row["answer"], images, name, row)

    def meta(self, row: Row) -> dict[str, Any]:
        listed = [f"{letter}: {option}" for letter, option in zip("ABCDEFGHI", row.options, strict=False) if option]
        text = f"{row.question}\nOptions: {', '.join(listed)}"
        of_hub = str(row.fields.get("question") or "").strip()
        return {**super().meta(row), "prompt": text if of_hub == row.question.strip() else of_hub}


TASK = MMStar()
