"""A comparison of runs as tables and as records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from evalkit.results.leaderboard.rows import ESTIMATED, reasoning_text, truncated_text
from evalkit.results.store.files import to_json
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.store.signature import unit_of
from evalkit.results.tables import Table, latex, markdown, p_text, rows_as_csv, short, signed

from .comparison import Comparison, Flip, TaskComparison

FIELDS = (
    "task", "metric", "base", "candidate", "base_score", "candidate_score", "difference", "ci95", "low", "high",
    "stderr", "p", "p_holm", "verdict", "mcnemar", "wins", "losses", "ties", "n", "clusters", "detectable", "needed",
    "exact", "forced",
)  # fmt: skip
FLIP_FIELDS = ("run", "task", "id", "base", "candidate", "base_answer", "candidate_answer", "image")


def letter(place: int) -> str:
    """The letter of a run: A, B, C …; Z1 for the 27th."""
    return chr(ord("A") + place) if place < 26 else f"Z{place - 25}"


def tables_of(found: Comparison, more: Sequence[str] = ()) -> list[Table]:
    """For each candidate: the differences, the power of the comparison, and the samples that changed most.

    Args:
        more: sentences to append to the notes.
    """
    tables = []
    for place in range(1, len(found.runs)):
        rows = [one for one in found.compared if one.candidate == place]
        if rows:
            tables += [_differences(found, place, rows), _power(place, rows), *_generation(found, place, rows)]
        if flips := [flip for one in rows for flip in one.flips]:
            tables.append(_flip_table(place, flips))
    if tables:
        tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *notes_of(found), *more))
    return tables


def described(run: ScoredRun) -> str:
    return f"{run.model} ({run.path})"


def marked(one: TaskComparison) -> str:
    """The task, with an exclamation mark if it is only shown because of ``--force``."""
    return ESTIMATED * one.estimated + one.task + ("!" if one.forced else "")


def p_of(one: TaskComparison) -> float | None:
    """The two-sided p-value; None if nothing was tested."""
    return one.found.chance.p if one.found.chance.tested else None


def _differences(found: Comparison, place: int, rows: Sequence[TaskComparison]) -> Table:
    name = letter(place)
    lines = []
    for one in rows:
        d = one.found
        change = signed(d.difference) + ("" if d.half is None else f" ± {d.half:.2f}")
        lines.append([
            marked(one), f"{d.base:.2f}", f"{d.candidate:.2f}", change,
            p_text(p_of(one)) or "–", p_text(one.holm), "not comparable" if one.forced else one.verdict,
        ])  # fmt: skip
    header = ["task", "A", name, f"{name} − A", "p", "Holm", "verdict"]
    title = f"{name} = {described(found.runs[place])} compared with A = {described(found.runs[0])}"
    return Table(header, lines, 1, title)


def _power(place: int, rows: Sequence[TaskComparison]) -> Table:
    lines = []
    for one in rows:
        d = one.found
        lines.append([
            marked(one), one.metric,
            *(f"{count:,}" if d.chance.tested else "–" for count in (d.wins, d.losses, d.ties)),
            p_text(d.mcnemar) or "–",
            f"{d.n:,}", "–" if d.detectable is None else f"{d.detectable:.2f}",
            "–" if d.needed is None else f"{d.needed:,}",
        ])  # fmt: skip
    header = ["task", "metric", "wins", "losses", "ties", "McNemar", "n", "detectable", "needed"]
    return Table(header, lines, 2, f"Wins, losses and statistical power of {letter(place)} − A")


def _generation(found: Comparison, place: int, rows: Sequence[TaskComparison]) -> list[Table]:
    """The reasoning tokens and truncated answers of both runs, if there are any."""
    lines = []
    for one in rows:
        sides = [found.runs[run].rows.get(one.task) for run in (0, place)]
        if any(row is not None and (row.truncated or row.reasoning_tokens is not None) for row in sides):
            cells = [["–", "–"] if row is None else [reasoning_text(row), truncated_text(row)] for row in sides]
            lines.append([marked(one), *(cell for pair in zip(*cells, strict=True) for cell in pair)])
    name = letter(place)
    header = ["task", "reasoning A", name, "truncated A", name]
    title = f"Mean reasoning tokens and truncated answers of A and {name}"
    return [Table(header, lines, 1, title)] if lines else []


def _flip_table(place: int, flips: Sequence[Flip]) -> Table:
    name = letter(place)
    header = ["task", "sample", "answer of A", f"answer of {name}", "image", "A", name]
    lines = [
        [f.task, f.id, short(f.base_answer), short(f.candidate_answer), f.image, f"{f.base:.1f}", f"{f.candidate:.1f}"]
        for f in flips
    ]
    return Table(header, lines, 5, f"The samples that changed most from A to {name}")


def notes_of(found: Comparison) -> list[str]:
    """Notes that a reader needs to interpret and quote the tables."""
    several = len(found.runs) > 2
    over = "all tasks and runs" if several else "all tasks"
    unit = unit_of(row.parsed_signature for run in found.runs for row in run.rows.values())
    notes = [
        f"±: the 95 % interval of the paired difference, clustered by {unit}.",
        f"p: two-sided paired permutation test that flips signs per {unit}.",
        f"Holm: p corrected over {over}; the verdict uses it at 5 %.",
        "McNemar (right/wrong scores only) treats the questions about an image as independent.",
        "detectable: the smallest true difference found with 80 % power in this many samples, after correction.",
        "needed: the number of samples for the same power, if the observed difference is the true one.",
    ]
    if any(one.estimated for one in found.compared):
        notes.append("≈: estimates of the complete splits' scores from one subset; their difference has a t test.")
    if any(one.metric.startswith("cider") for one in found.compared):
        notes.append("CIDEr: the idf comes from the references and is held fixed.")
    if any(one.mean for one in found.compared):
        notes.append("The mean of a group tests its splits again and is not part of the correction.")
    if corpus := list(dict.fromkeys(one.metric for one in found.compared if not one.found.chance.tested)):
        notes.append(
            f"not tested: {', '.join(corpus)} is computed from all samples together, not from per-sample scores."
        )
    for one in found.compared:
        row = found.runs[one.candidate].rows.get(one.task)
        if row is not None and row.chosen:
            notes.append(f"{one.task}: {letter(one.candidate)} is scored on a subset ({row.chosen}).")
        if one.forced:
            notes.append(f"! {one.task}, {letter(one.candidate)}: not comparable, shown because of --force: "
                         f"{'; '.join(one.forced)}.")  # fmt: skip
        if one.images:
            notes.append(
                f"! {one.task}, {letter(one.candidate)}: {one.images:,} of {one.found.n:,} samples were answered on "
                "other images than A's: other files, or other decoding."
            )
    notes += [f"{sentence}." for sentence in found.lacking]
    return notes


def refusals(found: Comparison) -> list[str]:
    """A sentence for each task that was not compared."""
    return [
        f"{one.task}: {found.runs[0].path} and {found.runs[one.candidate].path} are not comparable: "
        f"{'; '.join(one.reasons)}."
        for one in found.refused
    ]


# ------------------------------------------------------------------------------------------------------------ records


def records(found: Comparison) -> list[dict[str, Any]]:
    """A record per task and candidate, numbers unrounded."""
    return [
        {
            "task": one.task, "metric": one.metric, "base": str(found.runs[0].path),
            "candidate": str(found.runs[one.candidate].path), "base_score": one.found.base,
            "candidate_score": one.found.candidate, "difference": one.found.difference, "ci95": one.found.half,
            "low": one.found.low, "high": one.found.high, "stderr": one.found.stderr, "p": p_of(one),
            "p_holm": one.holm, "verdict": "not comparable" if one.forced else one.verdict,
            "mcnemar": one.found.mcnemar, "wins": one.found.wins, "losses": one.found.losses, "ties": one.found.ties,
            "n": one.found.n, "clusters": one.found.clusters, "detectable": one.found.detectable,
            "needed": one.found.needed, "exact": one.found.chance.exact, "forced": "; ".join(one.forced),
        }
        for one in found.compared
    ]  # fmt: skip


def to_text(found: Comparison, format: str) -> str:
    """The comparison as ``md``, ``csv``, ``json``, ``html`` or ``latex``."""
    if format == "csv":
        return rows_as_csv(FIELDS, records(found))
    if format == "json":
        return to_json(as_dict(found), indent=2) + "\n"
    writers: dict[str, Callable[[list[Table]], str]] = {
        "md": markdown,
        "latex": latex,
        "html": lambda t: _page(t, "Comparison"),
    }
    return writers[format](tables_of(found, refusals(found)))


def flips_csv(found: Comparison) -> str:
    """One line per sample whose score changed, with complete answers."""
    return rows_as_csv(FLIP_FIELDS, _flip_records(found))


def _flip_records(found: Comparison) -> list[dict[str, Any]]:
    return [
        {"run": str(found.runs[one.candidate].path), **asdict(flip)} for one in found.compared for flip in one.flips
    ]


def as_dict(found: Comparison) -> dict[str, Any]:
    return {
        "runs": [{"path": str(run.path), "model": run.model} for run in found.runs],
        "compared": records(found),
        "flips": _flip_records(found),
        "refused": [
            {"task": one.task, "candidate": str(found.runs[one.candidate].path), "reasons": list(one.reasons)}
            for one in found.refused
        ],
        "notes": notes_of(found),
    }


def _page(tables: Sequence[Table], title: str) -> str:
    from evalkit.results.html import page  # jinja2 is needed for pages only

    return page(tables, title)
