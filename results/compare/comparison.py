"""Compare runs with a base run, task by task, over the same samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from evalkit.errors import UserError
from evalkit.results.stats.clustered import Measured, seed_of
from evalkit.results.stats.paired import ALPHA, Difference, compare, compare_sums, holm, untested
from evalkit.results.store.scored_run import SampleScores, ScoredRun, StoredAnswer, other_images, reasons_against
from evalkit.results.subsets.estimates import Reference, difference, subset_of
from evalkit.task_groups import MEANS

EXAMPLES = 3


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
class TaskComparison:
    """One task of one candidate against the base.

    Attributes:
        candidate: the index of the run in ``Comparison.runs``.
        holm: the corrected p-value; None for a forced comparison and for the mean of a group, which tests its members
            again.
        forced: why the scores are not comparable, if ``--force`` compared them nevertheless.
        flips: samples whose score changed.
        images: the number of samples whose images differ from the base run's.
        mean: whether it is the mean of a group of splits.
        estimated: whether a subset was run, so that the difference is an estimate for the complete split.
    """

    task: str
    metric: str
    candidate: int
    found: Difference
    holm: float | None = None
    forced: tuple[str, ...] = ()
    flips: tuple[Flip, ...] = ()
    images: int = 0
    mean: bool = False
    estimated: bool = False

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``not shown`` at 5 %, with the corrected p-value if there is one; ``not tested``."""
        if not self.found.chance.tested:
            return "not tested"
        p = self.found.chance.p if self.holm is None else self.holm
        if p > ALPHA:
            return "not shown"
        return "better" if self.found.difference > 0 else "worse"


@dataclass(frozen=True)
class Incomparable:
    """A task of a candidate that cannot be compared with the base, and why."""

    task: str
    candidate: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """All comparisons with the base ``runs[0]``; ``lacking`` says which tasks not every run has."""

    runs: tuple[ScoredRun, ...]
    compared: tuple[TaskComparison, ...]
    refused: tuple[Incomparable, ...]
    lacking: tuple[str, ...]


def compare_runs(paths: Sequence[Path], *, force: bool = False, flips: int = 0) -> Comparison:
    """Compare every task of the other runs with the first run's.

    Raises:
        UserError: fewer than two runs, no scores, corrupt files, or no task that both have.
    """
    if len(paths) < 2:
        raise UserError("give at least two runs: 'evalkit compare runs/A runs/B' compares B with A.")
    runs = tuple(ScoredRun.open(path) for path in paths)
    load = cache(lambda place, task: runs[place].sampled(task))
    compared: list[TaskComparison] = []
    refused: list[Incomparable] = []
    lacking: list[str] = []
    for place, run in enumerate(runs[1:], start=1):
        both = [task for task in runs[0].splits if task in run.splits]
        for side in (runs[0], run):
            if only := [task for task in side.splits if task not in both]:
                lacking.append(f"only in {side.path}: {', '.join(only)}")
        if not both:
            raise UserError(
                f"{runs[0].path} and {run.path} have no scored task in common: "
                f"{', '.join(runs[0].splits) or 'none'} and {', '.join(run.splits) or 'none'}."
            )
        for task in both:
            one = _one(runs, place, task, load, force, flips)
            (compared if isinstance(one, TaskComparison) else refused).append(one)  # type: ignore[arg-type]
        members = [c for c in compared if c.candidate == place and not c.forced and not c.estimated]
        compared += _means(runs, place, members, load)
    return Comparison(runs, _corrected(compared), tuple(refused), tuple(dict.fromkeys(lacking)))


Load = Callable[[int, str], SampleScores]


def _one(
    runs: Sequence[ScoredRun], place: int, task: str, load: Load, force: bool, flips: int
) -> TaskComparison | Incomparable:
    base, candidate = runs[0], runs[place]
    reasons = reasons_against(base, candidate, task)
    if reasons and not force:
        return Incomparable(task, place, tuple(reasons))
    old, new = load(0, task), load(place, task)
    reasons += unshared(old, new)
    if reasons and not force:
        return Incomparable(task, place, tuple(reasons))
    ids = [sample for sample in old.ids if sample in new.place]
    if not ids:
        return Incomparable(task, place, (*reasons, "they have no sample in common"))
    estimates = [run.rows[task].estimate for run in (base, candidate)]
    if estimates[0] is not None or estimates[1] is not None:
        return _of_subset(runs, place, task, old, new, tuple(reasons))
    if old.corpus or new.corpus:
        found = of_corpus(old, new, ids, base.rows[task].score, candidate.rows[task].score, seed_of(task))
        return TaskComparison(task, base.rows[task].metric, place, found, None, tuple(reasons))
    first = old.measured(ids)
    second = replace(first, values=new.measured(ids).values)
    found = compare(first, second, seed=seed_of(task))
    shown = _flips(base, candidate, task, ids, first, second, flips) if flips else ()
    images, _ = other_images(base.image_digests(task), candidate.image_digests(task))
    return TaskComparison(task, base.rows[task].metric, place, found, None, tuple(reasons), shown, images)


