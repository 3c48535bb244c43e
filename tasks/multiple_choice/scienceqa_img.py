"""ScienceQA, questions with an image: multiple-choice questions from school lessons.

Paper: Lu et al., "Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering", NeurIPS
2022 (arXiv 2209.09513).  Official data: lupantech/ScienceQA, ``problems.json`` and ``pid_splits.json``.
Score: share of questions whose option was named (``metrics/choice_accuracy.py``); a letter is answered, 10 new tokens.

Protocol: of the 4,241 test problems the 2,017 with an image (``"image": "image.png"``), known as ScienceQA-IMG.

*How the hint enters the question.*  About half of all problems have a ``hint``, a passage or a sentence on the image,
without which many cannot be answered.  It stands before the question, on lines of its own: ``Context: {hint}``, then
the question (as in lmms-eval).  A problem without a hint is its question alone.  ``meta`` has ``hint`` and ``question``
apart, for a family whose prompt has a place for the hint (Qwen-VL's ``Context: {hint or N/A}``).

Deliberate choices:
- ``lecture`` and ``solution`` are not shown: the one teaches how to answer, the other gives the answer.
- The paper's own scorer picks an option at random where it finds none in an answer; here that is wrong, and counted.
- The breakdown (``meta["category"]``) is by subject, as tables have it: natural, social and language science.
- The hub's copy (``lmms-lab/ScienceQA``, ScienceQA-IMG) has no problem ids: there a sample's id is its row.
- ``llava-c121f04`` is the rule of LLaVA's scorer: the answer alone, "A. " at its beginning, or a single "The answer is
  A" with a sign after it.  lmms-eval's is like it without the last.
- VLMEvalKit's ScienceQA_TEST.tsv has the same 2,017 problems in an order and with an index of its own; it is read where
  there is no ``problems.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, shown, tsv_places
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.letters import VLMEVALKIT, Options, Reading, lmms_eval
from evalkit.tasks._files import id_of, list_in, official_format, text_in, texts_in
from evalkit.tsv import TsvFile
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._choice import LETTERS, check_letter, letter

HUB_REPO = "lmms-lab/ScienceQA"
HUB_CONFIG = "ScienceQA-IMG"
HUB_COLUMNS = ("image", "question", "choices", "answer", "hint")
TSV = "ScienceQA_TEST"
EXPECTED = "problems.json of lupantech/ScienceQA"
_ANSWER_IS = re.compile(r"The answer is ([A-Z]).")
FOLDERS = ("scienceqa", "scienceqa/data/scienceqa", "ScienceQA/data/scienceqa")


def read_llava(text: str, options: Options) -> Reading:
    """The letter in an answer, by LLaVA's ``eval_science_qa.py`` (haotian-liu/LLaVA, commit c121f04)."""
    letters = "ABCDE"
    if len(text) == 1 and text in letters:
        letter = text
    elif text[:1] and text[:1] in letters and text[1:3] == ". ":
        letter = text[0]
    else:
        found = _ANSWER_IS.findall(text)
        letter = found[0] if len(found) == 1 else ""
    known = letter and letter in letters and letter in options.letters
    return Reading(letter, "letter") if known else Reading(None, lmms_eval.NOTHING)


