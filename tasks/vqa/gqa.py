"""GQA: compositional questions about images of Visual Genome, one answer each.

Paper: Hudson and Manning, "GQA: A New Dataset for Real-World Visual Reasoning and Compositional Question Answering",
CVPR 2019 (arXiv 1902.09506).  Official scorer: ``eval.py`` of gqadataset.org (see ``metrics/gqa_accuracy.py``).

Protocol: testdev, balanced; the question is asked as written; the answer is short (10 new tokens); it is right when
it is the annotated one.

Deliberate choices:
- Questions not marked ``isBalanced`` are left out: the official script does not count them.
- One image's questions (31.6 on average) are one cluster: they are not independent.
- The hub has questions and images apart (``testdev_balanced_instructions``, ``testdev_balanced_images``); they are
  joined by ``imageId``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData, image_in
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import boolean_in, id_in, id_of, official_format, required, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._vqa import submitted

FILE = "testdev_balanced_questions.json"
FILES = (f"gqa/{FILE}", f"gqa/questions1.2/{FILE}", f"gqa/questions/{FILE}", FILE)
IMAGES = ("gqa/images", "gqa/allImages/images")

HUB_REPO = "lmms-lab/GQA"
HUB_SPLIT = "testdev"
HUB_COLUMNS = ("id", "imageId", "question", "answer")
HUB_IMAGE_COLUMNS = ("id", "image")


class GQA(Task):
    """GQA testdev (balanced), from the official JSON file or the hub."""

    name = "gqa"
    version = 1
    kind = "vqa"
    splits = {"testdev_balanced": Split(12_578, "test-dev, balanced")}
    default_splits = ("testdev_balanced",)
    metric = "gqa_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer the question using a single word or phrase.", max_new_tokens=16),
        "vlmevalkit": PromptTemplate("{q}\nAnswer the question using a single word or phrase."),
    }
    layout = (FILES[0], "gqa/images/*.jpg")
    hub = HUB_REPO

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as ``eval.py`` reads them, cleaned as LLaVA's ``convert_gqa_for_eval.py`` does before it.

        The official script compares strings unchanged: on this file it gives the headline ``accuracy``.
        """
        entries = [
            {"questionId": a.sample.id, "prediction": submitted(a, task=self.name).rstrip(".").lower()} for a in answers
        ]
        return json.dumps(entries, ensure_ascii=False)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The balanced questions of ``split``, in the order of the file."""
        content = data.json(*FILES, task=self.name)
        folder = data.image_folder(*IMAGES, task=self.name)
        with official_format(self.name, f"{FILE} under {data.root}", f"the official {FILE}"):
            rows = [
                (
                    id_of(key, "a question's id"),
                    id_in(row, "imageId"),
                    text_in(row, "question"),
                    row["answer"],
                    _types(row),
                )
                for key, row in content.items()
                if boolean_in(row, "isBalanced")
            ]
        for question_id, image_id, question, answer, meta in rows:
            yield Sample(
                id=question_id,
                images=(image_in(folder, f"{image_id}.jpg", task=self.name),),
                text=question,
                references=required((answer,), "answers", f"question {question_id} in {FILE}", task=self.name),
                cluster=image_id,
                meta=meta,
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        questions, images_of = f"{split}_instructions", f"{split}_images"
        rows = data.rows(HUB_REPO, HUB_SPLIT, questions, task=self.name, columns=HUB_COLUMNS)
        images = data.rows(HUB_REPO, HUB_SPLIT, images_of, task=self.name, columns=HUB_IMAGE_COLUMNS)
        with official_format(self.name, f"{HUB_REPO}/{images_of}", "the images' ids"):
            where = {id_in(row, "id"): index for index, row in data.iterate(images)}
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{questions}[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                if "isBalanced" in row and not boolean_in(row, "isBalanced"):
                    continue
                question_id, image_id, question = id_in(row, "id"), id_in(row, "imageId"), text_in(row, "question")
                meta = _types(row)
            if image_id not in where:
                raise UserError(
                    f"gqa: question {question_id} of {HUB_REPO} asks about {image_id}, which is not in {images_of}; "
                    "the two configurations are of different versions, download both again."
                )
            yield Sample(
                id=question_id,
                images=(RowImage(f"{HUB_REPO}/{images_of}[{where[image_id]}]", images, where[image_id]),),
                text=question,
                references=required((row["answer"],), "answers", name, task=self.name),
                cluster=image_id,
                meta=meta,
            )


def _types(row: Mapping[str, Any]) -> dict[str, str]:
    """What a question asks for (``structural``: query, choose, …) and about (``semantic``: rel, attr, …)."""
    types = row.get("types") or {}
    return {f"{name}_type": text_in(types, name) for name in ("structural", "semantic") if types.get(name) is not None}


TASK = GQA()