def _of_subset(
    runs: Sequence[ScoredRun], place: int, task: str, old: SampleScores, new: SampleScores, reasons: tuple[str, ...]
) -> TaskComparison | Incomparable:
    """Two runs of one subset: the estimated difference of the complete splits' scores."""
    digests = [None if (e := run.rows[task].estimate) is None else e["subset"] for run in (runs[0], runs[place])]
    if digests[0] != digests[1]:
        return Incomparable(task, place, (*reasons, "they are not runs of one subset: 'evalkit check' compares them"))
    values = [dict(zip(side.ids, side.values, strict=True)) for side in (old, new)]
    found = difference(subset_of(runs[place].path, task), Reference(values[0]), values[1]).at(ALPHA)
    return TaskComparison(task, runs[0].rows[task].metric, place, found, None, reasons, estimated=True)


def of_corpus(
    old: SampleScores, new: SampleScores, ids: Sequence[str], base: float, candidate: float, seed: int
) -> Difference:
    """The difference of two values that are no means of per-sample scores: tested if they are functions of sums."""
    samples = old.measured(ids)
    if not old.comparable(new) or len(ids) < max(len(old.ids), len(new.ids)):  # of other samples, they have other sums
        return untested(base, candidate, len(ids), samples.groups)
    slopes = np.array([old.slopes, new.slopes], dtype=np.float64)
    return compare_sums(new.sums(ids) - old.sums(ids), slopes, samples, base, candidate, seed=seed)


def unshared(old: SampleScores, new: SampleScores) -> list[str]:
    """The reason if two runs have different samples; empty if they have the same."""
    only = [[s for s in one.ids if s not in other.place] for one, other in ((old, new), (new, old))]
    if not any(only):
        return []
    sides = [
        f"{len(ids):,} only in {name} ({', '.join(ids[:EXAMPLES])}{', …' if len(ids) > EXAMPLES else ''})"
        for ids, name in zip(only, ("the first", "the second"), strict=True)
        if ids
    ]
    return [f"the samples differ: {' and '.join(sides)}"]


def _means(
    runs: Sequence[ScoredRun], place: int, compared: Sequence[TaskComparison], load: Load
) -> list[TaskComparison]:
    """The means of the groups of ``MEANS`` whose splits were all compared."""
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
        found.append(
            TaskComparison(name, there[members[0]].metric, place, compare(*sides, seed=seed_of(name)), mean=True)
        )
    return found


def _corrected(compared: Sequence[TaskComparison]) -> tuple[TaskComparison, ...]:
    """Apply Holm's correction over all tasks of all candidates; forced comparisons and means do not count as tests.

    ``detectable`` and ``needed`` are those of the corrected tests: each at 5 % divided by their number, Holm's first
    step.
    """
    tests = [place for place, one in enumerate(compared) if not one.forced and not one.mean and one.found.chance.tested]
    adjusted = dict(zip(tests, holm([compared[place].found.chance.p for place in tests]), strict=True))
    return tuple(
        replace(one, holm=adjusted[place], found=one.found.at(ALPHA / len(tests))) if place in adjusted else one
        for place, one in enumerate(compared)
    )


def _flips(
    base: ScoredRun, candidate: ScoredRun, task: str, ids: Sequence[str], old: Measured, new: Measured, most: int
) -> tuple[Flip, ...]:
    """The ``most`` samples whose score changed most, losses before gains of the same size."""
    changed = new.values - old.values
    order = sorted((i for i in range(len(ids)) if changed[i] != 0), key=lambda i: (-abs(changed[i]), changed[i], i))
    chosen = order[:most]
    wanted = {ids[i] for i in chosen}
    before, after = base.answers(task, wanted), candidate.answers(task, wanted)
    nothing = StoredAnswer("(no answer in the journal)", "")
    return tuple(
        Flip(
            task, ids[i], float(old.values[i]), float(new.values[i]), before.get(ids[i], nothing).text,
            after.get(ids[i], nothing).text, before.get(ids[i], nothing).image or after.get(ids[i], nothing).image,
        )
        for i in chosen
    )  # fmt: skip
