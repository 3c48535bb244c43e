"""HR-Bench: questions about details of photos of 4K and 8K, with the options in four orders.

Paper: Wang et al., "Divide, Conquer and Combine: A Training-Free Framework for High-Resolution Image Perception in
Multimodal Large Language Models", AAAI 2025 (arXiv 2408.15556).  Official data: DreamMr/HR-Bench on the hub, as TSV
and parquet; official scorer: a copy of VLMEvalKit's (commit b17b199).
Score: accuracy per cycle, then the mean over the four cycles; as a cycle has all 200 questions (100 on a single
instance, 100 across instances), this is the share of right answers among the 800 rows.  It is *not* circular: a
question may be right in one cycle and wrong in another.

Rules: VLMEvalKit's readings.  lmms-eval's reading is VLMEvalKit's of 2024, with a judge for what it leaves open.

The rows of a question are one cluster.  Images are large: ``--max-pixels`` decides the score, and is in the run's
identity.  Qwen3-VL's report gives scores with an image-zoom tool, which are not comparable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from evalkit.tasks._cells import Base64Image
from evalkit.types import ImageRef, PromptTemplate, Sample, Split

from ._tables import VLMEVALKIT_PROMPT, ChoiceTable, Row


class HRBench(ChoiceTable):
    """HR-Bench in one resolution, from its TSV file or the hub.

    Args:
        resolution: ``4k`` or ``8k``.
    """

    splits = {"test": Split(800, "200 questions in 4 cycles")}
    default_splits = ("test",)
    hub = "DreamMr/HR-Bench"
    hub_columns = ("index", "question", "answer", "A", "B", "C", "D", "category", "cycle_category", "image")
    prompts = {
        "lmms-eval": PromptTemplate("{q}\n{options}\nAnswer the option letter directly."),
        "vlmevalkit": VLMEVALKIT_PROMPT,
    }
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": "vlmevalkit-2024"}

    def __init__(self, resolution: str) -> None:
        self.name = f"hrbench{resolution}"
        self.tsv = {"test": (f"hr_bench_{resolution}", f"HRBench{resolution.upper()}")}
        self.hub_splits = {"test": ("hrbench_version_split", f"hrbench_{resolution}")}
        self.layout = (f"{self.name}/hr_bench_{resolution}.tsv",)

    def hub_images(self, rows: Any, index: int, name: str) -> tuple[ImageRef, ...]:
        return (Base64Image(name, rows, index),)

    def samples(self, rows: Iterable[Row], split: str, source: str, *, images: bool = True) -> Iterator[Sample]:
        """As for every table, with the rows of a question, which differ in their options' order, as one cluster."""
        first: dict[str, str] = {}
        for sample in super().samples(rows, split, source, images=images):
            question = json.dumps([sample.text, sorted(map(str, sample.options))])
            yield replace(sample, cluster=first.setdefault(question, sample.id))

    def meta(self, row: Row) -> dict[str, Any]:
        cycle = str(row.fields.get("cycle_category") or "")
        category: Mapping[str, Any] = {"category": [part for part in (row.text("category"), cycle) if part]}
        return {**super().meta(row), **category}


TASKS = {task.name: task for task in (HRBench("4k"), HRBench("8k"))}
