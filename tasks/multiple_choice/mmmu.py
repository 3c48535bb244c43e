"""MMMU: questions from college exams in 30 subjects, with images among texts and options.

Paper: Yue et al., "MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark for Expert AGI",
CVPR 2024 (arXiv 2311.16502).  Official data: MMMU/MMMU on the hub; official scorer: MMMU-Benchmark/MMMU (commit
bb0b95a).  Score: share of right answers among the 900 questions of the validation split, 847 multiple-choice and 53
open ones (``metrics/mmmu_accuracy.py``), with every subject and discipline.

Protocol: ``<image 1>`` in the question or an option is where an image stands; one may stand in several places, and an
option may be an image.  The official prompt is the one of ``mmmu/configs/llava1.5.yaml``.

Rules, and the score of Qwen-VL's published answers by each:
- ``official``: the official scorer, with unparsed answers wrong: 34.33.  Upstream draws an option for them (seed 42),
  which makes 16 of 48 right: 36.11.
- ``lmms-eval-2024``: letters are read more loosely (``A`` at the end of a word); open questions as above.
- ``lmms-eval-2025-06``: since lmms-eval's commit 736454b5, every open question is wrong: 33.78, or 35.11 with the 12 of
  44 options drawn right.
- ``vlmevalkit-DATE``, ``qwen3-vl-evaluation``: open questions are scored as if there had been the options "A", the
  reference, and "B", "Other Answers".  VLMEvalKit asks a judge about what its rule leaves open.

Deliberate choices:
- Images stand where they are marked, as in VLMEvalKit.  Its prompt for Qwen2-VL and Qwen2.5-VL has them first, each
  once, and keeps the marks; so does Qwen3-VL's own evaluation.  lmms-eval gives the k-th *mark* the k-th image, which
  is another one where marks are repeated or not in order; this is not reproduced.
- The test split (10,500 questions) has no public answers and is left out, like the 150 of dev.

Not checked against the official download: whether VLMEvalKit's file names subjects as the ids do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.interfaces import Task
from evalkit.letters import VLMEVALKIT, mmmu, vlmevalkit
from evalkit.tasks._files import id_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._choice import check_letter
from ._marks import numbered
from ._mmmu import DOMAIN_OF, IMAGE_COLUMNS, NumberedImages, listed, subject_of

HUB_REPO = "lmms-lab/MMMU"
HUB_COLUMNS = ("id", "question", "options", "answer", "question_type", "image_1")
TSV = "MMMU_DEV_VAL"
EXPECTED = f"a question of {HUB_REPO} or of VLMEvalKit's {TSV}.tsv"
OPEN = "open"
CHOICE = "multiple-choice"

OFFICIAL = "mmmu-bb0b95a"
LMMS_EVAL = "lmms-eval-75571cf-mmmu"


class MMMU(Task):
    """MMMU val, from the hub or VLMEvalKit's TSV file."""

    name = "mmmu"
    version = 1
    kind = "choice"
    splits = {"val": Split(900, "validation: 847 multiple-choice and 53 open questions")}
    default_splits = ("val",)
    metric = "mmmu_accuracy"
    decoding = Decoding(max_new_tokens=1024)
    prompts = {
        "official": PromptTemplate(
            "{q}\n\n{bracketed_options}\n\nAnswer with the option's letter from the given choices directly.",
            others={"vqa": "{q}\n\nAnswer the question using a single word or phrase."},
        ),
        "lmms-eval": PromptTemplate(
            "{q}\n{options}\n\nAnswer with the option's letter from the given choices directly.",
            max_new_tokens=128,
            others={"vqa": "{q}\n\nAnswer the question using a single word or phrase."},
        ),
        "vlmevalkit": PromptTemplate(
            "{hints}Question: {q}\nOptions:\n{options}\nPlease select the correct answer from the options above. \n",
            max_new_tokens=2048,
            others={"vqa": "{hints}Question: {q}\n"},
        ),
    }
    rules = {
        "official": ScoringRule(
            OFFICIAL, about="MMMU's own parser; unparsed answers are wrong", read=mmmu.read, verbatim=True
        ),
        "lmms-eval-2024": ScoringRule(
            LMMS_EVAL, about="lmms-eval's parser until June 2025", read=mmmu.read_loosely, verbatim=True
        ),
        "lmms-eval-2025-06": ScoringRule(
            LMMS_EVAL,
            "mmmu_accuracy_lmms_eval",
            "lmms-eval's since its commit 736454b5: every open question is wrong",
            mmmu.read_loosely,
            verbatim=True,
        ),
        **{
            name: ScoringRule(
                name, f"mmmu_accuracy_{name}", "open questions as choices, A the reference", verbatim=True
            )
            for name in vlmevalkit.RULES
        },
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": "lmms-eval-2025-06", "vlmevalkit": VLMEVALKIT}
    layout = (f"mmmu/{TSV}.tsv",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file that are of the validation split."""
        table = data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=("question", "answer"))
        for row in table.rows:
            if row.get("split") not in (None, "validation", "val"):
                continue
            images: dict[int, ImageRef] = dict(enumerate(row.images, 1))
            with official_format(self.name, row.where, EXPECTED):
                yield self._sample(
                    {**row, "id": row.get("id") or row.index},
                    row.options,
                    images,
                    row.where,
                    required=data.images_required,
                )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "validation", task=self.name, columns=HUB_COLUMNS)
        images = NumberedImages(f"{HUB_REPO}/validation", rows)
        for index, row in data.iterate(rows, without=IMAGE_COLUMNS):
            name = f"{HUB_REPO}/validation[{index}]"
            with official_format(self.name, name, EXPECTED):
                options = listed(row["options"], "options")
                if row["question_type"] == CHOICE and not options:
                    raise ValueError("a multiple-choice question has no options")
                yield self._sample(row, options if row["question_type"] == CHOICE else (), images.of(index), name)

    def _sample(
        self,
        row: Mapping[str, Any],
        options: tuple[str, ...],
        images: Mapping[int, ImageRef],
        where: str,
        *,
        required: bool = True,
    ) -> Sample:
        """The sample of a row: an open question if there are no options."""
        question_id, answer = id_in(row, "id"), row["answer"]
        subject = subject_of(question_id, row.get("category"))
        marked = numbered(text_in(row, "question"), options, images, required=required)
        if options:
            references: tuple[str, ...] = (check_letter(answer, options, task=self.name, where=where),)
        else:
            several = isinstance(answer, list) or (isinstance(answer, str) and answer.startswith("["))
            references = listed(answer, "answer") if several else (text_in(row, "answer"),)
        return marked.sample(
            question_id,
            references,
            meta={
                "category": subject,
                "domain": DOMAIN_OF[subject],
                "question_type": CHOICE if options else OPEN,
            },
            kind=None if options else "vqa",
        )


TASK = MMMU()
