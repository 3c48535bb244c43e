"""CC-OCR: 7,058 images with text in 39 sets: scenes, ten languages, documents, key information.

Paper: Yang et al., "CC-OCR: A Comprehensive and Challenging OCR Benchmark for Evaluating Large Multimodal Models in
Literacy" (arXiv 2412.02210).  Official data: wulipc/CC-OCR on the hub, a TSV file per set; scorer:
``Benchmarks/CC-OCR/evaluation`` of AlibabaResearch/AdvancedLiterateMachinery (commit fb6187e).
Score: the mean of four tracks, which are unweighted means of their sets (``metrics/cc_ocr.py``); 4,096 new tokens.

Protocol: multi-scene reading 13 sets, 2,750 images; multilingual reading 10 × 150; document parsing ten sets, 800;
key information six sets, 2,008.  The prompt is the question, which names the format of the answer.

Rules: ``official`` has F1 of fields for key information, as the paper's table; ``vlmevalkit-e8e78f05`` has the accuracy
of trees, and earlier rules for documents and tables.  Reports do not say which they mean.

Deliberate choices:
- Ids are ``TRACK/SET/IMAGE``, since indices begin anew in each set's file.
- The final answer is scored as it is: with its code blocks, which the rules look for.

Not checked against the official download: that the column ``split`` names the set (VLMEvalKit relies on it); a number
of images behind the name, as in the files' names, is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.data import HubData, OfficialData, tsv_places
from evalkit.interfaces import Task
from evalkit.tasks._cells import Base64Image
from evalkit.tasks._files import id_in, official_format, text_in
from evalkit.tasks._tsv import has_tsv, image_cluster, row_images
from evalkit.types import Decoding, ImageRef, PromptTemplate, Sample, ScoringRule, Split
from evalkit.values import shown

HUB_REPO = "wulipc/CC-OCR"
COLUMNS = ("image_name", "question", "answer", "category", "split")
TSV = "CCOCR"
LANGUAGES = (
    "Arabic", "French", "German", "Italian", "Japanese", "Korean", "Portuguese", "Russian", "Spanish", "Vietnamese",
)  # fmt: skip
SETS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "multi_scene_ocr": {
        "TotalText": ("scene_text", 300), "IC15": ("scene_text", 500), "InverseText": ("scene_text", 500),
        "Hieragent": ("scene_text", 100), "zh_scene": ("scene_text", 450), "FUNSD": ("document_text", 50),
        "CORD": ("document_text", 100), "IAM": ("document_text", 50), "zh_doc": ("document_text", 100),
        "zh_handwriting": ("document_text", 50), "ugc_laion": ("ugc_text", 400), "zh_vertical": ("ugc_text", 100),
        "zh_dense": ("ugc_text", 50),
    },
    "multi_lan_ocr": {language: (language, 150) for language in LANGUAGES},
    "doc_parsing": {
        **{f"doc_{how}": ("doc", 75) for how in ("photo_chn", "photo_eng", "scan_chn", "scan_eng")},
        **{f"table_{how}": ("table", 75) for how in ("photo_chn", "photo_eng", "scan_chn", "scan_eng")},
        "molecular_handwriting": ("molecular", 100), "formula_handwriting": ("formula", 100),
    },
    "kie": {
        "sroie2019_word": ("constrained_category", 347), "CORD": ("constrained_category", 100),
        "EPHOIE_SCUT": ("constrained_category", 311), "POIE": ("constrained_category", 250),
        "COLD_SIBR": ("open_category", 400), "COLD_CELL": ("open_category", 600),
    },
}  # fmt: skip
"""The sets of each track, each with its folder, which says what is parsed, and its number of images."""
VLMEVALKIT = "vlmevalkit-e8e78f05"


class CcOcr(Task):
    """CC-OCR, from VLMEvalKit's TSV files, the official ones or the hub."""

    name = "cc_ocr"
    version = 1
    kind = "vqa"
    splits = {"test": Split(7_058, "39 sets in four tracks")}
    default_splits = ("test",)
    metric = "cc_ocr"
    decoding = Decoding(max_new_tokens=4096)
    prompts = dict.fromkeys(("official", "lmms-eval", "vlmevalkit"), PromptTemplate("{q}"))
    rules = {
        "official": ScoringRule(about="CC-OCR's, with F1 of fields for key information", verbatim=True),
        VLMEVALKIT: ScoringRule(
            metric="cc_ocr_vlmevalkit", about="VLMEvalKit's, with the accuracy of trees of fields", verbatim=True
        ),
    }
    default_rule = "official"
    protocol_rules = {"vlmevalkit": VLMEVALKIT}
    layout = (
        "cc_ocr/CCOCR.tsv (VLMEvalKit's), or",
        "cc_ocr/doc_parsing/doc/doc_photo_chn_75.tsv and so on, as on the hub, or",
        "cc_ocr/CCOCR_DocParsing_DocPhotoChn.tsv and so on (VLMEvalKit's)",
    )
    hub = HUB_REPO

    def from_files(self, data: OfficialData, split: str) -> Iterator[Sample]:
        """The rows of VLMEvalKit's file of all sets if there is one, else of the file of each set."""
        if has_tsv(data, self.name, TSV):
            yield from self._rows(data, tsv_places(self.name, TSV))
            return
        for track, sets in SETS.items():
            for name, (folder, count) in sets.items():
                inside = f"{track}/{folder}/{name}_{count}.tsv"
                own = tsv_places(self.name, f"{TSV}_{_capitalized(track)}_{_capitalized(name)}")
                yield from self._rows(data, (f"{self.name}/{inside}", f"CC-OCR/{inside}", *own), track, name)

    def _rows(
        self, data: OfficialData, places: tuple[str, ...], track: str | None = None, name: str | None = None
    ) -> Iterator[Sample]:
        """The rows of a file; of the set ``name`` of ``track``, or of those that the rows name."""
        for row in data.tsv(*places, task=self.name, columns=COLUMNS).rows:
            with official_format(self.name, row.where, "an image of CC-OCR"):
                images = row_images(row, data, self.name, TSV)
                yield self._sample(row, images, image_cluster(row), track, name)

    def from_hub(self, data: HubData, split: str) -> Iterator[Sample]:
        for track in SETS:
            rows = data.rows(HUB_REPO, "test", track, task=self.name, columns=(*COLUMNS, "image"))
            for index, row in data.iterate(rows):
                where = f"{HUB_REPO}/{track}/test[{index}]"
                with official_format(self.name, where, "an image of CC-OCR"):
                    yield self._sample(row, (Base64Image(where, rows, index),), str(index), track)

    def _sample(
        self,
        row: Mapping[str, Any],
        images: tuple[ImageRef, ...],
        image: str,
        track: str | None = None,
        name: str | None = None,
    ) -> Sample:
        track = track or text_in(row, "category")
        if track not in SETS:
            raise ValueError(f"category is {shown(track)}, not one of {', '.join(SETS)}")
        name = name or re.sub("_[0-9]+$", "", text_in(row, "split"))
        if name not in SETS[track]:
            raise ValueError(f"split is {shown(name)}, not one of {', '.join(SETS[track])}")
        return Sample(
            id=f"{track}/{name}/{id_in(row, 'image_name')}",
            images=images,
            text=text_in(row, "question"),
            references=(text_in(row, "answer"),),
            cluster=f"{track}/{name}/{image}",
            meta={"category": track, "set": name, "op": SETS[track][name][0]},
        )


def _capitalized(name: str) -> str:
    """A name as VLMEvalKit writes it in the names of its files: ``doc_photo`` as ``DocPhoto``."""
    return "".join(part.capitalize() for part in name.split("_"))


TASK = CcOcr()
