"""Leaderboards: one run's tasks with their counts, or several models side by side, with error bars.

Numbers stand in one column only if they are comparable: the same task, split, metric and variant, on the same questions
and the very same samples.  How the models were asked (protocol, shots) may differ, and is said below the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.groups import GROUPS

from .files import to_json
from .scored import how_asked, what_scored
from .store import read_scores
from .tables import Cell, Table, in_blocks, latex, markdown, page, rich_table, rows_as_csv

if TYPE_CHECKING:
    from rich.table import Table as RichTable

CSV_FIELDS = (
    "run", "model", "task", "split", "metric", "value", "ci95", "low", "high", "interval", "stderr", "n", "clusters",
    "unparsed", "errors", "truncated", "limited", "submission", "signature", "annotations", "samples",
)  # fmt: skip
FORMATS = ("table", "md", "csv", "json", "html", "latex", "png")
AVERAGED = ("captioning", "vqa", "text-reading", "grounding")
"""The groups of ``evalkit.groups`` whose means ``--means`` adds: each is of one kind of number."""

Key = tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One run's row of ``scores.json``."""

    run: str
    model: str
    row: dict[str, Any]

    @cached_property
    def key(self) -> Key:
        """What two numbers must share to stand in one column."""
        row = self.row
        scored = what_scored(str(row["signature"]))
        which = row.get("samples") or f"n:{row['n']}"
        return (row["task"], row["split"], str(row["metric"]), scored, str(row.get("annotations") or ""), str(which))

    @property
    def place(self) -> str:
        return f"{self.row['task']}/{self.row['split']}"

    @property
    def cell(self) -> str:
        """``85.2 ± 2.3``, with an asterisk when samples are missing through errors; or that there is a submission."""
        star = "*" if self.row["errors"] else ""
        if self.row.get("submission"):
            return "submission" + star
        return "–" if self.row["value"] is None else with_error(self.row) + star


def with_error(row: Mapping[str, Any]) -> str:
    """A score with its interval: ``±`` where it is symmetric, else its ends; alone where nothing is known of it."""
    text = f"{row['value']:.2f}"
    if row.get("interval") == "wilson":
        return f"{text} [{row['low']:.1f}, {row['high']:.1f}]"
    half = row.get("ci95")
    return f"{text} ± {half:.2f}" if half else text  # a half width of 0 would claim certainty


def entries_of(run: str, model: str, rows: Sequence[dict[str, Any]]) -> list[Entry]:
    return [Entry(run, model, row) for row in rows]


def collect(folders: Sequence[Path]) -> list[Entry]:
    """Every run in ``folders``: each is a run's folder, or holds runs.

    Raises:
        UserError: there is none, or its scores are damaged.
    """
    entries: list[Entry] = []
    seen: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give a run, or the folder that holds the runs.")
        own = folder / "scores.json"
        files = [own] if own.is_file() else sorted(folder.glob("*/scores.json"))
        if not files:
            raise UserError(f"{folder} holds no finished run (no scores.json in it or one level below).")
        for file in files:
            if file.resolve() in seen:
                continue
            seen.add(file.resolve())
            content = read_scores(file)
            found = entries_of(file.resolve().parent.name, str(content.get("model", "")), content["results"])
            try:
                for entry in found:
                    _ = entry.key, entry.cell, entry.row["unparsed"], entry.row["truncated"], entry.row["limited"]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                where = file.parent
                raise UserError(f"{file} is damaged ({error!r}); 'evalkit rescore {where}' writes it anew.") from error
            entries += found
    return entries


def runs_of(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(e.run for e in entries))


def heading(entries: Sequence[Entry], run: str) -> str:
    """The model's name where that tells the runs apart, else the run's."""
    models = {e.run: e.model for e in entries}
    unique = len(set(models.values())) == len(models)
    return models[run] if unique else run


# --------------------------------------------------------------------------------------------------------- one run


