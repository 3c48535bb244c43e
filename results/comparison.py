"""Runs compared with a base run, task by task, over the same samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.groups import MEANS

from .files import to_json
from .paired import ALPHA, Difference, compare, holm
from .scored import Answer, Sampled, ScoredRun, reasons_against
from .statistics import Measured, seed_of
from .tables import Table, latex, markdown, page, rows_as_csv

EXAMPLES = 3
FIELDS = (
    "task", "metric", "base", "candidate", "base_score", "candidate_score", "difference", "ci95", "low", "high",
    "stderr", "p", "p_holm", "verdict", "mcnemar", "wins", "losses", "ties", "n", "clusters", "detectable", "needed",
    "exact", "forced",
)  # fmt: skip


@dataclass(frozen=True)
class Flip:
    """A sample whose score changed, with both answers."""

    task: str
    id: str
    base: float
    candidate: float
    base_answer: str
    candidate_answer: str
    image: str


@dataclass(frozen=True)
class Compared:
    """One task of one candidate against the base.

    ``forced`` says what speaks against the comparison; ``holm`` is None for a mean, which tests its members again.
    """

    task: str
    metric: str
    candidate: int
    found: Difference
    holm: float | None = None
    forced: tuple[str, ...] = ()
    flips: tuple[Flip, ...] = ()

    @property
    def verdict(self) -> str:
        """What the test says at 5 %, corrected over the tasks where it is one of them."""
        p = self.found.chance.p if self.holm is None else self.holm
        if p > ALPHA:
            return "not shown"
        return "better" if self.found.difference > 0 else "worse"


@dataclass(frozen=True)
class Refused:
    """A task of a candidate that may not be compared with the base, and why."""

    task: str
    candidate: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """``runs[0]`` is the base; ``candidate`` numbers count in ``runs``.  ``lacking``: what not every run has."""

    runs: tuple[ScoredRun, ...]
    compared: tuple[Compared, ...]
    refused: tuple[Refused, ...]
    lacking: tuple[str, ...]


def compare_runs(paths: Sequence[Path], *, force: bool = False, flips: int = 0) -> Comparison:
    """Every task of every further run against the first run's.

    Raises:
        UserError: fewer than two runs, no scores, damaged files, or no task that both have.
    """
    if len(paths) < 2:
        raise UserError("give two runs or more: 'evalkit compare runs/A runs/B' says how B differs from A.")
    runs = tuple(ScoredRun.open(path) for path in paths)
    load = cache(lambda place, task: runs[place].sampled(task))
    compared: list[Compared] = []
    refused: list[Refused] = []
    lacking: list[str] = []
    for place, run in enumerate(runs[1:], start=1):
        both = [task for task in runs[0].splits if task in run.splits]
        lacking += [f"{task} is only in {runs[0].path}" for task in runs[0].splits if task not in both]
        lacking += [f"{task} is only in {run.path}" for task in run.splits if task not in both]
        if not both:
            raise UserError(
                f"{runs[0].path} and {run.path} have no scored task in common: "
                f"{', '.join(runs[0].splits) or 'none'} and {', '.join(run.splits) or 'none'}."
            )
        for task in both:
            one = _one(runs, place, task, load, force, flips)
            (compared if isinstance(one, Compared) else refused).append(one)  # type: ignore[arg-type]
        compared += _means(runs, place, [c for c in compared if c.candidate == place and not c.forced], load)
    return Comparison(runs, _corrected(compared), tuple(refused), tuple(dict.fromkeys(lacking)))


Load = Callable[[int, str], Sampled]


def _one(runs: Sequence[ScoredRun], place: int, task: str, load: Load, force: bool, flips: int) -> Compared | Refused:
    base, candidate = runs[0], runs[place]
    reasons = reasons_against(base, candidate, task)
    if reasons and not force:
        return Refused(task, place, tuple(reasons))
    old, new = load(0, task), load(place, task)
    reasons += unshared(old, new)
    if reasons and not force:
        return Refused(task, place, tuple(reasons))
    ids = [sample for sample in old.ids if sample in new.place]
    if not ids:
        return Refused(task, place, (*reasons, "no sample is in both"))
    first = old.measured(ids)
    second = replace(first, values=new.measured(ids).values)
    found = compare(first, second, seed=seed_of(task))
    shown = _flips(base, candidate, task, ids, first, second, flips) if flips else ()
    return Compared(task, str(base.rows[task]["metric"]), place, found, None, tuple(reasons), shown)


def unshared(old: Sampled, new: Sampled) -> list[str]:
    """A reason against comparing two runs of other samples; empty where they have the same."""
    only = [[s for s in one.ids if s not in other.place] for one, other in ((old, new), (new, old))]
    if not any(only):
        return []
    said = [
        f"{len(ids):,} only in {name} ({', '.join(ids[:EXAMPLES])}{', …' if len(ids) > EXAMPLES else ''})"
        for ids, name in zip(only, ("the first", "the second"), strict=True)
        if ids
    ]
    return [f"the samples differ: {' and '.join(said)}"]


def _means(runs: Sequence[ScoredRun], place: int, compared: Sequence[Compared], load: Load) -> list[Compared]:
    """The groups of ``MEANS`` whose splits were all compared."""
    there = {one.task: one for one in compared}
    found = []
    for group, members in MEANS.items():
        if not all(member in there for member in members):
            continue
        sides = []
        ids = {member: load(0, member).ids for member in members}
        for run in (0, place):
            parts = [load(run, member) for member in members]
            values = [
                part.values[part.place[sample]]
                for part, member in zip(parts, members, strict=True)
                for sample in ids[member]
            ]
            clusters = [cluster for member in members for cluster in load(0, member).clusters]
            strata = [member for member in members for _ in ids[member]]
            sides.append(Measured.of(values, clusters, strata))
        name = f"{group}/mean of {len(members)}"
        found.append(Compared(name, there[members[0]].metric, place, compare(*sides, seed=seed_of(name))))
    return found


def _corrected(compared: Sequence[Compared]) -> tuple[Compared, ...]:
    """With Holm's correction over all tasks of all candidates; what was forced is no test, nor is a mean another."""
    tests = [place for place, one in enumerate(compared) if not one.forced and " " not in one.task]
    adjusted = dict(zip(tests, holm([compared[place].found.chance.p for place in tests]), strict=True))
    return tuple(replace(one, holm=adjusted.get(place)) for place, one in enumerate(compared))


