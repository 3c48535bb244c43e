"""OCRBench v2: 10,000 questions on text in images, thirty tasks in English and Chinese.

Paper: Fu et al., "OCRBench v2: An Improved Benchmark for Evaluating Large Multimodal Models on Visual Text Localization
and Reasoning" (arXiv 2501.00321).  Official data and scorer: Yuliang-Liu/MultimodalOCR (commit 794c36d6),
``OCRBench_v2/``; on the hub ling99/OCRBench_v2.
Score: the unweighted mean of the groups of tasks, for each language (``metrics/ocrbench_v2.py``); 4,096 new tokens.

Protocol: English 7,400 questions, 21 tasks in eight groups; Chinese 2,600, nine tasks in five groups.  The prompt is
the question.  Boxes are given and asked for in thousandths of the image, as the questions say.

Rule: ``official``.  VLMEvalKit (commit e8e78f05) and lmms-eval (75571cf) have copies of its scripts.

Deliberate choices:
- The languages are two splits, since reports give two numbers.
- 4,096 new tokens: lmms-eval's 128 cut off pages, tables and documents.
- The final answer is scored as it is: without the reasoning before it, but with its code blocks and markers.

Not checked against the official download: that ids are unique, and whether a translation has no annotated text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.images import RowImage
from evalkit.interfaces import Task
from evalkit.tasks._files import id_in, is_coordinate, list_of, name_in, official_format, required, text_in, texts_in
from evalkit.tasks._tsv import has_tsv, image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split
from evalkit.values import shown

from ._literal import literal_in

HUB_REPO = "ling99/OCRBench_v2"
HUB_COLUMNS = ("id", "question", "type", "answers", "image", "eval", "bbox", "bbox_list", "content")
TSV = "OCRBench_v2"
FILES = tuple(f"{folder}OCRBench_v2.json" for folder in ("ocrbench_v2/", "ocrbench_v2/OCRBench_v2/", "OCRBench_v2/"))
IMAGES = ("ocrbench_v2", "ocrbench_v2/OCRBench_v2", "OCRBench_v2")
LANGUAGES = ("en", "cn")
SPOTTING, POSITION = "text spotting en", "VQA with position en"
GROUPS: Mapping[str, Sequence[str]] = {
    "text_recognition": ("text recognition en", "fine-grained text recognition en", "full-page OCR"),
    "text_detection": ("text grounding en", POSITION),
    "text_spotting": (SPOTTING,),
    "relationship_extraction": (
        "key information extraction", "key information mapping en", "handwritten answer extraction cn",
    ),
    "element_parsing": ("document parsing", "chart parsing en", "table parsing", "formula recognition"),
    "mathematical_calculation": ("math QA en", "text counting en"),
    "visual_text_understanding": ("document classification en", "cognition VQA", "diagram QA en"),
    "knowledge_reasoning": (
        "reasoning VQA", "science QA en", "APP agent en", "ASCII art classification en", "text translation cn",
    ),
}  # fmt: skip
"""The tasks of each group; one without a language is in both."""
GROUP_OF = {
    name: group
    for group, tasks in GROUPS.items()
    for task in tasks
    for name in ([task] if task.endswith((" en", " cn")) else [f"{task} en", f"{task} cn"])
}
RULES = ("multiple choice", "case sensitive", "exact match", "regression")
NONE = ("", "None", "without eval")
"""How files write that a question names no rule."""


class OcrBenchV2(Task):
    """OCRBench v2, from VLMEvalKit's TSV file, the official file or the hub."""

    name = "ocrbench_v2"
    version = 1
    kind = "vqa"
    splits = {
        "en": Split(7_400, "English: 21 tasks in eight groups"),
        "cn": Split(2_600, "Chinese: nine tasks in five groups"),
    }
    default_splits = LANGUAGES
    metric = "ocrbench_v2"
    decoding = Decoding(max_new_tokens=4096)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    rules = {"official": ScoringRule(about="OCRBench v2's: a rule per task; the mean of groups", verbatim=True)}
    default_rule = "official"
    layout = (
        "ocrbench_v2/OCRBench_v2.tsv (VLMEvalKit's)", f"{FILES[0]} (official)",
        "ocrbench_v2/EN_part, ocrbench_v2/CN_part (official images)",
    )  # fmt: skip
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The questions of VLMEvalKit's TSV file if there is one, else of the official file."""
        if has_tsv(data, self.name, TSV):
            yield from self._from_tsv(data, split)
            return
        content = data.json(*FILES, task=self.name)
        folder = data.image_folder(*IMAGES, task=self.name)
        with official_format(self.name, FILES[0], "a list of questions"):
            entries = list_of(content, "it")
        for number, entry in enumerate(entries):
            where = f"entry {number} of {FILES[0]}"
            with official_format(self.name, where, "a question of OCRBench_v2.json"):
                if self._is_of(text_in(entry, "type"), split):
                    name = name_in(entry, "image_path")
                    image = image_in(folder, name, task=self.name)
                    fields = {**entry, "answers": _listed(entry["answers"])}
                    yield self._sample(id_in(entry, "id"), fields, (image,), name, where)

    def _from_tsv(self, data: OfficialData, split: str) -> Iterator[Sample]:
        columns = ("question", "answer", "category", "eval", "bbox", "content")
        for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=columns).rows:
            with official_format(self.name, row.where, f"a question of {TSV}.tsv"):
                if not self._is_of(text_in(row, "category"), split):
                    continue
                images = row_images(row, data, self.name, TSV)
                places = {key: literal_in(row, key) for key in ("bbox", "content") if row[key] != f"without {key}"}
                fields = {
                    "question": row["question"], "type": row["category"], "eval": row["eval"],
                    "answers": _listed(literal_in(row, "answer")), **places,
                }  # fmt: skip
                yield self._sample(row.index, fields, images, image_cluster(row), row.where)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "test", task=self.name, columns=HUB_COLUMNS)
        for index, row in data.iterate(rows):
            where = f"{HUB_REPO}/test[{index}]"
            with official_format(self.name, where, f"a question of {HUB_REPO}"):
                if self._is_of(text_in(row, "type"), split):
                    places = {"bbox": row["bbox_list"]} if row["type"] == SPOTTING else {}
                    yield self._sample(
                        id_in(row, "id"), {**row, **places}, (RowImage(where, rows, index),), where, where
                    )

    def _is_of(self, task: str, split: str) -> bool:
        """Whether a task belongs to the split.  Raises ``ValueError`` for an unknown one."""
        if task not in GROUP_OF:
            raise ValueError(f"the task is {shown(task)}, not one of {', '.join(GROUP_OF)}")
        return task.endswith(f" {split}")

    def _sample(
        self, key: str, fields: Mapping[str, Any], images: tuple[ImageRef, ...], cluster: str, where: str
    ) -> Sample:
        task = text_in(fields, "type")
        answers = [_reference(answer) for answer in fields["answers"]]
        return Sample(
            id=key,
            images=images,
            text=text_in(fields, "question"),
            references=required(answers, "answers", where, task=self.name),
            cluster=cluster,
            meta={"category": task, "part": GROUP_OF[task], "eval": _rule(fields.get("eval")), **_places(task, fields)},
        )


