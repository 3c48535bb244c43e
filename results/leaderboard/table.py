"""Leaderboards: one run's tasks with their counts, or several models side by side, with error bars.

``rows`` decides which scores share a column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.repeats import SPREAD
from evalkit.results.store.files import to_json
from evalkit.results.store.outdated import outdated
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.signature import unit_of
from evalkit.results.tables import Cell, Note, Table, latex, markdown, rows_as_csv
from evalkit.results.terminal import OnTerminal
from evalkit.task_groups import MEANS

from .means import Average, averages_of, mean_cell, mean_of
from .rows import (
    Column,
    columns_of,
    error_of,
    heading,
    labels,
    part_of,
    reasoning_text,
    runs_of,
    truncated_text,
    with_interval,
)
from .rows import Entry as Entry
from .rows import entries_of as entries_of

CSV_FIELDS = (
    "run", "model", "task", "split", "metric", "value", "ci95", "low", "high", "interval", "stderr", "n", "clusters",
    "unparsed", "errors", "truncated", "reasoning_tokens", "limited", "submission", "signature", "annotations",
    "samples",
)  # fmt: skip
ESTIMATE_FIELDS = ("estimate_of", "subset")
"""Columns of a table with estimates: the size of the split that ``value`` estimates, and the subset's digest."""
FORMATS = ("table", "md", "csv", "json", "html", "latex", "png")

# --------------------------------------------------------------------------------------------------------- one run