def _flips(
    base: ScoredRun, candidate: ScoredRun, task: str, ids: Sequence[str], old: Measured, new: Measured, most: int
) -> tuple[Flip, ...]:
    """The ``most`` samples whose score changed most, losses before gains of the same size."""
    changed = new.values - old.values
    order = sorted((i for i in range(len(ids)) if changed[i] != 0), key=lambda i: (-abs(changed[i]), changed[i], i))
    chosen = order[:most]
    wanted = {ids[i] for i in chosen}
    before, after = base.answers(task, wanted), candidate.answers(task, wanted)
    nothing = Answer("(no answer in the journal)", "")
    return tuple(
        Flip(
            task, ids[i], float(old.values[i]), float(new.values[i]), before.get(ids[i], nothing).text,
            after.get(ids[i], nothing).text, before.get(ids[i], nothing).image or after.get(ids[i], nothing).image,
        )
        for i in chosen
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- tables


def letter(place: int) -> str:
    """A, B, C … for the runs; the 27th is Z1."""
    return chr(ord("A") + place) if place < 26 else f"Z{place - 25}"


def p_text(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """With its sign, and the real minus."""
    return f"{value:+.2f}".replace("-", "−")


def tables_of(found: Comparison) -> list[Table]:
    """For each candidate the differences, and how much its samples could tell; then the samples that flipped."""
    tables = []
    for place in range(1, len(found.runs)):
        rows = [one for one in found.compared if one.candidate == place]
        if rows:
            tables += [_differences(found, place, rows), _power(place, rows)]
        if flips := [flip for one in rows for flip in one.flips]:
            tables.append(_flip_table(place, flips))
    if tables:
        tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *notes_of(found)))
    return tables


