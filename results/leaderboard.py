"""Leaderboards: runs side by side, one row per task split, with error bars.

Two numbers stand in one row only if they are comparable: same task, split, metric, signature and number of samples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError

from .files import to_json
from .store import read_scores

if TYPE_CHECKING:
    from rich.table import Table

CSV_FIELDS = (
    "run", "model", "task", "split", "metric", "value", "ci95", "stderr", "n", "clusters", "unparsed", "errors",
    "truncated", "limited", "submission", "signature",
)  # fmt: skip
FORMATS = ("table", "md", "csv", "json")


@dataclass(frozen=True)
class Entry:
    """One run's row."""

    run: str
    model: str
    row: dict[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(str(self.row[k]) for k in ("task", "split", "metric", "signature"))

    @property
    def cell(self) -> str:
        """``85.2 ± 2.3``, with an asterisk when samples are missing through errors; or that there is a submission."""
        if self.row.get("submission"):
            return "submission" + ("*" if self.row["errors"] else "")
        if self.row["value"] is None:
            return "–"
        text = f"{self.row['value']:.2f}"
        if self.row["ci95"] is not None:
            text += f" ± {self.row['ci95']:.2f}"
        return text + ("*" if self.row["errors"] else "")


def entries_of(run: str, model: str, rows: Sequence[dict[str, Any]]) -> list[Entry]:
    return [Entry(run, model, row) for row in rows]


def collect(folders: Sequence[Path]) -> list[Entry]:
    """Every run in ``folders``: each is a run's folder, or holds runs.  Raises ``UserError`` when there is none."""
    entries: list[Entry] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give a run, or the folder that holds the runs.")
        own = folder / "scores.json"
        files = [own] if own.is_file() else sorted(folder.glob("*/scores.json"))
        if not files:
            raise UserError(f"{folder} holds no finished run (no scores.json in it or one level below).")
        for file in files:
            content = read_scores(file)
            entries += entries_of(file.parent.name, str(content.get("model", "")), content["results"])
    return entries


def columns(entries: Sequence[Entry]) -> list[str]:
    """The runs in order; headed by the model's name where that tells them apart."""
    return list(dict.fromkeys(e.run for e in entries))


def heading(entries: Sequence[Entry], run: str) -> str:
    models = {e.run: e.model for e in entries}
    unique = len(set(models.values())) == len(models)
    return models[run] if unique else run


def grid(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the wide table; counts stand beside a single run, and only ``n`` beside several."""
    runs = columns(entries)
    single = len(runs) == 1
    keys = list(dict.fromkeys(e.key for e in entries))
    by_place = {(e.key, e.run): e for e in entries}
    header = ["task", "split", "metric", *(heading(entries, run) for run in runs), "n"]
    header += ["unparsed", "cut off", "errors"] if single else []
    rows = []
    for key in keys:
        found = [by_place.get((key, run)) for run in runs]
        first = next(e for e in found if e is not None)
        row = [*key[:3], *("" if e is None else e.cell for e in found), f"{first.row['n']:,}"]
        row += [f"{first.row[k]:,}" for k in ("unparsed", "truncated", "errors")] if single else []
        rows.append(row)
    return header, rows


def notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader must know to quote the table."""
    found = ["± is the half width of the 95 % interval, clustered by image."]
    if any(e.row["limited"] for e in entries):
        found.append("A subset (--limit) was run: compare only with the same subset.")
    if any(e.row["errors"] for e in entries):
        found.append("* samples that failed are missing from this score; see the run's .jsonl files.")
    if files := {f"{e.run}/{e.row['submission']}": None for e in entries if e.row.get("submission")}:
        found.append(f"submission: the answers are not public; the official server scores {', '.join(files)}.")
    found += [f"`{signature}`" for signature in dict.fromkeys(str(e.row["signature"]) for e in entries)]
    return found


def to_markdown(entries: Sequence[Entry]) -> str:
    header, rows = grid(entries)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    marks = ["---" if i < 3 else "---:" for i in range(len(header))]
    lines = ["| " + " | ".join(row) + " |" for row in (escaped[0], marks, *escaped[1:])]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(entries)), ""])


def to_csv(entries: Sequence[Entry]) -> str:
    """One line per run and task split, numbers unrounded."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for e in entries:
        writer.writerow({"run": e.run, "model": e.model, **e.row})
    return buffer.getvalue()


def to_json_text(entries: Sequence[Entry]) -> str:
    return to_json([{"run": e.run, "model": e.model, **e.row} for e in entries], indent=2) + "\n"


def to_table(entries: Sequence[Entry], title: str | None = None) -> Table:
    """The same as a rich table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    header, rows = grid(entries)
    table = Table(
        title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number < 3 else "right", no_wrap=number >= 3)
    for row in rows:
        table.add_row(*row)
    return table
