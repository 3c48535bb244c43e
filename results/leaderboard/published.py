"""Published scores next to measured ones: the bundled table, and which of its scores are comparable.

A published score belongs to a model, a benchmark and a *split*.  It is shown in a measured column only where that is
the complete official split; against another split of the benchmark (DocVQA, VQAv2 and VizWiz are published on test
sets, and ours is the public one) it is shown with its own split's name and without a verdict.  A few-shot score has a
row of its own, and is matched by runs with as many shots.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.errors import UserError
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.tables import Cell
from evalkit.task_groups import MEANS

from .rows import Entry, columns_of

FILE = Path(__file__).with_name("published.csv")
SHOTS = re.compile(r"(\d+)-")
SPLITS = {"karpathy-test": "test", "test-dev": "testdev"}
METRICS = {
    "CIDEr": "cider", "ANLS": "anls", "acc@iou0.5": "acc@0.5", "vqa_accuracy": "accuracy",
    "relaxed_accuracy": "accuracy", "accuracy": "accuracy", "average": "average", "mme_sum": "mme_sum",
    "score": "score", "mAP": "map", "total": "total", "overall_score": "overall_score", "mean_iou": "mean_iou",
    "accuracy_macro": "accuracy_macro",
}  # fmt: skip
CIRCULAR = ("mmbench_en", "mmbench_cn", "mmbench_en_v11", "mmbench_cn_v11", "ccbench", "crpe_relation")
HEADLINES = {"mtvqa": "macro", **dict.fromkeys(CIRCULAR, "circular")}
"""The headlines of benchmarks that the published metric's name does not tell."""
LITERAL_SCRIPT = ("official", "official_script")  # of vqa_accuracy, in its versions 1 and 2
BENCHMARKS = {
    ("refcoco_avg", "all-8-splits"): ("refcoco-all", "mean of 8"),
    ("mmstar", "test"): ("mmstar", "val"),
    ("mmmu_pro", "overall"): ("mmmu-pro-overall", "mean of 2"),
}


@dataclass(frozen=True)
class Published:
    """A published score.

    Attributes:
        task, split: evalkit's names.
        printed: the name of the split in the source.
        text: the score as printed there.
        shots: the number of few-shot examples.
    """

    model: str
    task: str
    split: str
    printed: str
    metric: str
    text: str
    shots: int
    source: str
    note: str

    @property
    def value(self) -> float:
        return float(self.text)

    @property
    def decimals(self) -> int:
        return len(self.text.partition(".")[2])

    @property
    def name(self) -> str:
        return f"{self.model}, {self.shots}-shot" if self.shots else self.model


@cache
def published(path: Path = FILE) -> tuple[Published, ...]:
    """The published scores of benchmarks with a metric that evalkit has."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] not in METRICS:
                continue
            task, split = BENCHMARKS.get(
                (row["benchmark"], row["split"]), (row["benchmark"], SPLITS.get(row["split"], row["split"]))
            )
            found.append(
                Published(
                    row["model"], task, split, row["split"],
                    HEADLINES.get(task, METRICS[row["metric"]]), row["value"],
                    int(shots[1]) if (shots := SHOTS.match(row["note"] or "")) else 0, row["source"], row["note"] or "",
                )
            )  # fmt: skip
    return tuple(found)


def same_model(ours: str, theirs: str) -> bool:
    """Whether ``Qwen/Qwen2.5-VL-7B-Instruct`` is the published ``Qwen2.5-VL-7B``: by the last part of the name, since
    what reports print is the instruction-tuned model.  The number of shots in our name does not matter here."""
    name = re.sub(r" \(\d+-shot\)$", "", ours).rstrip("/").rsplit("/", 1)[-1].lower().removesuffix("-instruct")
    return name == theirs.lower().removesuffix("-instruct")


def shots_of(row: ScoreRow) -> int:
    """The number of few-shot examples of a row; 0 if unknown, as for answers scored from a file."""
    found = SHOTS.match(row.parsed_signature.prompting.get("shots", ""))
    return int(found[1]) if found else 0


def is_complete(row: ScoreRow) -> bool:
    """Whether a row covers the complete official split, by its number of samples."""
    if row.limited or row.errors:
        return False
    try:
        if row.task in MEANS:
            parts = [name.split("/") for name in MEANS[row.task]]
            sizes = [registry.tasks.get(task).splits[split].size for task, split in parts]
        else:
            sizes = [registry.tasks.get(row.task).splits[row.split].size]
    except (UserError, KeyError):
        return False  # a custom task
    return None not in sizes and row.n == sum(size for size in sizes if size is not None)


def published_rows(entries: Sequence[Entry]) -> tuple[list[list[Cell | str]], list[str]]:
    """Published rows for the columns of a leaderboard, and their notes."""
    columns = columns_of(entries)
    complete = [is_complete(c.first.row) for c in columns]
    rows: list[list[Cell | str]] = []
    sources: dict[str, None] = {}
    for name, model, shots in dict.fromkeys((p.name, p.model, p.shots) for p in published()):
        cells = []
        for c, all_of_it in zip(columns, complete, strict=True):
            one = closest(c.first.row, model, shots) if all_of_it else None
            cells.append("" if one is None else shown(one, c.first.row.split))
            sources |= {} if one is None else {one.source: None}
        if any(cells):
            rows.append([f"{name} (published)", *cells])
    left_out = [c.label for c, all_of_it in zip(columns, complete, strict=True) if not all_of_it]
    notes = [f"(published): as printed by their authors, not run here; {'; '.join(sources)}."] if sources else []
    if left_out:
        notes.append(f"Published scores are of complete official splits; none is shown in {', '.join(left_out)}.")
    return rows, notes


def closest(row: ScoreRow, model: str, shots: int) -> Published | None:
    """The score that ``model`` published for a row's benchmark and metric with ``shots``: same split, else another.

    None for rows by the literal VQA script: the published scores are the EvalAI server's, which always normalises.
    """
    if row.parsed_signature.fields.get("norm") in LITERAL_SCRIPT:
        return None
    found = [p for p in published() if (p.model, p.shots, p.task, p.metric) == (model, shots, row.task, row.metric)]
    same = [p for p in found if p.split == row.split]
    # RefCOCO's other splits are other numbers: only the one test set of a benchmark may stand in.
    return same[0] if same else next((p for p in found if p.split.startswith("test") and len(found) == 1), None)


def shown(one: Published, split: str) -> str:
    """``86.1``, with the split's name if that differs from ours."""
    return one.text if one.split == split else f"{one.text} ({one.printed})"


def records_of_published(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The published scores of the benchmarks in ``entries``, as records for CSV and JSON: the run is ``published``."""
    places = {(e.row.task, e.row.metric) for e in entries}
    nothing: dict[str, Any] = dict.fromkeys(
        ("ci95", "low", "high", "interval", "stderr", "n", "clusters", "unparsed", "truncated", "submission")
    )
    found = []
    for p in published():
        if (p.task, p.metric) in places:
            row = {"task": p.task, "split": p.split, "metric": p.metric, "value": p.value, "errors": 0, **nothing}
            signature = "|".join(filter(None, ("published", p.source, p.note)))
            found.append({"run": "published", "model": p.name, **row, "limited": False, "signature": signature})
    return found
