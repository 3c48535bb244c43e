"""MMMU-Pro: MMMU's questions that cannot be answered from text alone, with up to ten options, or in a screenshot.

Paper: Yue et al., "MMMU-Pro: A More Robust Multi-discipline Multimodal Understanding Benchmark", ACL 2025 (arXiv
2409.02813).  Official data: MMMU/MMMU_Pro on the hub; official scorer: ``mmmu-pro/`` of MMMU-Benchmark/MMMU (commit
bb0b95a).  Score: share of right answers among 1,730 questions, with every subject and discipline.

Protocol: three versions of the same questions.  ``mmmu_pro`` has the splits ``standard10`` and ``standard4``, by the
number of options; ``mmmu_pro_vision`` has question and options in one image.  The score that tables give is the mean of
``standard10`` and ``vision``, with reasoning: the group ``mmmu-pro-overall``.

Rules:
- ``official``: the only option's letter after the last "Answer:", else MMMU's rule in a looser form
  (``evalkit/letters/mmmu.py``).  Upstream draws an option where nothing is found, without a seed; here that is wrong.
  GPT-4o's published answers to ``standard10`` give 55.03 as printed; none of them is drawn.
- ``vlmevalkit-2026-07``: the only capital letter after "Answer:" in the last line that begins so, else VLMEvalKit's
  letter rule on what follows there.
- ``lmms-eval-75571cf``: the looser form of MMMU's rule; of ``vision``, an answer that is the letter and nothing else.

Deliberate choices:
- The prompts are those that ask for reasoning, upstream and in VLMEvalKit; lmms-eval's default asks for the letter.
- Images stand where they are marked.  The official scripts write ``[image]`` there and send the images apart.
- A question of ``standard10`` (validation_Accounting_29) has a list as its only option, and the answer B: nothing is
  right, upstream and here.

Not checked against the official download: the columns of VLMEvalKit's files beside ``index``, ``question``, ``answer``
and the options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.letters import VLMEVALKIT, Options, Reading, mmmu, read_letter
from evalkit.tasks._files import id_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._choice import LETTERS, check_letter
from ._marks import Marked, numbered
from ._mmmu import DOMAIN_OF, IMAGE_COLUMNS, NumberedImages, listed, subject_of

HUB_REPO = "MMMU/MMMU_Pro"
HUB_COLUMNS = ("id", "options", "answer", "subject")
CONFIGS = {"standard10": "standard (10 options)", "standard4": "standard (4 options)", "vision": "vision"}
TSV = {"standard10": "MMMU_Pro_10c", "vision": "MMMU_Pro_V"}
EXPECTED = f"a question of {HUB_REPO} or of VLMEvalKit's MMMU_Pro files"
SIZE = 1_730
LMMS_EVAL = "lmms-eval-75571cf"
VLMEVALKIT_COT = "vlmevalkit-2026-07"

LAST_LINE = (
    "The last line of your response should be of the following format: 'Answer: $LETTER' (without quotes) where LETTER "
    "is one of {}options. Think step by step before answering."
)
DIRECT = "Answer with the option letter from the given choices directly."
VLMEVALKIT_TAIL = f"{LAST_LINE.format('the ')} "

_ANSWER_LINE = re.compile(r"^[^\S\n]*Answer:(.*)$", re.M)


def read_vlmevalkit(text: str, options: Options) -> Reading:
    """The letter in an answer with reasoning, by VLMEvalKit's ``cot_postproc`` and its letter rule."""
    tails = _ANSWER_LINE.findall(text.strip())
    if tails:
        text = tails[-1].rstrip()
        capitals = set(re.findall("[A-Z]", text))
        if len(capitals) == 1:
            text = capitals.pop()
    return read_letter(text, options.texts, VLMEVALKIT)


def read_bare_letter(text: str, options: Options) -> Reading:
    """An answer that is a letter and nothing else."""
    found = len(text) == 1 and text in options.letters
    return Reading(text, "letter") if found else Reading(None, mmmu.NOTHING)


