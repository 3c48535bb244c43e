"""OCRBench: 1,000 questions on text in images, from recognition to documents and handwritten formulas.

Paper: Liu et al., "OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models" (arXiv 2305.07895).  Official
data and scorer: Yuliang-Liu/MultimodalOCR (commit 794c36d6), ``OCRBench/OCRBench.json`` and ``example.py``.
Score: the number of questions whose answer is contained in the prediction (``metrics/ocrbench.py``); 128 new tokens.

Protocol: text recognition (regular, irregular, artistic, handwriting, digit strings, non-semantic: 50 each), scene
text-centric VQA (200), document-oriented VQA (200), key information extraction (200), handwritten mathematical
expressions (100).  The prompt is the question.

Rules: ``official``; ``lmms-eval-75571cf`` also takes full-width characters for those of ASCII.  VLMEvalKit's is the
official one.

Deliberate choices:
- The type of handwritten formulas decides their rule; the script goes by the data set's name, HME100k, the only one
  with them.
- The smallest number of pixels decides much here: Qwen2.5-VL-3B gets 673 with 1280 · 28 · 28 and 831 with
  10 · 10 · 28 · 28 (VLMEvalKit issue 702).

Not checked against the official download: the order of the hub's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import list_of, name_in, official_format, required, text_in
from evalkit.tasks._tsv import has_tsv, image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

from ._literal import literal_in

HUB_REPO = "echo840/OCRBench"
HUB_COLUMNS = ("dataset", "question", "question_type", "answer", "image")
TSV = "OCRBench"
FILES = ("ocrbench/OCRBench.json", "ocrbench/OCRBench/OCRBench.json", "OCRBench/OCRBench.json")
IMAGES = ("ocrbench/OCRBench_Images", "OCRBench/OCRBench_Images", "OCRBench_Images")
EXPECTED = "a question of OCRBench.json"
LMMS_EVAL = "lmms-eval-75571cf"
RECOGNITION = "Text Recognition"
TYPES = {
    **{
        f"{kind} Recognition": RECOGNITION
        for kind in (
            "Regular Text", "Irregular Text", "Artistic Text", "Handwriting", "Digit String", "Non-Semantic Text",
        )
    },
    **{
        part: part
        for part in (
            "Scene Text-centric VQA", "Doc-oriented VQA", "Key Information Extraction",
            "Handwritten Mathematical Expression Recognition",
        )
    },
}  # fmt: skip
"""The part of the score by question type."""


class OcrBench(Task):
    """OCRBench, from the official file, VLMEvalKit's TSV file or the hub."""

    name = "ocrbench"
    version = 1
    kind = "vqa"
    splits = {"test": Split(1_000, "five parts: 300, 200, 200, 200, 100")}
    default_splits = ("test",)
    metric = "ocrbench"
    decoding = Decoding(max_new_tokens=128)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    rules = {
        "official": ScoringRule(metric="ocrbench", about="OCRBench's: the answer is contained in the prediction"),
        LMMS_EVAL: ScoringRule(metric="ocrbench_lmms_eval", about="the same with full-width characters as ASCII"),
    }
    default_rule = "official"
    protocol_rules = {"lmms-eval": LMMS_EVAL}
    layout = ("ocrbench/OCRBench.tsv (VLMEvalKit's)", f"{FILES[0]} (official)", f"{IMAGES[0]}/*/*.jpg (official)")
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file if there is one, else of the official file."""
        if has_tsv(data, self.name, TSV):
            columns = ("question", "answer", "category")
            for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
                images = row_images(row, data, self.name, TSV)
                with official_format(self.name, row.where, "a question of OCRBench.tsv"):
                    answers = literal_in(row, "answer")
                    yield self._sample(row.index, row, "category", answers, images, image_cluster(row), row.where)
            return
        content = data.json(*FILES, task=self.name)
        folder = data.image_folder(*IMAGES, task=self.name)
        with official_format(self.name, FILES[0], "a list of questions"):
            entries = list_of(content, "it")
        for number, entry in enumerate(entries):
            where = f"entry {number} of {FILES[0]}"
            with official_format(self.name, where, EXPECTED):
                name = name_in(entry, "image_path")
                image = image_in(folder, name, task=self.name)
                yield self._sample(str(number), entry, "type", entry["answers"], (image,), name, where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            name = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, name, f"a question of {HUB_REPO}"):
                image = RowImage(name, rows, index)
                yield self._sample(str(index), row, "question_type", row["answer"], (image,), str(index), name)

    def _sample(
        self,
        key: str,
        row: Mapping[str, Any],
        type_column: str,
        answers: Any,
        images: tuple[ImageRef, ...],
        cluster: str,
        where: str,
    ) -> Sample:
        found = text_in(row, type_column)
        if found not in TYPES:
            raise ValueError(f"{type_column} is {found!r}, not one of {', '.join(TYPES)}")
        listed = [answers] if isinstance(answers, str) else answers
        return Sample(
            id=key,
            images=images,
            text=text_in(row, "question"),
            references=required(listed, "answers", where, task=self.name),
            cluster=cluster,
            meta={"category": found, "part": TYPES[found]},
        )


TASK = OcrBench()