class ScienceQAImages(Task):
    """ScienceQA test, rows with an image (and train, for few-shot examples), from the official files or the hub."""

    name = "scienceqa_img"
    version = 1
    kind = "choice"
    splits = {
        "test": Split(2_017, "the test problems with an image"),
        "train": Split(6_218, "the training problems with an image: for few-shot examples"),
    }
    default_splits = ("test",)
    metric = "choice_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        "lmms-eval": PromptTemplate(
            "{q}\n{options}\nAnswer with the option's letter from the given choices directly.", max_new_tokens=16
        ),
        "vlmevalkit": PromptTemplate(
            "{hints}Question: {question}\nOptions:\n{options}\n"
            "Please select the correct answer from the options above. \n"
        ),
    }
    rules = {
        "llava-c121f04": ScoringRule("llava-c121f04", about="LLaVA's scorer", read=read_llava),
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-scienceqa",
            about="the answer alone, or a capital and a point at its beginning",
            read=lmms_eval.read_scienceqa,
        ),
    }
    protocol_rules = {"vlmevalkit": VLMEVALKIT, "lmms-eval": lmms_eval.COMMIT}
    layout = ("scienceqa/problems.json", "scienceqa/pid_splits.json", "scienceqa/images/test/*/image.png")
    hub = HUB_REPO
    hub_config = HUB_CONFIG
    with_text_only = False
    """Whether problems without an image belong to it."""

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The problems of ``split``, in the order of ``pid_splits.json`` or of VLMEvalKit's file."""
        of_vlmevalkit = tsv_places(self.name, TSV)
        official = [f"{folder}/problems.json" for folder in FOLDERS]
        if split == "test" and not self.with_text_only and not _exist(data, official) and _exist(data, of_vlmevalkit):
            yield from self._from_tsv(
                data.tsv(*of_vlmevalkit, task=self.name, columns=("question", "answer", "A")), data
            )
            return
        path = data.find(*(f"{folder}/problems.json" for folder in FOLDERS), task=self.name)
        problems = data.json(*(f"{folder}/problems.json" for folder in FOLDERS), task=self.name)
        splits = data.json(*(f"{folder}/pid_splits.json" for folder in FOLDERS), task=self.name)
        # test.zip unpacks to test/PID/image.png, wherever it was put.
        places = [f"{folder}{below_it}/{split}" for folder in FOLDERS for below_it in ("/images", "")]
        images = data.image_folder(*places, task=self.name)
        with official_format(self.name, "pid_splits.json", "the one of lupantech/ScienceQA, data/scienceqa"):
            pids = [id_of(pid, "a problem's id") for pid in list_in(splits, split)]
        for pid in pids:
            if not isinstance(problems, Mapping) or pid not in problems:
                raise UserError(
                    f"{self.name}: {path} and pid_splits.json do not fit together (missing {pid!r}); "
                    "both come from lupantech/ScienceQA, data/scienceqa."
                )
            where = f"problem {pid} of {path}"
            with official_format(self.name, where, EXPECTED):
                file_name = _text_or_none(problems[pid]["image"], "image")
            if file_name:
                folder = image_in(images, pid, task=self.name).path
                image = image_in(Path(folder), file_name, task=self.name)
                yield self._sample(problems[pid], pid, (image,), where)
            elif self.with_text_only:
                yield self._sample(problems[pid], pid, (), where)

    def _from_tsv(self, table: TsvFile, data: OfficialData) -> Iterator[Sample]:
        for row in table.rows:
            right = check_letter(row["answer"], row.options, task=self.name, where=row.where)
            if data.images_required and not row.images:
                raise UserError(f"{self.name}: {row.where} has no image; download the file again.")
            problem = {**row, "choices": list(row.options), "answer": LETTERS.index(right)}
            yield self._sample(problem, row.index, row.images, row.where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, self.hub_config, task=self.name, columns=HUB_COLUMNS)
        shown_images = rows.data.column("image").is_valid().to_pylist()
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{self.hub_config}/{split}[{index}]"
            text_only = self.with_text_only and not shown_images[index]
            yield self._sample(row, str(index), () if text_only else (RowImage(name, rows, index),), name)

    def _sample(self, problem: Mapping[str, Any], sample_id: str, images: tuple[ImageRef, ...], where: str) -> Sample:
        with official_format(self.name, where, EXPECTED):
            question, options = text_in(problem, "question"), texts_in(problem, "choices")
            right = letter(problem["answer"], options, task=self.name, where=where)
            hint = (_text_or_none(problem.get("hint"), "hint") or "").strip()
            categories = self.categories(problem, images, hint)
        return Sample(
            id=sample_id,
            images=images,
            text=f"Context: {hint}\n{question}" if hint else question,
            references=(right,),
            cluster=sample_id,
            options=options,
            meta={"hint": hint, "question": question, "category": categories},
        )

    def categories(self, problem: Mapping[str, Any], images: Sequence[ImageRef], hint: str) -> Any:
        """What ``meta["category"]`` is: the subject."""
        return _text_or_none(problem.get("subject"), "subject")


def _exist(data: OfficialData, places: Sequence[str]) -> bool:
    return any((data.root / place).exists() for place in places)


def _text_or_none(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{what} is {shown(value)}, not a text")
    return value


TASK = ScienceQAImages()
