"""PixMo-Count: how many objects of a kind are in a photo from the web.

Paper: Deitke et al., "Molmo and PixMo: Open Weights and Open Data for State-of-the-Art Vision-Language Models", 2024
(arXiv 2409.17146).  Data: allenai/pixmo-count on the hub has the images' addresses only; kcz358/pixmo-count, which
lmms-eval reads, has the images.  Score: share of right numbers (``metrics/counting.py``).

Rules:
- ``evalkit-count-1`` (the default): the answer states one number, in digits or as a word.
- ``lmms-eval-first-75571cf``: the first integer of the answer.
- ``vlmevalkit-e8e78f0`` and ``lmms-eval-exact-75571cf`` are those of CountBenchQA.

Deliberate choices:
- Images are not downloaded from their addresses, many of which are gone: the hub's copy decides what is evaluated.
- ``<image>`` and blanks around the question are removed, as lmms-eval does.

Not checked against the official download: the number of questions and the copy's columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.data import HubData
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import official_format, text_in
from evalkit.types import Decoding, PromptTemplate, Sample, Split

from ._counts import RULES, number_of

HUB_REPO = "kcz358/pixmo-count"
HUB_COLUMNS = ("image", "question", "answer")


class PixmoCount(Task):
    """PixMo-Count with images, from the hub's copy."""

    name = "pixmo_count"
    version = 1
    kind = "vqa"
    splits = {
        "test": Split(None, "counts that were checked by people"),
        "validation": Split(None, "more of them"),
    }
    default_splits = ("test",)
    metric = "counting_accuracy"
    decoding = Decoding(max_new_tokens=32)
    prompts = {"lmms-eval": PromptTemplate("{q}\nAnswer with a single number.", max_new_tokens=32)}
    rules = RULES
    default_rule = "evalkit-count-1"
    protocol_rules = {"lmms-eval": "lmms-eval-first-75571cf"}
    hub = HUB_REPO

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, split, task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/{split}[{index}]"
            with official_format(self.name, name, "a question with its number"):
                number = number_of(row["answer"], "the answer")
                question = text_in(row, "question").replace("<image>", "").strip()
                image = RowImage(name, rows, index)
                yield Sample(str(index), (image,), question, (number,), str(index), meta={"number": number})


TASK = PixmoCount()
