"""VQAv2: open-ended questions about COCO pictures, ten human answers each.

Paper: Goyal et al., "Making the V in VQA Matter", CVPR 2017 (arXiv 1612.00837).
Official scorer: GT-Vision-Lab/VQA, ``PythonEvaluationTools/vqaEvaluation/vqaEval.py``.

Protocol: the question is asked as it stands; the answer is short (10 new tokens); VQA accuracy is min(1, matches / 3),
averaged over leaving out each of the ten annotators.

Deliberate choices:
- The headline is the official script to the letter, which normalises answers only when the annotators disagree; for a
  unanimous question ``Yes.`` is not ``yes``.  EvalAI, where published numbers come from, always normalises: that score
  stands beside it as ``accuracy_normalised``.
- One image's questions are one cluster: they are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import Data, HubData, OfficialData, RowImage
from evalkit.errors import UserError
from evalkit.types import Decoding, Kind, Sample, Split

HUB_REPO = "lmms-lab/VQAv2"
HUB_SPLITS = {"val": "validation"}
HUB_COLUMNS = ("image", "question", "question_id", "answers")


class VQAv2:
    """VQA v2.0 val (and train, for exemplars), from the official JSON files or the hub."""

    name = "vqav2"
    version = 1
    kind: Kind = "vqa"
    splits: Mapping[str, Split] = {
        "val": Split(214_354, "validation, COCO val2014"),
        "train": Split(443_757, "training, COCO train2014: for exemplars"),
    }
    default_splits = ("val",)
    metric = "vqa_accuracy"
    decoding = Decoding(max_new_tokens=10)
    layout = (
        "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
        "vqav2/v2_mscoco_val2014_annotations.json",
        "coco/val2014/COCO_val2014_*.jpg",
    )
    hub = HUB_REPO

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of the questions file."""
        if isinstance(data, HubData):
            yield from self._from_hub(data, split)
        elif isinstance(data, OfficialData):
            yield from self._from_files(data, split)

    def _from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        subset = f"{split}2014"
        questions_file = f"v2_OpenEnded_mscoco_{subset}_questions.json"
        answers_file = f"v2_mscoco_{subset}_annotations.json"
        questions = data.json(f"vqav2/{questions_file}", questions_file, task=self.name)
        annotations = data.json(f"vqav2/{answers_file}", answers_file, task=self.name)
        images = data.coco_images(subset, self.name)
        try:
            by_id = {a["question_id"]: a for a in annotations["annotations"]}
            rows = [(q["question_id"], q["image_id"], q["question"]) for q in questions["questions"]]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"vqav2: the files of split {split} under {data.root} lack {error}; "
                f"expected the official {questions_file} and {answers_file}."
            ) from error
        for question_id, image_id, question in rows:
            if question_id not in by_id:
                raise UserError(f"vqav2: question {question_id} of {questions_file} has no entry in {answers_file}.")
            annotation = by_id[question_id]
            yield Sample(
                id=str(question_id),
                images=(images[image_id],),
                text=question,
                references=tuple(a["answer"] for a in annotation["answers"]),
                cluster=str(image_id),
                meta={"answer_type": annotation["answer_type"], "question_type": annotation["question_type"]},
            )

    def _from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split not in HUB_SPLITS:
            raise UserError(f"vqav2: split {split} is not read from the hub ({HUB_REPO}); give --data ROOT.")
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            yield Sample(
                id=str(row["question_id"]),
                images=(RowImage(f"{HUB_REPO}/{split}[{index}]", rows, index),),
                text=row["question"],
                references=tuple(_answers(row["answers"])),
                cluster=str(row.get("image_id", row["question_id"])),
                meta={k: row[k] for k in ("answer_type", "question_type") if k in row},
            )


def _answers(cell: Any) -> list[str]:
    # A list of structs, or a struct of lists, depending on how the parquet was written.
    return list(cell["answer"]) if isinstance(cell, Mapping) else [entry["answer"] for entry in cell]


TASK = VQAv2()