def described(run: ScoredRun) -> str:
    return f"{run.model} ({run.path})"


def _differences(found: Comparison, place: int, rows: Sequence[Compared]) -> Table:
    name = letter(place)
    lines = []
    for one in rows:
        d = one.found
        change = signed(d.difference) + ("" if d.half is None else f" ± {d.half:.2f}")
        lines.append([
            one.task + ("!" if one.forced else ""), f"{d.base:.2f}", f"{d.candidate:.2f}", change,
            p_text(d.chance.p), p_text(one.holm), "refused" if one.forced else one.verdict,
        ])  # fmt: skip
    header = ["task", "A", name, f"{name} − A", "p", "Holm", "verdict"]
    return Table(header, lines, 1, f"{name} = {described(found.runs[place])} against A = {described(found.runs[0])}")


def _power(place: int, rows: Sequence[Compared]) -> Table:
    lines = []
    for one in rows:
        d = one.found
        lines.append([
            one.task, one.metric, f"{d.wins:,}", f"{d.losses:,}", f"{d.ties:,}", p_text(d.mcnemar) or "–", f"{d.n:,}",
            "–" if d.detectable is None else f"{d.detectable:.2f}", "–" if d.needed is None else f"{d.needed:,}",
        ])  # fmt: skip
    header = ["task", "metric", "wins", "losses", "ties", "McNemar", "n", "detectable", "needed"]
    return Table(header, lines, 2, f"What the samples say of {letter(place)}")


def _flip_table(place: int, flips: Sequence[Flip]) -> Table:
    name = letter(place)
    header = ["task", "sample", "answer of A", f"answer of {name}", "picture", "A", name]
    lines = [
        [f.task, f.id, f.base_answer, f.candidate_answer, f.image, f"{f.base:.0f}", f"{f.candidate:.0f}"] for f in flips
    ]
    return Table(header, lines, 5, f"The samples that changed most from A to {name}")


def notes_of(found: Comparison) -> list[str]:
    """What a reader must know to quote the tables."""
    several = len(found.runs) > 2
    over = "all tasks and runs" if several else "all tasks"
    notes = [
        "±: the 95 % interval of the paired difference, clustered by image.",
        "p: paired permutation test, two-sided, the signs of whole images flipped.",
        f"Holm: p corrected over {over}; the verdict takes it at 5 %.",
        "McNemar (right/wrong scores only) takes the questions of one image as independent.",
        "detectable: the smallest true difference that so many samples show with a probability of 80 %.",
        "needed: the samples with which a true difference as large as the one seen would be shown so.",
    ]
    if any(one.metric.startswith("cider") for one in found.compared):
        notes.append("CIDEr: the idf is that of the references and is held fixed.")
    if any(one.task.split("/")[0] in MEANS for one in found.compared):
        notes.append("A mean tests its splits again and stands outside the correction.")
    for one in found.compared:
        if one.forced:
            notes.append(f"! {one.task}, {letter(one.candidate)}: not comparable, shown by --force: "
                         f"{'; '.join(one.forced)}.")  # fmt: skip
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
            "low": one.found.low, "high": one.found.high, "stderr": one.found.stderr, "p": one.found.chance.p,
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
        "html": lambda t: page(t, "Comparison"),
    }
    return writers[format](tables_of(found))


def as_dict(found: Comparison) -> dict[str, Any]:
    return {
        "runs": [{"path": str(run.path), "model": run.model} for run in found.runs],
        "compared": records(found),
        "flips": [
            {"candidate": str(found.runs[one.candidate].path), **asdict(flip)}
            for one in found.compared
            for flip in one.flips
        ],
        "refused": [
            {"task": one.task, "candidate": str(found.runs[one.candidate].path), "reasons": list(one.reasons)}
            for one in found.refused
        ],
        "notes": notes_of(found),
    }
