r"""MATH-Vision (MATH-V): competition problems with a figure, in 16 subjects and 5 levels.

Paper: Wang et al., "Measuring Multimodal Mathematical Reasoning with MATH-Vision Dataset", NeurIPS 2024 (arXiv
2402.14804).  Official data: ``data/test.jsonl``, ``data/testmini.jsonl`` and ``images/`` of mathllm/MATH-V (commit
a1f5cc3), and MathLLMs/MathVision on the hub; official scorer: ``evaluation/evaluate.py`` there.
Score: share of right answers among 3,040 problems, 1,532 of them with five options
(``metrics/mathvision.py``), with every subject and level.

Protocol: the official prompt asks for the answer in one ``\boxed{}``; options follow the question as ``(A) …`` lines,
unless they are the letters themselves, which stand in the figure.  Answers reason: 2,048 new tokens, and no stop
sequence (a blank line would cut them off).

Rules:
- ``official``: the official extraction and comparison, by rules alone.
- ``vlmevalkit-prefetch``: the part of VLMEvalKit's rules that needs no judge, a lower bound.  VLMEvalKit, Qwen3-VL's
  evaluation and the Qwen reports let a judge extract the answers (gpt-4o for Qwen3-VL), which is not supported yet.

Deliberate choices:
- The figures of a problem are one image in the files, and it comes first; ``<image1>`` stays in the question.
- Qwen3-VL's own prompt is the question with its options, as its report has it.

Not checked against the official download: the columns of VLMEvalKit's TSV, whose questions are taken to contain the
options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, name_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._math import LETTERS, json_lines, lettered, option_texts, present

HUB_REPO = "MathLLMs/MathVision"
HUB_COLUMNS = ("id", "question", "options", "decoded_image", "answer", "level", "subject")
EXPECTED = "a problem of mathllm/MATH-V"
FOLDERS = ("mathvision", "MATH-V", "MathVision")
TSV = {"test": "MathVision", "testmini": "MathVision_MINI"}
FIVE_LETTERS = tuple("ABCDE")

OFFICIAL_PROMPT = (
    'Please solve the problem step by step and put your answer in one "\\boxed{{}}". If it is a multiple choice '
    'question, only one letter is allowed in the "\\boxed{{}}".\n{q}\n'
)
LMMS_EVAL_PROMPT = 'Please solve the problem step by step and put your answer in one "\\boxed{{}}".{question}'


class MathVision(Task):
    """MATH-Vision, from the official files, VLMEvalKit's TSV files or the hub."""

    name = "mathvision"
    version = 1
    kind = "vqa"
    splits = {
        "test": Split(3_040, "all problems"),
        "testmini": Split(304, "a tenth of them, of every subject and level"),
    }
    default_splits = ("test",)
    metric = "mathvision_accuracy"
    decoding = Decoding(max_new_tokens=2048)
    prompts = {
        "official": PromptTemplate(OFFICIAL_PROMPT),
        "lmms-eval": PromptTemplate(
            LMMS_EVAL_PROMPT + "\nChoices: {options}\nAnswer the question with the option's letter from the given "
            "choices directly.",
            max_new_tokens=16_384,
            without_options=LMMS_EVAL_PROMPT,
        ),
        "vlmevalkit": PromptTemplate("{q}"),
    }
    rules = {
        "official": ScoringRule(metric="mathvision_accuracy", about="the official extraction", verbatim=True),
        "vlmevalkit-prefetch": ScoringRule(
            metric="mathvision_vlmevalkit",
            about="VLMEvalKit's rules without its judge: a lower bound",
            verbatim=True,
        ),
    }
    default_rule = "official"
    protocol_rules = {"vlmevalkit": "vlmevalkit-prefetch"}
    layout = ("mathvision/data/test.jsonl", "mathvision/images/*.jpg", "or mathvision/MathVision.tsv")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The problems in the order of the official file, or else of VLMEvalKit's."""
        places = [f"{folder}/{below}{split}.jsonl" for folder in FOLDERS for below in ("data/", "")]
        found = present(data, *places)
        if found is None and present(data, *tsv_places(self.name, TSV[split])):
            yield from self._from_tsv(data, split)
            return
        path = data.find(*places, task=self.name)
        folder = path.parent.parent if path.parent.name == "data" else path.parent
        if data.images_required:
            data.find(f"{folder.relative_to(data.root)}/images", task=self.name)
        for where, row in json_lines(path, task=self.name):
            with official_format(self.name, where, EXPECTED):
                name = name_in(row, "image")
                yield self._sample(row, image_in(Path(folder), name, task=self.name))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows, without=("decoded_image",)):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, EXPECTED):
                yield self._sample(row, RowImage(name, rows, index, column="decoded_image"))

    def _from_tsv(self, data: OfficialData, split: str) -> Iterator[Sample]:
        table = data.tsv(*tsv_places(self.name, TSV[split]), task=self.name, columns=("question", "answer"))
        for row in table.rows:
            with official_format(self.name, row.where, EXPECTED):
                options = option_texts(row.get("choices")) or row.options
                answer = text_in(row, "answer")
                subject = row.get("category") or row.get("subject")
                yield Sample(
                    id=row.get("id") or row.index,
                    images=row.images,
                    text=text_in(row, "question"),
                    references=_references(answer, options),
                    cluster=row.get("id") or row.index,
                    options=options,
                    meta={"subject": subject, "level": row.get("level")},
                )

    def _sample(self, row: Mapping[str, Any], image: ImageRef) -> Sample:
        question_id, question = id_in(row, "id"), text_in(row, "question")
        options = option_texts(row["options"])
        listed = f"\n{lettered(options)}" if options and options != FIVE_LETTERS else ""
        return Sample(
            id=question_id,
            images=(image,),
            text=f"{question}{listed}",
            references=_references(text_in(row, "answer"), options),
            cluster=question_id,
            options=options,
            meta={"question": question, "subject": text_in(row, "subject"), "level": str(row["level"])},
        )


def _references(answer: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """The right answer; of a multiple-choice problem, its letter and the option's text."""
    if not answer.strip():
        raise ValueError("the answer is empty")
    if not options:
        return (answer,)
    place = LETTERS.find(answer) if len(answer) == 1 else -1
    if not 0 <= place < len(options):
        raise ValueError(f"the answer is {answer!r}, the letter of none of {len(options)} options")
    return answer, options[place]


TASK = MathVision()
