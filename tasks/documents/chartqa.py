"""ChartQA: questions about charts from the web, answered by a number or a label.

Paper: Masry et al., "ChartQA: A Benchmark for Question Answering about Charts with Visual and Logical Reasoning",
Findings of ACL 2022 (arXiv 2203.10244).  Official data: vis-nlp/ChartQA.
Score: relaxed accuracy, 5 % off allowed for numbers (``metrics/relaxed_accuracy.py``).

Protocol: the question is asked as written; up to 100 new tokens.  The test set has two halves of 1,250 questions:
``human``, written by people, and ``augmented``, generated from the charts' summaries and far easier.  What tables print
is the unweighted mean of the two; each half is also a split of its own.

Deliberate choices:
- The files give questions no ids: a question's is its half and its place in that half's file, ``human-0``.
- ``test`` is the human half and then the augmented one, each in its file's order.
- One chart's questions are one cluster.  The hub's copy (``lmms-lab/ChartQA``) does not name the charts, so there every
  question is a cluster of its own, and error bars come out a little small.
- Labels are unchanged: units, commas and percent signs included.

Official files: ``ChartQA Dataset/test/test_human.json`` and ``test_augmented.json`` (a list of ``imgname``, ``query``,
``label``) with ``png/`` beside them, as the archive unpacks, or without the folder in between.  That the hub's rows are
in the files' order was not checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, shown
from evalkit.errors import UserError
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import name_in, official_format, text_in
from evalkit.types import Decoding, PromptTemplate, Sample, Split

HUB_REPO = "lmms-lab/ChartQA"
HUB_COLUMNS = ("image", "question", "answer", "type")
HUB_TYPES = {"human_test": "human", "augmented_test": "augmented"}
SUBSETS = {
    "test": ("human", "augmented"),
    "human": ("human",),
    "augmented": ("augmented",),
    "train": ("human", "augmented"),
}
FOLDERS = ("chartqa/ChartQA Dataset", "chartqa", "chartqa/ChartQA_Dataset")


class ChartQA(Task):
    """ChartQA test and its two halves (and train, for few-shot examples), from the official files or the hub."""

    name = "chartqa"
    version = 1
    kind = "document"
    splits = {
        "test": Split(2_500, "both halves; the headline is their mean"),
        "human": Split(1_250, "test questions written by people"),
        "augmented": Split(1_250, "test questions generated from summaries"),
        "train": Split(28_299, "training: for few-shot examples"),
    }
    default_splits = ("test",)
    metric = "relaxed_accuracy"
    decoding = Decoding(max_new_tokens=100)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer the question with a single word.", max_new_tokens=16),
        "vlmevalkit": PromptTemplate("{q}\nAnswer the question using a single word or phrase."),
    }
    layout = (
        "chartqa/ChartQA Dataset/test/test_human.json",
        "chartqa/ChartQA Dataset/test/test_augmented.json",
        "chartqa/ChartQA Dataset/test/png/*.png",
    )
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split``: the human half, then the augmented one, each in its file's order."""
        for subset in SUBSETS[split]:
            yield from self._half(data, "train" if split == "train" else "test", subset)

    def _half(self, data: OfficialData, part: str, subset: str) -> Iterator[Sample]:
        files = [f"{folder}/{part}/{part}_{subset}.json" for folder in FOLDERS]
        path = data.find(*files, task=self.name)
        rows = data.json(*files, task=self.name)
        if not isinstance(rows, list):
            raise UserError(f"chartqa: {path} is not a list of questions; expected the official {path.name}.")
        charts = data.image_folder(*(f"{folder}/{part}/png" for folder in FOLDERS), task=self.name)
        for place, row in enumerate(rows):
            where = f"question {place} of {path}"
            with official_format(self.name, where, f"the official {path.name}"):
                chart, question, label = name_in(row, "imgname"), text_in(row, "query"), row["label"]
            yield Sample(
                id=f"{subset}-{place}",
                images=(image_in(charts, chart, task=self.name),),
                text=question,
                references=_labels(label, where),
                cluster=chart,
                meta={"subset": subset},
            )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        if split == "train":
            raise UserError(f"chartqa: split train is not read from the hub ({HUB_REPO}); give --data ROOT.")
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        places: Counter[str] = Counter()
        samples: dict[str, list[Sample]] = {subset: [] for subset in SUBSETS[split]}
        for index, row in data.iterate(rows):
            if row["type"] not in HUB_TYPES:
                raise UserError(
                    f"chartqa: row {index} of {HUB_REPO} is of type {row['type']!r}; expected {' or '.join(HUB_TYPES)}."
                )
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                question = text_in(row, "question")
            subset = HUB_TYPES[row["type"]]
            place = places[subset]
            places[subset] += 1
            if subset not in samples:
                continue
            samples[subset].append(
                Sample(
                    id=f"{subset}-{place}",
                    images=(RowImage(name, rows, index),),
                    text=question,
                    references=_labels(row["answer"], name),
                    cluster=str(index),
                    meta={"subset": subset},
                )
            )
        for half in samples.values():
            yield from half


def _labels(cell: Any, where: str) -> tuple[str, ...]:
    # The official files hold one string; some copies wrap it in a list.
    labels = tuple(cell) if isinstance(cell, list) else (cell,)
    if not labels or not all(isinstance(label, str) for label in labels):
        raise UserError(
            f"chartqa: {where} has no label (it says {shown(cell)}), so it cannot be scored; download it again."
        )
    return labels


TASK = ChartQA()