def _listed(answers: Any) -> list[Any]:
    """The answers of a question, which the file gives as a list or as one."""
    return answers if isinstance(answers, list) else [answers]


def _reference(answer: Any) -> Any:
    """An answer as a text, as the hub has them: a dictionary as JSON, a number in digits."""
    if isinstance(answer, dict):
        return json.dumps(answer, ensure_ascii=False)
    return str(answer) if type(answer) in (int, float) else answer


def _rule(value: Any) -> str:
    """The rule that a question names; empty if none."""
    if value is None or value in NONE:
        return ""
    if value not in RULES:
        raise ValueError(f"eval is {shown(value)}, not one of {', '.join(RULES)}")
    return str(value)


def _places(task: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Where the answers are: a box, or the corners and the text of each place to be spotted."""
    if task == POSITION:
        return {"bbox": _numbers(fields["bbox"], 4)}
    if task != SPOTTING:
        return {}
    boxes = [_numbers(box, 8) for box in list_of(fields["bbox"], "bbox")]
    texts = texts_in(fields, "content")
    if len(boxes) != len(texts):
        raise ValueError(f"there are {len(boxes)} boxes and {len(texts)} texts")
    return {"bbox": boxes, "content": list(texts)}


def _numbers(box: Any, count: int) -> list[int]:
    """The coordinates of a box."""
    numbers = list_of(box, "a box")
    if len(numbers) not in (4, count):
        raise ValueError(f"a box has {len(numbers)} numbers, not {count}")
    if not all(is_coordinate(number) for number in numbers):
        raise ValueError(f"a box is {shown(numbers)}, not {count} numbers")
    return [int(number) for number in numbers]


TASK = OcrBenchV2()