class MMMUPro(Task):
    """The versions of MMMU-Pro with question and options as text."""

    name = "mmmu_pro"
    version = 1
    kind = "choice"
    splits = {
        "standard10": Split(SIZE, "up to ten options"),
        "standard4": Split(SIZE, "four options"),
    }
    default_splits = ("standard10",)
    metric = "mmmu_accuracy"
    decoding = Decoding(max_new_tokens=4096)
    prompts = {
        "official": PromptTemplate(
            f"{{q}}\n{{options}}\nAnswer the preceding multiple choice question. {LAST_LINE.format('')}"
        ),
        "lmms-eval": PromptTemplate(f"{{q}}\n{{options}}\n\n{DIRECT}", max_new_tokens=256),
        "vlmevalkit": PromptTemplate(
            "",
            max_new_tokens=2048,
            others={
                "choice": "Question: {q}\nOptions:\n{options}\nAnswer the following multiple-choice question. "
                + VLMEVALKIT_TAIL
            },
        ),
    }
    rules: Mapping[str, ScoringRule] = {
        "official": ScoringRule("mmmu-pro-bb0b95a", about="MMMU-Pro's own parser", read=mmmu.read_pro),
        LMMS_EVAL: ScoringRule("lmms-eval-75571cf-mmmu", about="lmms-eval's parser", read=mmmu.read_loosely),
        VLMEVALKIT_COT: ScoringRule(
            VLMEVALKIT_COT, about="VLMEvalKit's for answers with reasoning", read=read_vlmevalkit
        ),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": LMMS_EVAL, "vlmevalkit": VLMEVALKIT_COT}
    layout: tuple[str, ...] = ("mmmu_pro/MMMU_Pro_10c.tsv",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file, which has no version with four options."""
        version = self._version(split)
        if version in TSV:
            yield from self._from_tsv(data, version)
        else:
            yield from super().from_files(data, split)  # says that it is not read from files

    def _from_tsv(self, data: OfficialData, version: str) -> Iterator[Sample]:
        table = data.tsv(*tsv_places("mmmu_pro", TSV[version]), task=self.name, columns=("answer",))
        for row in table.rows:
            images: dict[int, ImageRef] = dict(enumerate(row.images, 1))
            with official_format(self.name, row.where, EXPECTED):
                yield self._sample(
                    {**row, "id": row.get("id") or row.index, "subject": row.get("subject") or row.get("category")},
                    row.options,
                    images,
                    row.where,
                    required=data.images_required,
                )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        version = self._version(split)
        text = () if version == "vision" else ("question",)
        rows = data.rows(HUB_REPO, "test", CONFIGS[version], task=self.name, columns=(*HUB_COLUMNS, *text))
        place = f"{HUB_REPO}/{CONFIGS[version]}/test"
        images = NumberedImages(place, rows)
        for index, row in data.iterate(rows, without=(*IMAGE_COLUMNS, "image")):
            name = f"{place}[{index}]"
            with official_format(self.name, name, EXPECTED):
                found = {1: RowImage(name, rows, index)} if version == "vision" else images.of(index)
                yield self._sample(row, listed(row["options"], "options", lists=True), found, name)

    def _version(self, split: str) -> str:
        return split

    def _sample(
        self,
        row: Mapping[str, Any],
        options: tuple[str, ...],
        images: Mapping[int, ImageRef],
        where: str,
        *,
        required: bool = True,
    ) -> Sample:
        question_id = id_in(row, "id")
        subject = subject_of("", row["subject"]) if row.get("subject") else subject_of(question_id)
        known = LETTERS if options and options[0].startswith("['") else options  # the list that is one option
        references = (check_letter(row["answer"], known, task=self.name, where=where),)
        return self._marked(row, options, images, required).sample(
            question_id, references, meta={"category": subject, "domain": DOMAIN_OF[subject]}
        )

    def _marked(
        self, row: Mapping[str, Any], options: tuple[str, ...], images: Mapping[int, ImageRef], required: bool
    ) -> Marked:
        return numbered(text_in(row, "question"), options, images, required=required)


class MMMUProVision(MMMUPro):
    """The version of MMMU-Pro with question and options in the image."""

    name = "mmmu_pro_vision"
    splits = {"test": Split(SIZE, "question and options in one image")}
    default_splits = ("test",)
    prompts = {
        "official": PromptTemplate(
            f"Write out the multiple-choice question in the image and then solve it. {LAST_LINE.format('')}"
        ),
        "lmms-eval": PromptTemplate(DIRECT, max_new_tokens=256),
        "vlmevalkit": PromptTemplate(
            "",
            max_new_tokens=2048,
            others={"choice": f"Answer the following multiple-choice question in the image. {VLMEVALKIT_TAIL}"},
        ),
    }
    rules = {
        **MMMUPro.rules,
        LMMS_EVAL: ScoringRule(
            "lmms-eval-75571cf-bare-letter",
            about="lmms-eval's: the answer is the letter, nothing else",
            read=read_bare_letter,
        ),
    }
    layout = ("mmmu_pro/MMMU_Pro_V.tsv",)

    def _version(self, split: str) -> str:
        return "vision"

    def _marked(
        self, row: Mapping[str, Any], options: tuple[str, ...], images: Mapping[int, ImageRef], required: bool
    ) -> Marked:
        """The image alone: the question is in it, and the options are only known to the scorer."""
        return Marked((*images.values(),), options)


TASKS = {task.name: task for task in (MMMUPro(), MMMUProVision())}