def grid(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one run's table: its tasks with their counts."""
    header = ["task", "split", "metric", heading(entries, entries[0].run), "n", "unparsed", "cut off", "errors"]
    rows = []
    for e in entries:
        counts = [f"{e.row[k]:,}" for k in ("n", "unparsed", "truncated", "errors")]
        rows.append([e.row["task"], e.row["split"], str(e.row["metric"]), e.cell, *counts])
    return header, rows


# ----------------------------------------------------------------------------------------------------- several runs


@dataclass(frozen=True)
class Column:
    """What one column holds: a task's split, scored one way over one set of samples.  ``cells`` are by run."""

    label: str
    cells: Mapping[str, Entry]

    @property
    def first(self) -> Entry:
        return next(iter(self.cells.values()))


def columns_of(entries: Sequence[Entry]) -> list[Column]:
    """In the order of their first appearance; where two have one task and split, their labels tell them apart."""
    by_key: dict[Key, dict[str, Entry]] = {}
    for e in entries:
        by_key.setdefault(e.key, {})[e.run] = e
    found = [Column(next(iter(cells.values())).place, cells) for cells in by_key.values()]
    for marks in ([f"(n={c.first.row['n']:,})" for c in found], [f"#{place}" for place in range(1, len(found) + 1)]):
        labels = [c.label for c in found]
        found = [
            replace(c, label=f"{c.label} {mark}") if labels.count(c.label) > 1 else c
            for c, mark in zip(found, marks, strict=True)
        ]
    return found


def models_table(entries: Sequence[Entry], *, sort: str | None = None, means: bool = False) -> Table:
    """Models × tasks: the best of each column in bold, and ≈ behind what lies within the error of it.

    Raises:
        UserError: ``sort`` names no column.
    """
    columns = columns_of(entries)
    runs = sorted_runs(entries, columns, sort)
    best = {c.label: best_of(c) for c in columns}
    averages = averages_of(columns) if means else {}
    rows = []
    for run in runs:
        cells = [Cell(heading(entries, run))]
        for c in columns:
            e = c.cells.get(run)
            top = best[c.label]
            text = "" if e is None else e.cell + (" ≈" if top and e is not top and tied(e.row, top.row) else "")
            cells.append(Cell(text, bold=e is not None and e is top))
        rows.append([*cells, *(Cell(mean_cell(run, members)) for members in averages.values())])
    return Table(["model", *(c.label for c in columns), *averages], rows, 1, notes=notes(entries))


def sorted_runs(entries: Sequence[Entry], columns: Sequence[Column], sort: str | None) -> list[str]:
    """The runs as found; by ``model`` or ``run`` (names, their numbers as numbers); or by a column, the best first."""
    runs = runs_of(entries)
    if sort is None:
        return runs
    if sort in ("model", "run"):
        models = {e.run: e.model for e in entries}
        return sorted(runs, key=lambda run: natural(models[run] if sort == "model" else run))
    chosen = [c for c in columns if c.label == sort] or [c for c in columns if c.first.row["task"] == sort]
    if not chosen:
        raise UserError(f"--sort {sort}: give model, run, or a column: {', '.join(c.label for c in columns)}.")

    def value(run: str) -> float:
        e = chosen[0].cells.get(run)
        return -math.inf if e is None or e.row["value"] is None else float(e.row["value"])

    return sorted(runs, key=lambda run: -value(run))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which ckpt-900 comes before ckpt-1000."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def best_of(column: Column) -> Entry | None:
    """The highest score, if there are two to choose from."""
    scored = [e for e in column.cells.values() if e.row["value"] is not None]
    return max(scored, key=lambda e: float(e.row["value"])) if len(scored) > 1 else None


def error_of(row: Mapping[str, Any]) -> float | None:
    """A standard error; near the end of the scale, the one that would give an interval as wide as Wilson's."""
    if row.get("interval") == "wilson":
        return float(row["high"] - row["low"]) / 3.92
    return None if row.get("stderr") is None else float(row["stderr"])


def tied(row: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether a score lies within the 95 % error of the difference to the best, as if the two were independent."""
    if row["value"] is None:
        return False
    errors = error_of(row), error_of(best)
    if errors[0] is None or errors[1] is None:
        return bool(row["value"] == best["value"])
    return bool(best["value"] - row["value"] <= 1.96 * math.hypot(errors[0], errors[1]))


def averages_of(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """The columns of each group that has two or more here, by the heading of their mean."""
    found = {}
    for group in AVERAGED:
        members = [c for c in columns if {c.first.row["task"], c.first.place} & set(GROUPS[group])]
        splits = {c.first.place for c in members}
        if len(members) > 1 and len(splits) == len(members):
            found[f"{group} (mean of {len(members)})"] = members
    return found


def mean_cell(run: str, members: Sequence[Column]) -> str:
    """The unweighted mean of a run's scores, errors taken as independent; empty where one is missing."""
    rows = [c.cells[run].row for c in members if run in c.cells and c.cells[run].row["value"] is not None]
    if len(rows) < len(members):
        return ""
    errors = [error_of(row) for row in rows]
    text = f"{sum(row['value'] for row in rows) / len(rows):.2f}"
    if None in errors:
        return text
    return f"{text} ± {1.96 * math.hypot(*(e for e in errors if e is not None)) / len(rows):.2f}"


# ------------------------------------------------------------------------------------------------------------- notes


def notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader must know to quote the table."""
    rows = [e.row for e in entries]
    several = len(runs_of(entries)) > 1
    found = ["± is the half width of the 95 % interval, clustered by image."]
    if any(row.get("interval") == "wilson" for row in rows):
        found.append(
            "[low, high]: so near the end of the scale ± would claim too much; Wilson's 95 % interval, each image "
            "counted as one sample (all right: about the rule of three)."
        )
    if any(row.get("value") is not None and not row.get("interval") and not row.get("ci95") for row in rows):
        found.append("No interval: fewer than two images, or no spread to see.")
    if any(str(row["metric"]).startswith("cider") for row in rows):
        found.append("CIDEr's interval holds the idf fixed, which comes from the references.")
    if several:
        found.append(
            "Bold: the best of a column. ≈: within the 95 % error of the best, taken as independent; "
            "'evalkit compare' tests it sample by sample."
        )
    if any(row["limited"] for row in rows):
        found.append("A subset (--limit) was run: compare only with the same subset.")
    if any(row["errors"] for row in rows):
        found.append("* samples that failed are missing from this score; see the run's .jsonl files.")
    if files := {f"{e.run}/{e.row['submission']}": None for e in entries if e.row.get("submission")}:
        found.append(f"submission: the answers are not public; the official server scores {', '.join(files)}.")
    if several:
        return found + [column_note(c, entries) for c in columns_of(entries)]
    return found + [f"`{signature}`" for signature in dict.fromkeys(str(row["signature"]) for row in rows)]


def column_note(column: Column, entries: Sequence[Entry]) -> str:
    """A column's metric, size, how the models were asked, and what could not be read."""
    e = column.first
    asked: dict[str, list[str]] = {}
    for run, cell in column.cells.items():
        how = how_asked(str(cell.row["signature"]))
        said = ", ".join(f"{key} {value}" for key, value in how.items()) or "answers from elsewhere"
        asked.setdefault(said, []).append(heading(entries, run))
    each = [f"{how} ({', '.join(who)})" for how, who in asked.items()]
    told = next(iter(asked)) if len(asked) == 1 else "; ".join(each)
    unread = [f"{heading(entries, run)} {c.row['unparsed']:,}" for run, c in column.cells.items() if c.row["unparsed"]]
    subset = ", a subset (--limit)" if e.row["limited"] else ""
    read = f"; unparsed: {', '.join(unread)}" if unread else "; unparsed: none"
    return f"{column.label}: {e.row['metric']}, n={e.row['n']:,}{subset}; {told}{read}; `{e.key[3]}`"


# ----------------------------------------------------------------------------------------------------------- formats


def table_of(entries: Sequence[Entry], *, sort: str | None = None, means: bool = False) -> Table:
    """One run's tasks, or several models side by side."""
    if len(runs_of(entries)) > 1:
        return models_table(entries, sort=sort, means=means)
    header, rows = grid(entries)
    return Table(header, rows, 3, notes=notes(entries))


def to_markdown(entries: Sequence[Entry]) -> str:
    return markdown([table_of(entries)])


def records(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    return [{"run": e.run, "model": e.model, **e.row} for e in entries]


def to_csv(entries: Sequence[Entry]) -> str:
    """One line per run and task split, numbers unrounded."""
    return rows_as_csv(CSV_FIELDS, records(entries))


def to_json_text(entries: Sequence[Entry]) -> str:
    return to_json(records(entries), indent=2) + "\n"


def to_table(entries: Sequence[Entry], title: str | None = None) -> RichTable:
    """The same as a rich table for the terminal."""
    return rich_table(replace(table_of(entries), title=title or ""))


def blocks(table: Table, width: int) -> list[RichTable]:
    """A table for a terminal of ``width`` characters: wider ones in blocks under each other."""
    return [rich_table(block) for block in in_blocks(table, width)]


TEXTS: Mapping[str, Callable[[list[Table]], str]] = {
    "md": markdown,
    "html": lambda tables: page(tables, "Leaderboard"),
    "latex": latex,
}
"""What writes tables, by ``--format``; CSV and JSON hold records instead."""
