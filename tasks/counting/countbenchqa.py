"""CountBenchQA: how many objects, from two to ten, are in an image from the web.

Papers: Paiss et al., "Teaching CLIP to Count to Ten", ICCV 2023 (arXiv 2302.12066), for CountBench's images and
captions; Beyer et al., "PaliGemma", 2024 (arXiv 2407.07726), for the questions.  Data: vikhyatk/CountBenchQA on the
hub, 491 questions (CountBench's 540 less those whose images are gone), and VLMEvalKit's ``CountBenchQA.tsv``.
Score: share of right numbers (``metrics/counting.py``).  There is no official scorer of generated texts.

Rules:
- ``evalkit-count-1`` (the default): the answer states one number, in digits or as a word.
- ``vlmevalkit-e8e78f0``: the right number is contained in the answer, so that "10" is right where "1" is.
- ``lmms-eval-exact-75571cf``: the answer is the number and nothing else.

Deliberate choices:
- The family's own prompt for questions.  lmms-eval's second task on these images (``countbench``) has another prompt,
  with the caption, and is left out.  The Qwen3-VL report asks with options, which are not published, and Qwen2.5-VL-72B
  "detected, then counted": their numbers are not comparable.

Not checked against the official download: the number of questions.
"""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import official_format, text_in
from evalkit.types import Decoding, PromptTemplate, Sample, Split

from ._counts import RULES, number_of

HUB_REPO = "vikhyatk/CountBenchQA"
HUB_COLUMNS = ("image", "question", "number")
TSV = "CountBenchQA"


class CountBenchQA(Task):
    """CountBenchQA, from VLMEvalKit's TSV file or the hub."""

    name = "countbenchqa"
    version = 1
    kind = "vqa"
    splits = {"test": Split(491, "all questions")}
    default_splits = ("test",)
    metric = "counting_accuracy"
    decoding = Decoding(max_new_tokens=32)
    prompts = {
        "lmms-eval": PromptTemplate("{q}\nAnswer with a single number.", max_new_tokens=32),
        "vlmevalkit": PromptTemplate(
            "{q} Note that: answer with a number directly e.g. 3. Do not include any additional text.",
            others={"vqa": "{q} Note that: answer with a number directly e.g. 3. Do not include any additional text."},
        ),
    }
    rules = RULES
    default_rule = "evalkit-count-1"
    protocol_rules = {"lmms-eval": "lmms-eval-exact-75571cf", "vlmevalkit": "vlmevalkit-e8e78f0"}
    layout = (f"countbenchqa/{TSV}.tsv",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=("question", "answer")).rows:
            with official_format(self.name, row.where, "a question with its number"):
                number = number_of(row["answer"], "the answer")
                yield Sample(
                    row.index, row.images, text_in(row, "question"), (number,), row.index, meta={"number": number}
                )

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, "a question with its number"):
                number = number_of(row["number"], "the number")
                image = RowImage(name, rows, index)
                question = text_in(row, "question")
                yield Sample(str(index), (image,), question, (number,), str(index), meta={"number": number})


TASK = CountBenchQA()
