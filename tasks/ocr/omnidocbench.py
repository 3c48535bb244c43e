"""OmniDocBench: pages of nine kinds of documents, to be written as Markdown with LaTeX formulas and HTML tables.

Paper: Ouyang et al., "OmniDocBench: Benchmarking Diverse PDF Document Parsing with Comprehensive Annotations", CVPR
2025 (arXiv 2412.07626).  Official data: opendatalab/OmniDocBench on the hub (a JSON file and a folder of images; not
rows, so that it has to be downloaded); scorer: opendatalab/OmniDocBench (v1.5 at commit 0f22218, v1.0 at 337cc26).
Score: edit distances of texts, formulas, tables and reading order, and TEDS of tables (``metrics/omnidocbench.py``);
16,384 new tokens.

- ``omnidocbench`` is v1.5: 1,355 pages, one score for all.
- ``omnidocbench_v1`` is v1.0: 981 pages, a score for English pages and one for Chinese ones, as in the reports of
  Qwen2.5-VL and Qwen3-VL; pages in both languages are only in the split ``test``, which has all.

Left out: **CDM**, the score of rendered formulas, which needs LaTeX, Node.js and ImageMagick, and with it the overall
score of v1.5: ``overall_without_cdm`` is the mean of its other two parts.  BLEU and METEOR of texts, LaTeXML for tables
in LaTeX (v1.0), and the evaluation of single modules (layout detection, recognition of given regions) are left out too.

Rules: ``official``; for v1.0 also ``vlmevalkit-e8e78f05``, whose copy of the scorer takes no LaTeX tables.  lmms-eval
(75571cf) has a parser and a matching of its own, and another overall score: not comparable, only its prompt is here.

Protocol: the prompt of the official scripts, for v1.0 that for Qwen2-VL, for v1.5 that for Qwen3-VL, whose formulas
are escaped as they should be.

Deliberate choices:
- 16,384 new tokens instead of the scripts' 32,000, which with an image do not fit into Qwen2-VL's context.
- The final answer is scored as it is, with its code fences, which the scorer handles.

Not checked against the official download: the numbers of pages by language, and with which version of data and scorer
the reports' scores were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from evalkit.data import HubData, OfficialData, image_in, tsv_places
from evalkit.interfaces import Task
from evalkit.jsonl import parse
from evalkit.tasks._cells import Base64Image
from evalkit.tasks._files import list_in, list_of, name_in, official_format, text_in, texts_in
from evalkit.tasks._tsv import has_tsv, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split

JSON = "OmniDocBench.json"
TSV = "OmniDocBench"
HUB_REPO = "ouyanglinke/OmniDocBench_tsv"
VLMEVALKIT = "vlmevalkit-e8e78f05"
LANGUAGES: Mapping[str, str] = {"en": "english", "zh": "simplified_chinese"}
"""The pages of a split by their language; other splits have all."""
ATTRIBUTES = ("language", "data_source", "layout")
BOX_FIELDS = ("category_type", "anno_id", "order", "text", "latex", "html", "attribute")
"""What is scored of an annotated box; its place and its lines are not."""
_PROMPTS: Mapping[str, str] = json.loads(
    files("evalkit.tasks.ocr").joinpath("omnidocbench_prompts.json").read_text(encoding="utf-8")
)


def _template(name: str) -> PromptTemplate:
    return PromptTemplate(_PROMPTS[name].replace("{", "{{").replace("}", "}}"))


class OmniDocBench(Task):
    """A version of OmniDocBench, from the official file.

    Args:
        folders: where its files are.
    """

    version = 1
    kind = "vqa"
    decoding = Decoding(max_new_tokens=16_384)
    prompts = {"official": PromptTemplate("{q}"), **{name: _template(name) for name in ("lmms-eval", "vlmevalkit")}}
    rules = {"official": ScoringRule(about="OmniDocBench's, without CDM", verbatim=True)}
    default_rule = "official"
    question = _PROMPTS["official"]

    def __init__(self, name: str, splits: Mapping[str, Split], default_splits: tuple[str, ...], *folders: str) -> None:
        self.name = self.metric = name
        self.splits = splits
        self.default_splits = default_splits
        self.layout = (f"{folders[0]}/{JSON}", f"{folders[0]}/images/*.jpg")
        self._folders = folders

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        content = data.json(*(f"{folder}/{JSON}" for folder in self._folders), task=self.name)
        images = data.image_folder(*(f"{folder}/images" for folder in self._folders), task=self.name)
        with official_format(self.name, JSON, "a list of pages"):
            pages = list_of(content, "it")
        for number, page in enumerate(pages):
            with official_format(self.name, f"page {number} of {JSON}", f"a page of {JSON}"):
                if self._is_of(page, split):
                    image = image_in(images, name_in(page["page_info"], "image_path"), task=self.name)
                    yield self._sample(page, (image,))

    def _is_of(self, page: Mapping[str, Any], split: str) -> bool:
        return split not in LANGUAGES or page["page_info"]["page_attribute"]["language"] == LANGUAGES[split]

    def _sample(self, page: Mapping[str, Any], images: tuple[ImageRef, ...]) -> Sample:
        info = page["page_info"]
        name = PurePosixPath(name_in(info, "image_path")).name
        attributes = info["page_attribute"]
        return Sample(
            id=name,
            images=images,
            text=self.question,
            references=(_annotations(page),),
            cluster=name,
            meta={
                **{key: text_in(attributes, key) for key in ATTRIBUTES},
                "special_issue": list(texts_in(attributes, "special_issue")),
            },
        )


class OmniDocBenchV1(OmniDocBench):
    """OmniDocBench v1.0, from the official file, VLMEvalKit's TSV file or the hub."""

    rules = {
        **OmniDocBench.rules,
        VLMEVALKIT: ScoringRule(
            metric="omnidocbench_v1_vlmevalkit", about="VLMEvalKit's, without tables in LaTeX", verbatim=True
        ),
    }
    protocol_rules = {"vlmevalkit": VLMEVALKIT}
    hub = HUB_REPO
    question = _PROMPTS["official_v1"]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.layout = (f"{self.name}/{TSV}.tsv (VLMEvalKit's), or", *self.layout)

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The pages of VLMEvalKit's TSV file if there is one, else of the official file."""
        if not has_tsv(data, self.name, TSV):
            yield from super().from_files(data, split)
            return
        for row in data.tsv(*tsv_places(self.name, TSV), task=self.name, columns=("answer",)).rows:
            with official_format(self.name, row.where, f"a page of {TSV}.tsv"):
                page = parse(text_in(row, "answer").encode())
                if self._is_of(page, split):
                    yield self._sample(page, row_images(row, data, self.name, TSV))

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        rows = data.rows(HUB_REPO, "train", task=self.name, columns=("image", "answer"))
        for index, row in data.iterate(rows):
            where = f"{HUB_REPO}/train[{index}]"
            with official_format(self.name, where, f"a page of {HUB_REPO}"):
                page = parse(text_in(row, "answer").encode())
                if self._is_of(page, split):
                    yield self._sample(page, (Base64Image(where, rows, index),))


def _annotations(page: Mapping[str, Any]) -> str:
    """What is scored of an annotated page, as JSON."""
    boxes = [{key: box[key] for key in BOX_FIELDS if key in box} for box in list_in(page, "layout_dets")]
    relations = [one for one in list_in(page["extra"], "relation") if one["relation_type"] == "truncated"]
    return json.dumps({"layout_dets": boxes, "extra": {"relation": relations}}, ensure_ascii=False)


TASKS = {
    task.name: task
    for task in (
        OmniDocBench("omnidocbench", {"test": Split(1_355, "v1.5")}, ("test",), "omnidocbench", "OmniDocBench"),
        OmniDocBenchV1(
            "omnidocbench_v1",
            {
                "en": Split(290, "English pages"),
                "zh": Split(612, "Chinese pages"),
                "test": Split(981, "all pages, 79 of them in both languages"),
            },
            ("en", "zh"),
            "omnidocbench_v1",
            "OmniDocBench_v1",
        ),
    )
}
