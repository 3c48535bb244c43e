"""OK-VQA: questions about COCO images that take knowledge from outside the image, ten answers each.

Paper: Marino et al., "OK-VQA: A Visual Question Answering Benchmark Requiring External Knowledge", CVPR 2019 (arXiv
1906.00067).  Scorer: the official one of VQA (GT-Vision-Lab/VQA), whose file format it took over.

Protocol: the question is asked as written; the answer is short (10 new tokens); VQA accuracy.  The validation split,
which papers also call test, is the one that is reported; COCO val2014 has the images.

Deliberate choices:
- The headline normalises every answer, as for VQAv2; the literal script is ``accuracy_official_script``.
- References are the entries' ``answer``, which VQA's script reads; ``raw_answer`` beside it is what was typed, before
  stemming.  The prediction is not stemmed, as in Qwen-VL's evaluation; OpenFlamingo's stems it.
- VQA v1's files have the very names of OK-VQA's, so they are looked for in a folder of this task only.
- The hub's copy has no image id.  A question's id is the image's followed by one digit, so the cluster comes from it.

Not checked, since the official files were not available: whether entries of a question share an ``answer_id``
(``metrics/vqa_accuracy.py`` takes each for an annotator of its own), and which of the two answers the hub's copy has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.data import HubData, OfficialData
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, official_format, some_texts_in, text_in
from evalkit.types import Answered, Decoding, PromptTemplate, Sample, Split

from ._vqa import answers_on_hub, vqa_results, vqa_samples

FOLDERS = ("okvqa", "ok-vqa", "OK-VQA")
SUBSETS = {"val": "val2014", "train": "train2014"}

HUB_REPO = "lmms-lab/OK-VQA"
HUB_SPLITS = {"val": "val2014"}
HUB_COLUMNS = ("image", "question", "question_id", "answers")


class OKVQA(Task):
    """OK-VQA val (and train, for few-shot examples), from the official JSON files or the hub."""

    name = "okvqa"
    version = 1
    kind = "vqa"
    splits = {
        "val": Split(5_046, "validation, COCO val2014"),
        "train": Split(9_009, "training, COCO train2014: for few-shot examples"),
    }
    default_splits = ("val",)
    metric = "vqa_accuracy"
    decoding = Decoding(max_new_tokens=10)
    prompts = {
        # 128 is the default of lmms-eval's Qwen2.5-VL backend: its task states no limit.
        "lmms-eval": PromptTemplate(
            "{q}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
            "Answer the question using a single word or phrase.",
            max_new_tokens=128,
        ),
    }
    layout = (
        "okvqa/OpenEnded_mscoco_val2014_questions.json",
        "okvqa/mscoco_val2014_annotations.json",
        "coco/val2014/COCO_val2014_*.jpg",
    )
    hub = HUB_REPO

    def results(self, answers: Sequence[Answered]) -> str:
        """The answers as ``vqaEval.py`` reads them."""
        return vqa_results(answers, task=self.name)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``, in the order of the questions file."""
        subset = SUBSETS[split]
        yield from vqa_samples(
            data,
            split,
            task=self.name,
            questions=[f"{folder}/OpenEnded_mscoco_{subset}_questions.json" for folder in FOLDERS],
            annotations=[f"{folder}/mscoco_{subset}_annotations.json" for folder in FOLDERS],
            images=subset,
        )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split not in HUB_SPLITS:
            raise UserError(f"okvqa: split {split} is not on the hub ({HUB_REPO}); give --data ROOT.")
        rows = data.rows(HUB_REPO, HUB_SPLITS[split], task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                question_id, question = id_in(row, "question_id"), text_in(row, "question")
                meta = some_texts_in(row, "answer_type", "question_type")
            yield Sample(
                id=question_id,
                images=(RowImage(name, rows, index),),
                text=question,
                references=answers_on_hub(row, name, task=self.name),
                cluster=question_id[:-1],
                meta=meta,
            )


TASK = OKVQA()
