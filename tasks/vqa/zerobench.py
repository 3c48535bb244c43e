"""ZeroBench: 100 questions that no model could answer when they were written, and their subquestions.

Paper: Roberts et al., "ZeroBench: An Impossible Visual Benchmark for Contemporary Large Multimodal Models", 2025 (arXiv
2502.09696).  Official data: jonathan-roberts1/zerobench on the hub.  Score: share of right answers, one per question
(``metrics/zerobench_accuracy.py``).

Protocol: all images, then the question; the model reasons and gives its final answer in curly braces.  In the
official prompt, two blanks stand before "like this".

Rules: ``official``, which VLMEvalKit follows; ``lmms-eval-75571cf``, with a prompt of its own that asks for the final
answer alone.  The two are not comparable.

Not checked against the official download: the number of subquestions (334); the columns of VLMEvalKit's files beside
``index``, ``question`` and ``answers``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.letters import lmms_eval
from evalkit.tasks._files import id_in, official_format, text_in
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

HUB_REPO = "jonathan-roberts1/zerobench"
HUB_COLUMNS = ("question_id", "question_text", "question_images_decoded", "question_answer")
IMAGES = "question_images_decoded"
HUB_SPLITS = {"main": "zerobench", "subquestions": "zerobench_subquestions"}
TSV = {"main": "zerobench", "subquestions": "zerobench_sub"}
EXPECTED = f"a question of {HUB_REPO}, or of VLMEvalKit's zerobench.tsv"
OFFICIAL_PROMPT = (
    "{q} \n\n\nLet's think step by step and give the final answer in curly braces,  like this: {{final answer}}"
)


class ZeroBench(Task):
    """ZeroBench, from the hub or VLMEvalKit's TSV files."""

    name = "zerobench"
    version = 1
    kind = "vqa"
    splits = {
        "main": Split(100, "the questions"),
        "subquestions": Split(334, "easier questions on the way to their answers"),
    }
    default_splits = ("main",)
    metric = "zerobench_accuracy"
    decoding = Decoding(max_new_tokens=4096)
    prompts = {
        "official": PromptTemplate(OFFICIAL_PROMPT),
        "lmms-eval": PromptTemplate("{q}\nAnswer with only the final answer.", max_new_tokens=128),
        "vlmevalkit": PromptTemplate("", max_new_tokens=2048, others={"vqa": OFFICIAL_PROMPT}),
    }
    rules = {
        "official": ScoringRule(about="the reference is in the last curly braces", verbatim=True),
        lmms_eval.COMMIT: ScoringRule(
            metric="zerobench_accuracy_lmms_eval", about="lmms-eval's: the answer is the reference", verbatim=True
        ),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": lmms_eval.COMMIT}
    layout = ("zerobench/zerobench.tsv", "zerobench/zerobench_sub.tsv")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file."""
        table = data.tsv(*tsv_places(self.name, TSV[split]), task=self.name, columns=("question",))
        answer = "answers" if "answers" in table.columns else "answer"
        for row in table.rows:
            with official_format(self.name, row.where, EXPECTED):
                yield _sample(row.index, text_in(row, "question"), text_in(row, answer), row.images)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=HUB_COLUMNS)
        counts = [len(cell) if cell.is_valid else 0 for cell in rows.data.column(IMAGES)]
        for index, row in data.iterate(rows, without=(IMAGES,)):
            name = f"{HUB_REPO}/{HUB_SPLITS[split]}[{index}]"
            images = [RowImage(f"{name}.{IMAGES}[{k}]", rows, index, IMAGES, place=k) for k in range(counts[index])]
            with official_format(self.name, name, EXPECTED):
                sample_id, text = id_in(row, "question_id"), text_in(row, "question_text")
                yield _sample(sample_id, text, text_in(row, "question_answer"), images)


def _sample(sample_id: str, question: str, answer: str, images: Sequence[ImageRef]) -> Sample:
    """The sample of a row.  Raises ``ValueError`` if it has no answer, which would be in every text."""
    if not answer.strip():
        raise ValueError("the answer is empty")
    return Sample(
        id=sample_id, images=tuple(images), text=question.strip(), references=(answer,), cluster=sample_id.split("_")[0]
    )


TASK = ZeroBench()