def grid(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one run's table: its tasks with their counts."""
    header = ["task", "split", "metric", heading(entries, entries[0].run), "n", "unparsed", "truncated", "errors"]
    reasons = any(e.row.reasoning_tokens is not None for e in entries)
    rows = []
    for e in entries:
        counts = [e.samples, f"{e.row.unparsed:,}", truncated_text(e.row), f"{e.row.errors:,}"]
        counts += [reasoning_text(e.row)] if reasons else []
        rows.append([e.row.task, e.row.split, e.row.metric, e.cell, *counts])
    return [*header, *(["reasoning"] if reasons else [])], rows


# ----------------------------------------------------------------------------------------------------- several runs


def models_table(entries: Sequence[Entry], *, sort: str | None = None, means: bool = False) -> Table:
    """Models × tasks: the best of each column in bold, ≈ after scores within the error of it.

    Raises:
        UserError: ``sort`` is not a column.
    """
    columns = columns_of(entries)
    averages = averages_of(columns) if means else {}
    best = {c.label: best_of(c) for c in columns}
    rows = []
    for run in sorted_runs(entries, columns, averages, sort):
        cells = [Cell(heading(entries, run))]
        for c in columns:
            e, top = c.cells.get(run), best[c.label]
            first = e is not None and top is not None and e.row.value == top.row.value
            near = e is not None and top is not None and not first and tied(e.row, top.row)
            cells.append(Cell("" if e is None else e.cell + (" ≈" if near else ""), bold=first))
        rows.append([*cells, *(Cell(mean_cell(run, average)) for average in averages.values())])
    sentences = [*notes(entries, ranked=True), *(average.note for average in averages.values())]
    return Table(["model", *(c.label for c in columns), *averages], rows, 1, notes=sentences)


def in_order(entries: Sequence[Entry], sort: str | None, *, means: bool = False) -> list[Entry]:
    """The entries in the order of ``sorted_runs``, one run after the other."""
    columns = columns_of(entries)
    runs = sorted_runs(entries, columns, averages_of(columns) if means else {}, sort)
    return sorted(entries, key=lambda e: runs.index(e.run))


def sorted_runs(
    entries: Sequence[Entry], columns: Sequence[Column], averages: Mapping[str, Average], sort: str | None
) -> list[str]:
    """The runs as found; sorted by ``model`` or ``run`` (natural order); or by a column, best first.

    Raises:
        UserError: ``sort`` is not a column.
    """
    runs = runs_of(entries)
    if sort is None:
        return runs
    if sort in ("model", "run"):
        models = {e.run: e.model for e in entries}
        return sorted(runs, key=lambda run: natural(models[run] if sort == "model" else run))
    chosen = [c for c in columns if c.label == sort] or [c for c in columns if c.first.row.task == sort]
    average = next((average for name, average in averages.items() if sort in (name, average.group)), None)
    if not chosen and average is None:
        raise UserError(f"--sort {sort}: give model, run, or a column: {', '.join([*labels(columns), *averages])}.")

    def value(run: str) -> float:
        if chosen:
            e = chosen[0].cells.get(run)
            found = None if e is None else e.row.value
        else:
            assert average is not None
            found = mean_of(run, average)
        return -math.inf if found is None else float(found)

    return sorted(runs, key=lambda run: -value(run))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key for natural order: ckpt-900 before ckpt-1000."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def best_of(column: Column) -> Entry | None:
    """The highest score; None for fewer than two scores."""
    scored = [e for e in column.cells.values() if e.row.value is not None]
    return max(scored, key=lambda e: e.row.score) if len(scored) > 1 else None


def tied(row: ScoreRow, best: ScoreRow) -> bool:
    """Whether a score is within the 95 % error of the difference to the best, taken as independent."""
    if row.value is None:
        return False
    errors = error_of(row), error_of(best)
    if errors[0] is None or errors[1] is None:
        return bool(row.value == best.value)
    return bool(best.score - row.score <= 1.96 * math.hypot(errors[0], errors[1]))


# ------------------------------------------------------------------------------------------------------------- notes


def notes(entries: Sequence[Entry], *, ranked: bool | None = None) -> list[str]:
    """What a reader must know to quote the table, as sentences.

    Args:
        ranked: whether the best of each column is marked; default: with several runs.
    """
    rows = [e.row for e in entries]
    several = len(runs_of(entries)) > 1
    ranked = several if ranked is None else ranked
    unit = unit_of(row.parsed_signature for row in rows)
    found = []
    if estimates := [e for e in entries if e.estimated]:
        found.append(
            "≈ before a score: no measured score but the estimate of the complete split's, from a subset that was "
            "chosen from other runs, with its 95 % interval."
        )
        found += [f"{e.estimate_note} ({e.run})." for e in estimates]
    if any(row.ci95 for row in rows if row.estimate is None):
        found.append(f"± is the half width of the 95 % interval, clustered by {unit}.")
    if any(row.interval == "wilson" for row in rows if row.estimate is None):
        found.append(
            f"[low, high]: Wilson's 95 % interval, with at most one effective sample per {unit}; used where ± would "
            "extend beyond the scale."
        )
    if any(row.interval == "hall" for row in rows):
        found.append(
            "[low, high] of repeated samples: Hall's 95 % interval, clustered by image, which corrects for skewness."
        )
    plain = [row for row in rows if row.value is not None and not row.interval and not row.ci95]
    if any(row.aggregation != "corpus" for row in plain):
        units = " or ".join(f"{word}s" for word in unit.split(" or "))
        found.append(f"No interval: fewer than two {units}, or no variation between {units}.")
    for metric in dict.fromkeys(row.metric for row in plain if row.aggregation == "corpus"):
        found.append(f"No interval for {metric}: it is computed from all samples together, not from per-sample scores.")
    if any(row.metric.startswith("cider") for row in rows):
        found.append("CIDEr's interval is for a fixed idf, which comes from the references.")
    if several and ranked:
        found.append(
            "Bold: the best of a column. ≈: within the 95 % error of the best, taken as independent; "
            "'evalkit compare' tests it sample by sample."
        )
    if parts := list(dict.fromkeys(part_of(row) for row in rows if row.limited and row.estimate is None)):
        found.append(f"A subset ({'; '.join(parts)}) was run: compare only with the same subset.")
    if any(row.reasoning_tokens is not None for row in rows):
        found.append("reasoning: the mean number of tokens before the final answer, of all samples.")
    if any(row.errors for row in rows):
        found.append("* samples that failed are missing from this score; see the run's .jsonl files.")
    found += [f"{e.place} ({e.run}): {repeats_note(e.row)}" for e in entries if e.row.repeats]
    found += [f"{e.place} ({e.run}): {note}" for e in entries for note in e.row.notes]
    found += [f"{e.place} ({e.run}) has no score: {e.row.failure}" for e in entries if e.row.failure]
    found += outdated_notes(entries)
    if files := {f"{e.run}/{e.row.submission}": None for e in entries if e.row.submission}:
        found.append(f"submission: the answers are not public; the official server scores {', '.join(files)}.")
    if several or ranked:
        return found + [column_note(c, entries) for c in columns_of(entries)]
    return found + [Note("", signature) for signature in dict.fromkeys(row.signature for row in rows)]


def repeats_note(row: ScoreRow) -> str:
    """What a score over several answers to each sample is made of, with pass@k and the majority votes' score."""
    more = [
        f"{name} {with_interval(row, name)}"
        for name, value in row.values.items()
        if name.startswith(("pass@", "maj@")) and value is not None
    ]
    spread = row.values.get(SPREAD)
    deviation = "" if spread is None else f", whose scores have a standard deviation of {spread:.2f}"
    counts = f" (unparsed and truncated count the {row.answers:,} answers)" if row.unparsed or row.truncated else ""
    return f"mean of {len(row.repeats)} repeats{counts}{deviation}{''.join(f'; {text}' for text in more)}."


def outdated_notes(entries: Sequence[Entry]) -> list[str]:
    """A sentence for each scorer that has changed since runs were scored."""
    runs: dict[str, dict[str, None]] = {}
    for e in entries:
        if e.row.value is not None and (before := outdated(e.row.signature)) is not None:
            runs.setdefault(before, {})[f"{e.run}: {e.place}"] = None
    return [
        f"Scored by {before}: {', '.join(places)}; 'evalkit rescore' scores a run again."
        for before, places in runs.items()
    ]


def column_note(column: Column, entries: Sequence[Entry]) -> str:
    """A column's metric, number of samples, protocols and unparsed answers."""
    e = column.first
    unknown = "unweighted mean of splits" if e.row.task in MEANS else "answers scored from a file"
    prompting: dict[str, list[str]] = {}
    for run, cell in column.cells.items():
        how = cell.row.parsed_signature.prompting
        text = ", ".join(f"{key} {value}" for key, value in how.items()) or unknown
        prompting.setdefault(text, []).append(heading(entries, run))
    each = [f"{how} ({', '.join(who)})" for how, who in prompting.items()]
    how_asked = next(iter(prompting)) if len(prompting) == 1 else "; ".join(each)
    unread = [f"{heading(entries, run)} {c.row.unparsed:,}" for run, c in column.cells.items() if c.row.unparsed]
    subset = f", a subset ({part_of(e.row)})" if e.row.limited and not e.estimated else ""
    unparsed = f"; unparsed: {', '.join(unread)}" if unread else "; unparsed: none"
    more = [(heading(entries, run), cell.row) for run, cell in column.cells.items()]
    cut = [f"{who} {100 * row.truncated / row.answers:.1f} %" for who, row in more if row.truncated and row.n]
    reasons = [f"{who} {reasoning_text(row)}" for who, row in more if row.reasoning_tokens is not None]
    unparsed += f"; truncated: {', '.join(cut)}" if cut else ""
    unparsed += f"; reasoning tokens: {', '.join(reasons)}" if reasons else ""
    return Note(f"{column.label}: {e.row.metric}, n={e.samples}{subset}; {how_asked}{unparsed}; ", str(e.key[3]))


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
    return [{"run": e.run, "model": e.model, **e.row.to_dict()} for e in entries]


def to_csv(entries: Sequence[Entry], more: Sequence[Mapping[str, Any]] = (), *, formulas: bool = False) -> str:
    """One line per run and task split, then one per record of ``more``; ``formulas`` as for ``rows_as_csv``."""
    more_fields = [name for name in ("repeats", "chosen") if any(getattr(e.row, name) for e in entries)]
    rows = [{**one, "repeats": max(1, len(one.get("repeats") or ()))} for one in records(entries)]
    more_fields += ESTIMATE_FIELDS if any(e.estimated for e in entries) else ()
    for one in rows:
        estimate = one.get("estimate") or {}
        one |= {"estimate_of": estimate.get("size"), "subset": estimate.get("subset")}
    return rows_as_csv((*CSV_FIELDS, *more_fields), [*rows, *more], formulas=formulas)


def to_json_text(entries: Sequence[Entry], more: Sequence[Mapping[str, Any]] = ()) -> str:
    """The same as JSON, with every key of ``scores.json``."""
    return to_json([*records(entries), *more], indent=2) + "\n"


def to_table(entries: Sequence[Entry]) -> OnTerminal:
    """The leaderboard for the terminal."""
    return OnTerminal(table_of(entries))


TEXTS: Mapping[str, Callable[[list[Table]], str]] = {
    "md": markdown,
    "html": lambda tables: _page(tables, "Leaderboard"),
    "latex": latex,
}
"""Writers of tables by ``--format``; CSV and JSON contain records instead."""


def _page(tables: Sequence[Table], title: str) -> str:
    from evalkit.results.html import page  # jinja2 is needed for pages only

    return page(tables, title)
