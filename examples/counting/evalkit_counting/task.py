"""Counting: how many of something there are in an image.

Paper: none; this benchmark is an example.
Data: ``counting/test.json`` and ``counting/train.json``, lists of ``{"id", "image", "question", "count"}``, and the
images in ``counting/images/``.  Score: share of exact counts, with the mean absolute error (``metric.py``).

Protocol: the question is the prompt; the answer is short (10 new tokens).

Deliberate choices:
- One image's questions are one cluster: they are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.data import OfficialData, image_in
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.types import Decoding, Sample, Split


class Counting(Task):
    """The benchmark: what every task states, and one method that reads the official files."""

    name = "counting"
    version = 1
    kind = "vqa"
    splits = {
        "test": Split(None, "the questions that are scored"),
        "train": Split(None, "for few-shot examples (--shots)"),
    }
    default_splits = ("test",)
    metric = "count_error"
    decoding = Decoding(max_new_tokens=10)
    layout = ("counting/test.json", "counting/train.json", "counting/images/*")

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of ``split`` in the file's order."""
        path = data.find(f"counting/{split}.json", task=self.name)
        images = data.find("counting/images", task=self.name)
        for place, row in enumerate(data.json(f"counting/{split}.json", task=self.name)):
            try:
                sample_id, image, question, count = (row[key] for key in ("id", "image", "question", "count"))
            except (KeyError, TypeError) as error:
                raise UserError(f"counting: {path}, entry {place}: there is no {error}.") from error
            yield Sample(
                id=str(sample_id),
                images=(image_in(images, image, task=self.name),),
                text=question,
                references=(str(count),),
                cluster=image,
            )


TASK = Counting()
