"""VQAv2: open-ended questions about COCO images, ten human answers each.

Paper: Goyal et al., "Making the V in VQA Matter", CVPR 2017 (arXiv 1612.00837).
Official scorer: GT-Vision-Lab/VQA, ``PythonEvaluationTools/vqaEvaluation/vqaEval.py``.

Protocol: the question is asked as written; the answer is short (10 new tokens); VQA accuracy is min(1, matches / 3),
averaged over leaving out each of the ten annotators.  The answers of test-dev (a part of test, where most published
numbers come from) and of test are not public: answers are written as a file for the EvalAI server.

Deliberate choices:
- The headline normalises every answer, as EvalAI does, where published numbers come from.  The official script to the
  letter, which normalises only when the annotators disagree (for a unanimous question ``Yes.`` is not ``yes``), is
  reported next to it as ``accuracy_official_script``.
- A submission contains the predictions unchanged: the server normalises them itself.
- One image's questions are one cluster, since they are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.data import HubData, OfficialData
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, integer_in, official_format, some_texts_in, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._vqa import answers_on_hub, vqa_results, vqa_samples

SUBSETS = {"val": "val2014", "train": "train2014", "testdev": "test-dev2015", "test": "test2015"}
IMAGES = {"val": "val2014", "train": "train2014", "testdev": "test2015", "test": "test2015"}

HUB_REPO = "lmms-lab/VQAv2"
HUB_SPLITS = {"val": "validation", "testdev": "testdev", "test": "test"}
HUB_COLUMNS = ("image", "question", "question_id")


class VQAv2(Task):
    """VQA v2.0 val, test-dev and test (and train, for few-shot examples), from the official JSON files or the hub."""

    name = "vqav2"
    version = 1
    kind = "vqa"
    splits = {
        "val": Split(214_354, "validation, COCO val2014"),
        "testdev": Split(107_394, "test-dev, COCO test2015: for a submission", answers=False),
        "test": Split(447_793, "test, COCO test2015: for a submission", answers=False),
        "train": Split(443_757, "training, COCO train2014: for few-shot examples"),
    }
    default_splits = ("val",)
    metric = "vqa_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer the question using a single word or phrase.", max_new_tokens=16),
        "vlmevalkit": PromptTemplate("{q}\nAnswer the question using a single word or phrase."),
    }
    layout = (
        "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
        "vqav2/v2_mscoco_val2014_annotations.json",
        "coco/val2014/COCO_val2014_*.jpg",
        "vqav2/v2_OpenEnded_mscoco_test-dev2015_questions.json",
        "vqav2/v2_OpenEnded_mscoco_test2015_questions.json",
        "coco/test2015/COCO_test2015_*.jpg",
    )
    hub = HUB_REPO

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) of what the EvalAI server takes for test-dev and test; the name is ours."""
        return "vqav2_results.json", self.results(answers)

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as ``vqaEval.py`` and the server read them."""
        return vqa_results(answers, task=self.name)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of the questions file."""
        questions = f"v2_OpenEnded_mscoco_{SUBSETS[split]}_questions.json"
        annotations = f"v2_mscoco_{SUBSETS[split]}_annotations.json"
        yield from vqa_samples(
            data,
            split,
            task=self.name,
            questions=(f"vqav2/{questions}", questions),
            annotations=(f"vqav2/{annotations}", annotations) if self.splits[split].answers else (),
            images=IMAGES[split],
        )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split not in HUB_SPLITS:
            raise UserError(f"vqav2: split {split} is not read from the hub ({HUB_REPO}); give --data ROOT.")
        scored = self.splits[split].answers
        columns = (*HUB_COLUMNS, "answers") if scored else HUB_COLUMNS
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=columns)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                # A submission has integers for ids; other ids are refused before anything is generated.
                question_id = id_in(row, "question_id") if scored else str(integer_in(row, "question_id"))
                question, meta = text_in(row, "question"), some_texts_in(row, "answer_type", "question_type")
                cluster = question_id if row.get("image_id") is None else id_in(row, "image_id")
            yield Sample(
                id=question_id,
                images=(RowImage(name, rows, index),),
                text=question,
                references=answers_on_hub(row, name, task=self.name) if scored else (),
                cluster=cluster,
                meta=meta,
            )


TASK = VQAv2()
