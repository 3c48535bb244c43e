"""Measured scores next to the published ones of the same model, with the known reasons for gaps."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evalkit.errors import UserError
from evalkit.results.stats.error_bars import half_width
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.tables import Cell, Table
from evalkit.task_groups import GROUPS, MEANS

from .published import Published, closest, is_complete, published, same_model, shots_of
from .rows import Entry, heading, runs_of, with_error

AUTO = "auto"
"""Instead of a model's name: each run is compared with the model that it is named after."""
EVERY = "*"
NOTHING = (
    "No published score for these models and benchmarks; models are matched by name, and --reproduce MODEL names one."
)
GAPS = Path(__file__).with_name("known_gaps.csv")


@dataclass(frozen=True)
class KnownGap:
    """Why measured scores are known to differ from published ones.

    Attributes:
        model: the beginning of the published model's name; empty for every model.
        task: evalkit's name of the benchmark; ``*`` for every one.
    """

    model: str
    task: str
    reason: str
    source: str

    def applies(self, one: Published) -> bool:
        return self.task in (one.task, EVERY) and one.model.startswith(self.model)


@cache
def known_gaps(path: Path = GAPS) -> tuple[KnownGap, ...]:
    """The known gaps, in the order of the bundled file."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            KnownGap(row["model"], row["benchmark"], row["reason"], row["source"]) for row in csv.DictReader(file)
        )


def reproduction(entries: Sequence[Entry], model: str = AUTO) -> Table:
    """Measured and published scores of a model; a verdict only for the same complete split.

    Args:
        model: a published model, whose scores are listed in the order of its tables, with those that were not
            measured; ``auto`` for the models that the runs are named after.

    Raises:
        UserError: no score of ``model`` is published.
    """
    if model == AUTO:
        pairs = [
            (e, one)
            for e in entries
            if e.row.value is not None
            for name in dict.fromkeys(p.model for p in published() if same_model(e.model, p.model))
            if (one := closest(e.row, name, shots_of(e.row))) is not None
        ]
        missing: list[Published] = []
    else:
        pairs, missing = _of_model(entries, _published_name(model))
    rows = [_row(entries, e, one) for e, one in pairs]
    several = len(runs_of([e for e, _ in pairs])) > 1 or model == AUTO
    header = ["task", "measured", "published", "difference", "SE", "verdict"]
    if several:
        header, rows = (
            ["model", *header],
            [[heading(entries, e.run), *row] for (e, _), row in zip(pairs, rows, strict=True)],
        )
    title = "Reproduction of published scores" if model == AUTO else f"Reproduction of {_published_name(model)}"
    if not rows and not missing:
        return Table(header, [], 2, title, [NOTHING])
    return Table(header, rows, 2 if several else 1, title, [*_notes(), *_gaps(pairs), *_not_measured(missing)])


def _published_name(model: str) -> str:
    """The name under which scores of ``model`` are published.

    Raises:
        UserError: there are none; the message has the nearest names.
    """
    names = list(dict.fromkeys(p.model for p in published()))
    found = [name for name in names if same_model(model, name)]
    if not found:
        by_lower = {name.lower(): name for name in names}
        near = [by_lower[name] for name in difflib.get_close_matches(model.lower(), by_lower, n=5, cutoff=0.5)]
        raise UserError(
            f"--reproduce {model}: no score of this model is bundled; "
            + (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}.")
        )
    return found[0]


def _of_model(entries: Sequence[Entry], model: str) -> tuple[list[tuple[Entry, Published]], list[Published]]:
    """The measured scores with their published ones, in the order of the published table, and those not measured."""
    scored = [e for e in entries if e.row.value is not None]
    partner = {id(e): closest(e.row, model, shots_of(e.row)) for e in scored}
    own = _in_report_order([p for p in published() if p.model == model], model)
    pairs = [(e, p) for p in own for e in scored if partner[id(e)] == p]
    return pairs, [p for p in own if all(p is not one for _, one in pairs)]


def _in_report_order(scores: list[Published], model: str) -> list[Published]:
    """Published scores in the order of the model's report, then the others as they are."""
    members = list(GROUPS.get(f"{model.lower().partition('-vl')[0]}-vl-report", ()))

    def place(p: Published) -> int:
        wanted = (f"{p.task}/{p.split}", p.task, *MEANS.get(p.task, ())[:1])
        names = [name for name in wanted if name in members]
        return members.index(names[0]) if names else len(members)

    return sorted(scores, key=place)


def _row(entries: Sequence[Entry], e: Entry, one: Published) -> list[Cell | str]:
    difference = e.row.score - one.value
    error = e.row.stderr
    return [
        e.place,
        with_error(e.row),
        f"{one.text} ({one.printed})",
        _signed(difference, 2),
        _signed(difference / error, 1) if error else "–",
        verdict(e.row, one),
    ]


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")


def _notes() -> list[str]:
    errors = "SE: the difference in standard errors of the measured score."
    interval = (
        "in the interval: the published score, at its printed precision, is in the 95 % interval of the measured one."
    )
    return [f"{errors} {interval}", "No verdict if the published split differs, or ours is incomplete."]


def _gaps(pairs: Sequence[tuple[Entry, Published]]) -> list[str]:
    """The known reasons for gaps of the benchmarks that were measured."""
    found = {gap: None for _, one in pairs for gap in known_gaps() if gap.applies(one)}
    return [f"{'all' if gap.task == EVERY else gap.task}: {gap.reason} ({gap.source})." for gap in found]


def _not_measured(missing: Sequence[Published]) -> list[str]:
    if not missing:
        return []
    return [f"Not measured: {', '.join(f'{p.task} {p.text} ({p.printed})' for p in missing)}."]


def verdict(row: ScoreRow, one: Published) -> str:
    """Whether the published score is in the interval of the measured one, or why there is no verdict."""
    if one.split != row.split:
        return "– (another split)"
    if not is_complete(row):
        return "– (a subset)"
    if row.is_uneven and row.ends is not None:
        low, high = row.ends
    elif row.stderr:
        half = half_width(row.stderr, row.clusters)
        assert half is not None
        low, high = row.score - half, row.score + half
    else:
        return "– (no interval)"
    rounding = 0.5 * 10.0**-one.decimals
    return "in the interval" if low - rounding <= one.value <= high + rounding else "outside"
