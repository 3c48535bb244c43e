"""V*Bench: questions about small details of large photos.

Paper: Wu and Xie, "V*: Guided Visual Search as a Core Mechanism in Multimodal LLMs", CVPR 2024 (arXiv 2312.14135).
Official data: craigwu/vstar_bench (penghao-wu/vstar, commit 4ede664); copies: VLMEvalKit's VStarBench.tsv and, on the
hub, lmms-lab/vstar-bench.
Score: share of right answers among the 191 questions, and among the 115 on attributes and the 76 on positions.

Three files say the same:
- ``test_questions.jsonl`` and the hub's copy: the question with its options ``(A) …`` in one text, and a letter;
- VLMEvalKit's TSV: options in columns;
- a JSON file per image, beside the image: *the first option is always the right one*.  The official scorer ranks the
  options by likelihood; to a prompt with these options, "A" would always be the right answer (a model that prefers A
  gets 100).  These files are refused.

Rules: ``lmms-eval-75571cf`` takes the first hit of a ladder of patterns on the answer in capitals: "A dog" is A.  The
scores in Qwen3-VL's report were made with an image-zoom tool; they are not comparable with a single pass.

Deviation: lmms-eval's prompt has the instruction twice, once as a part of the last option; here it has it once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from evalkit.data import OfficialData, image_in, tsv_places
from evalkit.errors import UserError
from evalkit.jsonl import objects, read_bytes
from evalkit.letters import Options, Reading, lmms_eval
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.types import ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._tables import LETTER, VLMEVALKIT_PROMPT, ChoiceTable, Row

QUESTIONS = "test_questions.jsonl"
FOLDERS = ("vstar", "vstar_bench", "")
PER_IMAGE = ("direct_attributes", "relative_position")
_OPTION = re.compile(r"\s*\(([A-I])\)\s*")
_TAIL = re.compile(r"\s*Answer with the option's letter from the given choices directly\.?\s*$")
_LADDER = tuple(
    re.compile(pattern)
    for pattern in (
        r"([A-D])",
        r"(?:THE\s+)?(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])",
        r"\(([A-D])\)",
        r"([A-D])\s*[.)|\]]",
        r"(?:^|\s)([A-D])(?:\s|$)",
    )
)


def read_lmms_eval(text: str, options: Options) -> Reading:
    """The letter in an answer by lmms-eval's ``vstar_bench/utils.py`` (commit 75571cf)."""
    text = text.strip().upper()
    first, *others = _LADDER
    match = first.match(text) or next((found for pattern in others if (found := pattern.search(text))), None)
    letters = [match[1]] if match else re.findall("[A-D]", text)
    if len(letters) == 1 and letters[0] in options.letters:
        return Reading(letters[0], "letter")
    return Reading(None, "no option")


def split_text(text: str) -> tuple[str, tuple[str, ...]]:
    """The question and its options, without the instruction at the end.  Raises ``ValueError`` without options."""
    question, *rest = _OPTION.split(_TAIL.sub("", text))
    if list(rest[::2]) != list("ABCDEFGHI"[: len(rest) // 2]) or not rest:
        raise ValueError("there are no options (A), (B), … in the text")
    return question.strip(), tuple(option.strip() for option in rest[1::2])


class VStar(ChoiceTable):
    """V*Bench, from VLMEvalKit's TSV file, the official list of questions, or the hub."""

    name = "vstar"
    splits = {"test": Split(191, "115 on attributes, 76 on positions")}
    default_splits = ("test",)
    tsv = {"test": ("VStarBench",)}
    hub = "lmms-lab/vstar-bench"
    hub_splits = {"test": (None, "test")}
    hub_columns = ("question_id", "text", "category", "label", "image")
    layout = ("vstar/VStarBench.tsv", f"vstar/{QUESTIONS}", *(f"vstar/{name}/*.jpg" for name in PER_IMAGE))
    prompts = {"lmms-eval": PromptTemplate(LETTER, max_new_tokens=16), "vlmevalkit": VLMEVALKIT_PROMPT}
    rules = {
        lmms_eval.COMMIT: ScoringRule("lmms-eval-75571cf-vstar", about="lmms-eval's for V*Bench", read=read_lmms_eval)
    }
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": lmms_eval.COMMIT}

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's file or, without it, of the official list."""
        listed = [f"{folder}/{QUESTIONS}".lstrip("/") for folder in FOLDERS]
        if any((data.root / place).exists() for place in tsv_places(self.name, *self.tsv[split])):
            return super().from_files(data, split)
        if any((data.root / place).exists() for place in listed):
            return self.samples(self._listed(data, listed), split, QUESTIONS, images=data.images_required)
        for folder in FOLDERS:
            for name in PER_IMAGE:
                if any((data.root / folder / name).glob("*.json")):
                    raise UserError(
                        f"vstar: {data.root / folder / name} has a file per image, in which the first option is always "
                        f"the right one, so that A would always be right; add {QUESTIONS} (craigwu/vstar_bench) or "
                        "VStarBench.tsv (VLMEvalKit), whose options are shuffled."
                    )
        return super().from_files(data, split)

    def _listed(self, data: OfficialData, places: list[str]) -> Iterator[Row]:
        path = data.find(*places, task=self.name)
        for number, entry in objects(read_bytes(path, f"{self.name}:"), f"{self.name}: {path}"):
            where = f"{path}, line {number}"
            with official_format(self.name, where, f"a question of {QUESTIONS}"):
                row = self.from_row(entry, number, where, ())
                name = name_in(entry, "image")
            yield replace(row, images=(image_in(path.parent, name, task=self.name),))

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        question, options = split_text(text_in(row, "text"))
        return Row(id_in(row, "question_id"), question, options, row["label"], images, name, row)


TASK = VStar()
