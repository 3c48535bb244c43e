"""Choose a subset from the per-sample scores of finished runs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.errors import UserError
from evalkit.results.stats.clustered import Floats, Ints, sums_by
from evalkit.results.stats.designs import FEWEST, estimate, needed_size
from evalkit.results.stats.intervals import scale_of
from evalkit.results.store.scored_run import ScoredRun, reasons_against

from .methods import RANDOM, Design, Method, Validated, cross_validate, design, distinct, draw, left_out
from .subset_file import Expected, SplitSubset

FURTHER_QUESTION = 0.1
"""The cost of a further question about an image, whose prefix is shared; the first costs 1."""
DIGITS = 9
"""Significant digits of the numbers in a file."""


@dataclass(frozen=True, eq=False)
class Population:
    """A split as the reference runs know it.

    Attributes:
        ids: of all samples.
        parts: (samples,), each sample's part of the score: they sum to 1 in a mean.
        unit: (samples,), the number of the unit that each belongs to.
        runs: (runs, units), the different runs' values of the units.
        costs: (units,).
        kind: ``sample`` or ``image``.
    """

    ids: Sequence[str]
    parts: Floats
    unit: Ints
    runs: Floats
    costs: Floats
    kind: str

    @property
    def amounts(self) -> Floats:
        """(units,), each unit's part of the score."""
        return sums_by(self.unit, self.parts, len(self.costs))


@dataclass(frozen=True, eq=False)
class Split:
    """A split of the reference runs: per-sample scores, (runs, samples), and what they have in common."""

    name: str
    runs: Sequence[ScoredRun]
    ids: Sequence[str]
    clusters: Ints
    parts: Floats
    scores: Floats

    @classmethod
    def of(cls, runs: Sequence[ScoredRun], name: str) -> Split:
        """Read the scores.

        Raises:
            UserError: a run lacks the split or a part of it, or its score has no per-sample values or cannot be
                compared.
        """
        first = runs[0].sampled(name)
        measured = first.measured()
        scores = []
        for run in runs:
            row = run.rows[name]
            if row.errors or row.limited:
                what = f"{row.errors:,} samples failed" if row.errors else "only a part of the split was run"
                raise UserError(f"{run.path}: {what} of {name}; a subset is chosen from complete runs.")
            if reasons := reasons_against(runs[0], run, name):
                raise UserError(f"{runs[0].path} and {run.path}: {name} cannot be compared: {'; '.join(reasons)}.")
            sampled = run.sampled(name)
            if sampled.corpus or row.aggregation not in (None, "subset"):
                raise UserError(
                    f"{name}: {row.metric} is not a mean of per-sample scores, so that a subset does not estimate it; "
                    "leave the task out with --tasks, or use --limit."
                )
            if set(sampled.ids) != set(first.ids):
                raise UserError(f"{runs[0].path} and {run.path} have different samples of {name}.")
            scores.append(sampled.measured(first.ids).values)
        return cls(name, runs, first.ids, measured.clusters, measured.weights, np.stack(scores))

    def population(self, kind: str, further: float = FURTHER_QUESTION) -> Population:
        """The split in units of samples or of images."""
        unit = np.arange(len(self.ids)) if kind == "sample" else self.clusters
        count = int(unit.max()) + 1
        costs = np.asarray(np.bincount(unit, minlength=count) * further + (1 - further), dtype=np.float64)
        values = np.stack([sums_by(unit, self.parts * row, count) for row in distinct(self.scores)])
        return Population(self.ids, self.parts, unit, values, costs, kind)


@dataclass(frozen=True, eq=False)
class Choice:
    """A population, the number of units to draw, and what cross-validation says.

    ``random`` is the standard error of as many random samples, or of a random subset of equal cost; None without
    cross-validation.
    """

    population: Population
    size: int
    validated: Validated
    method: Method
    random: float | None

    @property
    def error(self) -> float:
        """The standard error by cross-validation; infinite without one."""
        return self.validated.errors.get(self.method, math.inf)

    @property
    def planned(self) -> Design:
        """The design, with numbers as long as those in a file, so that sums are those of the numbers there."""
        found = design(self.method, self.population.runs, self.population.amounts, self.size)
        return Design(found.stratum, found.drawn, _short(found.covariates), _short(found.spread))

    @property
    def expected(self) -> Expected:
        """What cross-validation expects of a run."""
        misfit, deviation = _misfit(self.population, self)
        return Expected(
            _rounded(self.validated.errors.get(self.method)), _rounded(self.random),
            _rounded(self.validated.detectable.get(self.method)), misfit, deviation, self.validated.folds,
        )  # fmt: skip

    @property
    def skewness(self) -> list[tuple[float, float]]:
        """Of each run, (score, skewness of its estimate by a subset that the other runs chose)."""
        population, found = self.population, []
        for values, others in left_out(population.runs) if len(population.runs) > 1 else ():
            planned = design(self.method, others, population.amounts, self.size)
            found.append((_short_number(float(values.sum())), _short_number(planned.skewness_of(values))))
        return found


def choose(split: Split, *, size: int | None, budget: float | None, further: float, seed: int) -> SplitSubset:
    """Choose samples of a split: as many as ``size``, or as fit in ``budget``.

    Args:
        budget: in samples that share no image; whole images are drawn if cross-validation prefers them.
        further: the cost of a further question about an image.

    Raises:
        UserError: the split has no more samples than that, or too few are wanted.
    """
    choice = of_size(split, size) if size is not None else within_budget(split, budget or 0.0, further)
    return _drawn(split, choice, seed)


