"""TextVQA: questions about the text in images, ten answers each.

Paper: Singh et al., "Towards VQA Models That Can Read", CVPR 2019 (arXiv 1904.08920).
Official scorer: M4C's evaluator in facebookresearch/mmf (see ``metrics/textvqa_accuracy.py``).

Protocol: the question is asked as written; the answer is short (10 new tokens); accuracy is min(1, matches / 3),
averaged over leaving out each of the ten annotators.  Annotations are those of version 0.5.1.

Deliberate choices:
- The prompt holds no OCR tokens, unlike M4C's and one of LLaVA's settings.
- val's images lie in ``train_images``: both come from Open Images' training set.
- Open Images lists some images as rotated; big_vision turns those, others do not, and neither does this.
- One image's questions are one cluster, since they are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.data import HubData, OfficialData, image_in
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, list_in, official_format, required, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._vqa import answers_of, answers_on_hub, vqa_results

IMAGES = (
    "textvqa/train_images",
    "textvqa/train_val_images/train_images",
    "textvqa/images/train_images",
    "textvqa/images",
)

HUB_REPO = "lmms-lab/textvqa"
HUB_SPLITS = {"val": "validation", "train": "train"}
HUB_COLUMNS = ("image", "image_id", "question", "question_id", "answers")


class TextVQA(Task):
    """TextVQA val (and train, for few-shot examples), from the official JSON files or the hub."""

    name = "textvqa"
    version = 1
    kind = "vqa"
    splits = {
        "val": Split(5_000, "validation"),
        "train": Split(34_602, "training: for few-shot examples"),
    }
    default_splits = ("val",)
    metric = "textvqa_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        # 128 is the default of lmms-eval's Qwen2.5-VL backend: its task states no limit.
        "lmms-eval": PromptTemplate(
            "{q}\nAnswer the question using a single word or phrase.", max_new_tokens=128, capitalize=True
        ),
        "vlmevalkit": PromptTemplate("{q}\nAnswer the question using a single word or phrase."),
    }
    layout = ("textvqa/TextVQA_0.5.1_val.json", "textvqa/train_images/*.jpg")
    hub = HUB_REPO

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as mmf and the TextVQA server read them."""
        return vqa_results(answers, task=self.name)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of its file."""
        file = f"TextVQA_0.5.1_{split}.json"
        content = data.json(f"textvqa/{file}", f"textvqa/annotations/{file}", file, task=self.name)
        folder = data.image_folder(*IMAGES, task=self.name)
        with official_format(self.name, f"{file} under {data.root}", f"the official {file}"):
            rows = [
                (
                    id_in(row, "question_id"),
                    id_in(row, "image_id"),
                    text_in(row, "question"),
                    answers_of(row["answers"]),
                )
                for row in list_in(content, "data")
            ]
        for question_id, image_id, question, answers in rows:
            yield Sample(
                id=question_id,
                images=(image_in(folder, f"{image_id}.jpg", task=self.name),),
                text=question,
                references=required(answers, "answers", f"question {question_id} in {file}", task=self.name),
                cluster=image_id,
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                question_id, image_id = id_in(row, "question_id"), id_in(row, "image_id")
                question = text_in(row, "question")
            yield Sample(
                id=question_id,
                images=(RowImage(name, rows, index),),
                text=question,
                references=answers_on_hub(row, name, task=self.name),
                cluster=image_id,
            )


TASK = TextVQA()
