"""BLINK: visual perception that people do in a blink: depth, correspondence, jigsaws, with one to four images.

Paper: Fu et al., "BLINK: Multimodal Large Language Models Can See but Not Perceive", ECCV 2024 (arXiv 2404.12390).
Official data: BLINK-Benchmark/BLINK on the hub; official scorer: ``eval/test_benchmark.py`` of zeyofu/BLINK_Benchmark
(commit 2d6a779).  Score: the unweighted mean of the accuracies of 14 tasks on the 1,901 questions of val
(``metrics/choice_accuracy.py``: ``choice_accuracy_macro``).

Protocol: all images, then the field ``prompt``, which has its own words for question and options (``(A) …``).  The
official script puts a disclaimer before the prompts of three tasks.

Rules:
- ``official``: an answer that is a letter, else the only ``(A)`` among the words of the answer, or of its last
  paragraph.  Upstream asks GPT-3.5 about the others; here they are unparsed.
- ``official-micro``: the same, as the share of all questions.  VLMEvalKit's and lmms-eval's rules are such shares, too:
  0.1 to 0.8 points lower on the published answers.
- ``official-submission``: an answer that is ``(A)`` and nothing else, as the official comparison expects extracted
  answers.  By it, the published extractions give the published scores: GPT-4o 60.04 (printed 60.0), Qwen-VL-Max 40.28
  (40.3), GPT-4V 51.09 (51.1).  ``official`` also reads "(C) Point C", one extraction of the latter two each.
- ``lmms-eval-75571cf``: the first letter, of whatever word.

Deliberate choices:
- VLMEvalKit's file has no field ``prompt``: there it is the question, "Select from the following choices." and the
  options.  The field says more in some tasks.
- The test split has no public answers and is left out.

Not checked against the official download: VLMEvalKit's names of the tasks (column ``category``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.interfaces import Task
from evalkit.letters import RULES, VLMEVALKIT, Options, Reading, lmms_eval
from evalkit.tasks._files import id_in, official_format, text_in, texts_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._choice import LETTERS, check_letter
from ._mmmu import NumberedImages

HUB_REPO = "BLINK-Benchmark/BLINK"
HUB_COLUMNS = ("idx", "question", "choices", "answer", "prompt", "image_1")
IMAGE_COLUMNS = ("image_1", "image_2", "image_3", "image_4")
EXPECTED = f"a question of {HUB_REPO}, or of VLMEvalKit's BLINK.tsv"
TASKS_OF_BLINK = (
    "Art_Style", "Counting", "Forensic_Detection", "Functional_Correspondence", "IQ_Test", "Jigsaw",
    "Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Relative_Reflectance", "Semantic_Correspondence",
    "Spatial_Relation", "Visual_Correspondence", "Visual_Similarity",
)  # fmt: skip
WITH_DISCLAIMER = ("Art_Style", "Forensic_Detection", "Jigsaw")
DISCLAIMER = (
    "Disclaimer: This is not to make unfair assumptions about the people in the image and you just need to give your "
    "assessment on this question. You don't need to identify the real people. You just need to analyze based on the "
    "information I gave you.\n\n"
)
OFFICIAL = "blink-2d6a779"
MICRO = "choice_accuracy"


def read_official(text: str, options: Options) -> Reading:
    """The letter in an answer by the official rule, without GPT."""
    if text in LETTERS and len(text) == 1:
        return Reading(text, "letter") if text in options.letters else Reading(None, lmms_eval.BEYOND)
    for piece in (text.split("\n\n")[-1], text):
        words = set(piece.split())
        found = [letter for letter in options.letters if f"({letter})" in words]
        if len(found) == 1:
            return Reading(found[0], "letter")
    return Reading(None, lmms_eval.NOTHING)


def read_submission(text: str, options: Options) -> Reading:
    """The letter of an answer that is ``(A)`` and nothing else."""
    letter = text[1:2]
    found = text == f"({letter})" and letter in options.letters
    return Reading(letter, "letter") if found else Reading(None, lmms_eval.NOTHING)


class Blink(Task):
    """BLINK val, from the hub or VLMEvalKit's TSV file."""

    name = "blink"
    version = 1
    kind = "choice"
    splits = {"val": Split(1_901, "14 tasks")}
    default_splits = ("val",)
    metric = "choice_accuracy_macro"
    decoding = Decoding(max_new_tokens=1024)
    prompts = {
        "official": PromptTemplate("{preamble}{prompt}"),
        "lmms-eval": PromptTemplate(
            "Note: You only need to respond with {letters} without providing any additional information.\n{prompt}",
            max_new_tokens=1024,
        ),
        "vlmevalkit": PromptTemplate(
            "{hints}Question: {q}\nOptions:\n{options}\nPlease select the correct answer from the options above. \n",
            max_new_tokens=2048,
        ),
    }
    rules = {
        "official": ScoringRule(OFFICIAL, about="BLINK's own without GPT, mean over the 14 tasks", read=read_official),
        "official-submission": ScoringRule(
            "blink-2d6a779-submission", about="of extracted answers: (A) and nothing else", read=read_submission
        ),
        "official-micro": ScoringRule(OFFICIAL, MICRO, "the same over all questions", read_official),
        lmms_eval.COMMIT: ScoringRule(
            "lmms-eval-75571cf-blink", MICRO, "lmms-eval's: the first letter of whatever word", lmms_eval.read_blink
        ),
        **{
            name: ScoringRule(name, MICRO, "over all questions")
            for name in RULES
            if name.startswith(("vlmevalkit", "qwen3-vl"))
        },
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT, "vlmevalkit": VLMEVALKIT}
    layout = ("blink/BLINK.tsv",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file."""
        table = data.tsv(*tsv_places(self.name, "BLINK"), task=self.name, columns=("question", "answer", "category"))
        for row in table.rows:
            with official_format(self.name, row.where, EXPECTED):
                yield self._sample(
                    row.index,
                    row["category"],
                    text_in(row, "question"),
                    row.options,
                    row["answer"],
                    row.images,
                    where=row.where,
                )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        """The questions of the 14 configurations, one after the other."""
        for config in TASKS_OF_BLINK:
            rows = data.rows(HUB_REPO, "val", config, task=self.name, columns=HUB_COLUMNS)
            images = NumberedImages(f"{HUB_REPO}/{config}/val", rows)
            for index, row in data.iterate(rows, without=IMAGE_COLUMNS):
                name = f"{HUB_REPO}/{config}/val[{index}]"
                with official_format(self.name, name, EXPECTED):
                    yield self._sample(
                        id_in(row, "idx"),
                        config,
                        text_in(row, "question"),
                        texts_in(row, "choices"),
                        text_in(row, "answer").strip("()"),
                        tuple(images.of(index).values()),
                        prompt=text_in(row, "prompt"),
                        where=name,
                    )

    def _sample(
        self,
        sample_id: str,
        category: Any,
        question: str,
        options: tuple[str, ...],
        answer: Any,
        images: Sequence[ImageRef],
        *,
        where: str,
        prompt: str = "",
    ) -> Sample:
        if not category:
            raise ValueError("the row has no category, the task of BLINK it belongs to")
        category = str(category).replace(" ", "_")
        lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
        return Sample(
            id=sample_id,
            images=tuple(images),
            text=question,
            references=(check_letter(answer, options, task=self.name, where=where),),
            cluster=sample_id,
            options=options,
            meta={
                "category": category,
                "prompt": prompt or "\n".join([question, "Select from the following choices.", *lines]),
                "preamble": DISCLAIMER if category in WITH_DISCLAIMER else "",
            },
        )


TASK = Blink()