def within_budget(split: Split, budget: float, further: float = FURTHER_QUESTION) -> Choice:
    """Samples, or whole images if cross-validation prefers them, for ``budget``; as for ``choose``."""
    alone = of_size(split, math.floor(budget))
    if len(np.unique(split.clusters)) == len(split.ids):
        return alone
    images = replace(_within(split, budget, further), random=alone.random)
    return min((alone, images), key=lambda one: one.error) if alone.validated.folds else images


def of_size(split: Split, size: int) -> Choice:
    population = split.population("sample")
    count = len(population.ids)
    if not size >= 2 * FEWEST:
        raise UserError(f"{split.name}: {size} samples are too few for an interval; give at least {2 * FEWEST}.")
    if size >= count:
        raise UserError(f"{split.name} has {count:,} samples: a subset of {size:,} is all of it; run it without.")
    validated = cross_validate(population.runs, population.amounts, size)
    return Choice(population, size, validated, validated.best, validated.errors.get(RANDOM))


def _within(split: Split, budget: float, further: float) -> Choice:
    """Whole images: as many as fit in the budget on average."""
    population = split.population("image", further)
    amounts, runs = population.amounts, population.runs

    def cost(method: Method, units: int) -> float:
        planned = design(method, runs, amounts, units)
        strata = len(planned.drawn)
        mean = sums_by(planned.stratum, population.costs, strata) / np.bincount(planned.stratum, minlength=strata)
        return float(mean @ planned.drawn)

    def most(method: Method) -> int:
        low, high = 2 * FEWEST, len(amounts) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if cost(method, middle) <= budget else (low, middle - 1)
        return low

    size = most(RANDOM)
    method = cross_validate(runs, amounts, size).best
    size = most(method)
    validated = cross_validate(runs, amounts, size, [method])
    return Choice(population, size, validated, method, None)


def size_to_detect(split: Split, loss: float) -> int | None:
    """The number of samples with which ``evalkit check`` finds a ``loss`` with 80 % power; None if all are too few.

    Raises:
        UserError: there are too few different runs to know.
    """
    population = split.population("sample")
    if len(population.runs) < 2:
        raise UserError(
            f"{split.name}: --detect needs at least two runs with different scores, to validate across them."
        )

    def smallest(method: Method) -> Callable[[int], float]:
        return lambda size: cross_validate(population.runs, population.amounts, size, [method]).detectable[method]

    largest = len(population.ids) - 1
    method = cross_validate(population.runs, population.amounts, min(100, largest)).best
    found = needed_size(smallest(method), loss, largest)
    if found is None:
        return None
    method = cross_validate(population.runs, population.amounts, found).best
    return needed_size(smallest(method), loss, largest)


def _drawn(split: Split, choice: Choice, seed: int) -> SplitSubset:
    population = choice.population
    amounts = population.amounts
    row = split.runs[0].rows[split.name]
    scale = scale_of(row.metric, row.signature)
    planned = choice.planned
    first = np.unique(population.unit, return_index=True)[1]
    order = np.array([_order(seed, split.name, population.ids[place]) for place in first])
    units = draw(planned, order)
    members: dict[int, list[tuple[str, float]]] = {int(unit): [] for unit in units}
    for sample, unit, part in zip(population.ids, population.unit, population.parts, strict=True):
        if int(unit) in members:
            members[int(unit)].append((sample, float(part)))
    return SplitSubset(
        row.metric, row.parsed_signature.scorer.format(), split.runs[0].annotations(split.name), len(split.ids), scale,
        population.kind, round(float(population.costs[units].sum()), 3), choice.method.name,
        choice.expected,
        [(run.name, run.rows[split.name].score) for run in split.runs],
        planned.known(amounts, scale), planned.stratum[units], planned.covariates[units], list(members.values()),
        choice.skewness,
    )  # fmt: skip


def _misfit(population: Population, choice: Choice) -> tuple[float | None, float | None]:
    """Mean and standard deviation, over left-out runs, of the misfit of an estimate; None for fewer than four."""
    found: list[float] = []
    amounts = population.amounts
    for values, others in left_out(population.runs):
        if len(others) > 2:  # with fewer, the expected variances are other ones (``methods.design``)
            planned = design(choice.method, others, amounts, choice.size)
            units = draw(planned, np.random.default_rng(len(found)).random(len(amounts)))
            known = planned.known(amounts, None)
            found.append(estimate(known, planned.stratum[units], values[units], planned.covariates[units]).misfit)
    if not found:
        return None, None
    return _rounded(float(np.mean(found))), _rounded(float(np.std(found, ddof=1)))


def _short(values: Floats) -> Floats:
    """The values with as many digits as the file has."""
    return np.asarray(np.vectorize(_short_number, otypes=[np.float64])(values))


def _rounded(value: float | None) -> float | None:
    return None if value is None else _short_number(value)


def _short_number(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _order(seed: int, name: str, sample: str) -> float:
    """A number from 0 to 1 that depends on the seed and the sample only."""
    content = f"{seed}/{name}/{sample}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "big") / 2**56
