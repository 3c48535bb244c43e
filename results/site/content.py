"""What a site shows: runs, columns and scores, as plain JSON values for its script.

Scores are in the columns of the leaderboard, so only comparable ones stand in one column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit import registry
from evalkit.errors import UserError
from evalkit.results.leaderboard.means import averages_of, mean_cell, mean_of
from evalkit.results.leaderboard.rows import ESTIMATED, Column, Entry, columns_of, heading, part_of, runs_of
from evalkit.results.leaderboard.table import best_of, natural, tied
from evalkit.results.report.page import anchor
from evalkit.results.stats.intervals import scale_of
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.tables import flat
from evalkit.task_groups import GROUPS, MEANS
from evalkit.task_listing import theme_of

MOST_VALUES = 400
"""Values of a score that are shown beside its headline; scores files can come from anybody."""
LONGEST = 200
"""Characters of a name."""


def name_of(text: object) -> str:
    """A name for the page: one line, without control characters, of a limited length."""
    found = flat(str(text))
    return found if len(found) <= LONGEST else f"{found[: LONGEST - 1]}…"


def site_content(
    entries: Sequence[Entry],
    manifests: Mapping[str, Manifest | None],
    reports: Mapping[str, str],
    *,
    means: bool = False,
    sort: str | None = None,
) -> dict[str, Any]:
    """The content of a site.

    Args:
        manifests: by run; None where there is no readable one.
        reports: the address of each run's report, relative to the site's page; without runs that have none.
        means: whether there is a column for the mean of each group.
        sort: the column by which the runs are sorted at first; None for the order in which they were found.
    """
    columns = columns_of(entries)
    averages = averages_of(columns) if means else {}
    runs = runs_of(entries)
    models = {e.run: e.model for e in entries}
    order = {run: place for place, run in enumerate(sorted(runs, key=lambda run: natural(models[run])))}
    records = [
        {
            "heading": name_of(heading(entries, run)),
            "model": name_of(models[run]),
            "run": name_of(run),
            "report": reports.get(run),
            "order": order[run],
            "facts": facts_of(manifests.get(run)),
            "scores": {
                **{str(place): cell_of(c, run) for place, c in enumerate(columns) if run in c.cells},
                **{
                    str(len(columns) + place): {"value": mean, "text": mean_cell(run, average)}
                    for place, average in enumerate(averages.values())
                    if (mean := mean_of(run, average)) is not None
                },
            },
        }
        for run in runs
    ]
    described = [column_record(c) for c in columns]
    described += [
        {"label": label, "task": label, "metric": "mean", "n": None, "groups": [a.group], "note": a.note, "mean": True}
        for label, a in averages.items()
    ]
    labels = [column["label"] for column in described]
    present = {group for column in described for group in column["groups"]}
    return {
        "runs": records,
        "columns": described,
        "groups": [group for group in (*GROUPS, *themes(columns)) if group in present],
        "sort": labels.index(sort) if sort in labels else None,
    }


def facts_of(manifest: Manifest | None) -> dict[str, str]:
    """What a reader should know of a run, as terms and values; nothing of the machine's folders."""
    if manifest is None:
        return {}
    backend = manifest.backend or {}
    served = manifest.server or {}
    found = {
        "started": (manifest.created or "").replace("T", " ")[:16],
        "backend": ", ".join(str(backend[key]) for key in ("backend", "device_name", "dtype") if backend.get(key)),
        "server": ", ".join(str(served[key]) for key in ("engine", "version") if served.get(key)),
        "family": str((manifest.family or {}).get("name") or ""),
        "shots": "" if manifest.shots is None else str(manifest.shots),
        "judge": str((manifest.judge or {}).get("model") or ""),
        "evalkit": manifest.evalkit or "",
        "state": "" if manifest.state in (None, "complete") else str(manifest.state),
    }
    return {term: name_of(value) for term, value in found.items() if value}


def themes(columns: Sequence[Column]) -> list[str]:
    """The themes of the columns' tasks, in order of appearance."""
    return list(dict.fromkeys(theme for c in columns if (theme := theme_named(c.first.row.task))))


def theme_named(task: str) -> str:
    """The title of the folder that a task is in; empty for a task that is not installed, or a custom one."""
    try:
        return theme_of(registry.tasks.get(task))
    except UserError:
        return ""


def groups_of(row: ScoreRow) -> list[str]:
    """The groups of ``evalkit.task_groups`` that a split belongs to, and its theme."""
    members = {row.task, row.name}
    found = [
        group for group, names in GROUPS.items() if members & set(names) or (row.task in MEANS and row.task == group)
    ]
    theme = theme_named(MEANS[row.task][0].partition("/")[0] if row.task in MEANS else row.task)
    return [*found, *([theme] if theme else [])]


def column_record(column: Column) -> dict[str, Any]:
    """A column: what its scores have in common."""
    row = column.first.row
    values = dict.fromkeys(name for e in column.cells.values() for name in list(e.row.values)[:MOST_VALUES])
    return {
        "label": name_of(column.label),
        "task": name_of(row.name),
        "metric": name_of(row.metric),
        "n": row.n,
        "clusters": row.clusters,
        "scale": scale_of(row.metric, row.signature),
        "groups": groups_of(row),
        "part": name_of(part_of(row)) if row.limited else "",
        "signature": flat(str(column.first.key[3]))[:1000],
        "values": [name_of(name) for name in values if name != row.metric],
    }


def cell_of(column: Column, run: str) -> dict[str, Any]:
    """A run's score in a column, with every value of the metric."""
    entry, best = column.cells[run], best_of(column)
    row = entry.row
    is_best = best is not None and row.value is not None and row.value == best.row.value
    others = [name for name in list(row.values)[:MOST_VALUES] if name != row.metric and row.values[name] is not None]
    found = {
        "value": None if row.value is None or not math.isfinite(row.value) else row.value,
        "text": entry.cell.removeprefix(ESTIMATED),
        "ends": ends_of(row, row.metric),
        "best": is_best,
        "tied": best is not None and not is_best and tied(row, best.row),
        "estimate": flat(entry.estimate_note)[:1000],
        "part": name_of(part_of(row)) if row.limited and not entry.estimated else "",
        "n": row.n,
        "unparsed": row.unparsed,
        "errors": row.errors,
        "truncated": row.truncated,
        "reasoning": row.reasoning_tokens,
        "prompting": ", ".join(
            f"{name_of(key)} {name_of(value)}" for key, value in row.parsed_signature.prompting.items()
        ),
        "signature": flat(row.signature)[:1000],
        "place": "" if row.task in MEANS else anchor(row.name),
        "failure": "" if row.failure is None else name_of(row.failure),
        "notes": [flat(str(note))[:1000] for note in row.notes][:20],
        "values": {name_of(name): [row.values[name], *(ends_of(row, name) or (None, None))] for name in others},
    }
    return {key: value for key, value in found.items() if value not in (None, "", False, [], {}) or key == "value"}


def ends_of(row: ScoreRow, name: str) -> tuple[float, float] | None:
    """The ends of a value's 95 % interval; None without one."""
    interval = row.interval_of(name)
    low, high, half = interval.get("low"), interval.get("high"), interval.get("ci95")
    value = row.value if name == row.metric else row.values[name]
    if low is not None and high is not None:
        return float(low), float(high)
    return None if not half or value is None else (value - float(half), value + float(half))
