"""VizWiz-VQA: questions that blind people asked about images they took, ten answers each.

Paper: Gurari et al., "VizWiz Grand Challenge: Answering Visual Questions from Blind People", CVPR 2018 (arXiv
1802.08218).  Official scorer: the VizWiz API (see ``metrics/vizwiz_accuracy.py``).

Protocol: the question is asked as written; the answer is short (10 new tokens); accuracy is min(1, matches / 3).
Questions that cannot be answered from their image are included; their reference is ``unanswerable``.  The answers of
test are not public: answers are written as a file for the EvalAI server.

Deliberate choices:
- The question does not mention ``unanswerable``; lmms-eval's prompt does.
- A sample's id is the name of its image: there is one question an image, and no other id.
- A submission contains the predictions unchanged.

Not checked, since the official files were not available: the size of train, and the content of the hub's column
``category``; it is kept as ``meta["category"]`` and, unlike the files' ``answer_type``, makes no breakdown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData, image_in
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import integer_in, list_of, name_in, official_format, required, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._vqa import answers_of, answers_on_hub, submitted

HUB_REPO = "lmms-lab/VizWiz-VQA"
HUB_SPLITS = {"val": "val", "test": "test"}
HUB_COLUMNS = ("image", "question", "question_id")


class VizWiz(Task):
    """VizWiz-VQA val and test (and train, for few-shot examples), from the official JSON files or the hub."""

    name = "vizwiz"
    version = 1
    kind = "vqa"
    splits = {
        "val": Split(4_319, "validation"),
        "test": Split(8_000, "test: for a submission", answers=False),
        "train": Split(20_523, "training: for few-shot examples"),
    }
    default_splits = ("val",)
    metric = "vizwiz_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        # 128 is the default of lmms-eval's Qwen2.5-VL backend: its task states no limit.
        "lmms-eval": PromptTemplate(
            "{q}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
            "Answer the question using a single word or phrase.",
            max_new_tokens=128,
            capitalize=True,
        ),
    }
    layout = (
        "vizwiz/Annotations/val.json",
        "vizwiz/val/VizWiz_val_*.jpg",
        "vizwiz/Annotations/test.json",
        "vizwiz/test/VizWiz_test_*.jpg",
    )
    hub = HUB_REPO

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) of what the EvalAI server takes for test; the name is ours."""
        return "vizwiz_results.json", self.results(answers)

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as the VizWiz API and the server read them, ``[{"image": …, "answer": …}, …]``."""
        entries = [{"image": a.sample.id, "answer": submitted(a, task=self.name)} for a in answers]
        return json.dumps(entries, ensure_ascii=False)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of its file."""
        places = (f"vizwiz/Annotations/{split}.json", f"vizwiz/annotations/{split}.json", f"vizwiz/{split}.json")
        content = data.json(*places, task=self.name)
        folder = data.image_folder(f"vizwiz/{split}", f"vizwiz/images/{split}", "vizwiz/images", task=self.name)
        scored = self.splits[split].answers
        where = f"{split}.json under {data.root}"
        with official_format(self.name, where, f"{split}.json of VizWiz-VQA's Annotations.zip"):
            rows = [
                (
                    name_in(row, "image"),
                    text_in(row, "question"),
                    answers_of(row["answers"]) if scored else (),
                    _types(row),
                )
                for row in list_of(content, "the file")
            ]
        for image, question, answers, meta in rows:
            yield Sample(
                id=image,
                images=(image_in(folder, image, task=self.name),),
                text=question,
                references=required(answers, "answers", f"{image} in {where}", task=self.name) if scored else (),
                cluster=image,
                meta=meta,
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split not in HUB_SPLITS:
            raise UserError(f"vizwiz: split {split} is not on the hub ({HUB_REPO}); give --data ROOT.")
        scored = self.splits[split].answers
        columns = (*HUB_COLUMNS, "answers") if scored else HUB_COLUMNS
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=columns)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                image = f"{name_in(row, 'question_id')}.jpg"  # the hub has the image's name without its ending
                question = text_in(row, "question")
            yield Sample(
                id=image,
                images=(RowImage(name, rows, index),),
                text=question,
                references=answers_on_hub(row, name, task=self.name) if scored else (),
                cluster=image,
                meta={"category": row["category"]} if row.get("category") is not None else {},
            )


def _types(row: Mapping[str, Any]) -> dict[str, Any]:
    read = {"answer_type": text_in, "answerable": integer_in}
    return {key: read_in(row, key) for key, read_in in read.items() if key in row}


TASK = VizWiz()
