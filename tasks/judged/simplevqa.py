"""SimpleVQA: 2,025 short factual questions about images, in Chinese and English; a judge compares the answers.

Paper: Cheng et al., "SimpleVQA: Multimodal Factuality Evaluation for Multimodal Large Language Models" (arXiv
2502.13059).  Official data: m-a-p/SimpleVQA on the hub; scorer: VLMEvalKit's, by the authors
(``metrics/simplevqa.py``).  Score: the share of answers that a judge calls correct, with the shares of incorrect and
not attempted ones.

Protocol: the prompt is the question; no token limit is published: 1,024.

Deliberate choices:
- lmms-eval's comparison of texts is not offered: it is not comparable with published scores.

Not checked against the official download: the columns of the hub's data set, whose images are base64 texts, and of
VLMEvalKit's ``SimpleVQA.tsv``.
"""

from __future__ import annotations

import binascii
import io
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, official_format, text_in
from evalkit.tasks._tsv import image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, Split

HUB_REPO = "m-a-p/SimpleVQA"
HUB_COLUMNS = ("data_id", "image", "question", "answer", "language")
TSV = "SimpleVQA"


@dataclass(frozen=True)
class TextImage(RowImage):
    """An image in a row of a data set, as base64 text."""

    def source(self) -> io.BytesIO:
        cell = self.rows[self.index][self.column]
        if not isinstance(cell, str):  # a mirror may have images as such
            return super().source()
        try:
            return io.BytesIO(b64decode(cell, validate=True))
        except binascii.Error as error:
            raise ValueError(f"{self.name}: the image is not valid base64 ({error})") from None


class SimpleVqa(Task):
    """SimpleVQA, from VLMEvalKit's TSV file or the hub."""

    name = "simplevqa"
    version = 1
    kind = "vqa"
    splits = {"test": Split(2_025, "all questions")}
    default_splits = ("test",)
    metric = "simplevqa"
    decoding = Decoding(max_new_tokens=1024)
    prompts = dict.fromkeys(("official", "vlmevalkit"), PromptTemplate("{q}"))
    layout = ("simplevqa/SimpleVQA.tsv (VLMEvalKit's)",)
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        columns = ("question", "answer")
        for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
            images = row_images(row, data, self.name, TSV)
            with official_format(self.name, row.where, f"a question of {TSV}.tsv"):
                yield self._sample(row.index, row, images, image_cluster(row))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                key = id_in(row, "data_id")
                yield self._sample(key, row, (TextImage(name, rows, index),), key)

    def _sample(self, key: str, row: Mapping[str, Any], images: tuple[ImageRef, ...], cluster: str) -> Sample:
        return Sample(
            id=key,
            images=images,
            text=text_in(row, "question"),
            references=(text_in(row, "answer"),),
            cluster=cluster,
            meta={"language": row.get("language")},
        )


TASK = SimpleVqa()
