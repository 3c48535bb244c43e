"""Ways to choose a subset from the per-sample scores of reference runs, and their choice by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.results.stats.clustered import Floats, Ints, sums_by
from evalkit.results.stats.designs import LEAST_SPREAD, Strata, allocate, cut, skewness, variances
from evalkit.results.stats.paired import detectable

from .difficulty import Difficulty, difficulty_of, groups

UNITS_PER_STRATUM = 10
"""Drawn units per stratum, at least: fewer make variances uncertain."""
MOST_STRATA = 12
GROUPS = 64
"""Groups of units of similar difficulty, at most, from which strata are made."""


@dataclass(frozen=True)
class Method:
    """A way to choose samples and to estimate.

    Attributes:
        strata: whether units are drawn from strata of similar difficulty.
        allocated: whether more units are drawn where models differ more.
        covariates: the number of covariates from the reference runs in the estimate.
    """

    strata: bool = False
    allocated: bool = False
    covariates: int = 0

    @property
    def name(self) -> str:
        """As messages and files have it: ``stratified by difficulty, 2 covariates``."""
        drawn = "random"
        if self.strata:
            drawn = "stratified by difficulty" + (", more where models differ" if self.allocated else "")
        several = "" if self.covariates == 1 else "s"
        return drawn + (f", {self.covariates} covariate{several}" if self.covariates else "")


RANDOM = Method()
METHODS = tuple(
    Method(strata, allocated, covariates)
    for strata, allocated in ((False, False), (True, False), (True, True))
    for covariates in (0, 1, 2, 3)
)
"""What cross-validation chooses from, simple ones first."""
WITHOUT_VALIDATION = Method(strata=True, covariates=1)
"""For fewer than two different reference runs, which cannot be left out in turn."""


@dataclass(frozen=True, eq=False)
class Design:
    """A design: which stratum each unit belongs to, how many are drawn, and the covariates.

    Attributes:
        stratum: (U,), of each unit.
        drawn: (strata,), the numbers of units to draw.
        covariates: (U, covariates), of each unit.
        spread: (strata,), the expected residual variance of a unit.
    """

    stratum: Ints
    drawn: Ints
    covariates: Floats
    spread: Floats

    def known(self, amounts: Floats, scale: float | None) -> Strata:
        """The strata with the totals of the covariates.

        Args:
            amounts: (U,), each unit's part of the score.
            scale: the upper end of the score's scale, which begins at 0; None if there is none.
        """
        count = len(self.drawn)
        totals = [sums_by(self.stratum, column, count) for column in self.covariates.T]
        columns = np.stack(totals, axis=1) if totals else np.empty((count, 0))
        largest = 0.0 if scale is None else scale**2 * float((amounts**2).mean())
        return Strata(np.bincount(self.stratum, minlength=count).astype(np.float64), columns, self.spread, largest)

    def variances_of(self, values: Floats) -> tuple[float, float]:
        """``variances`` of the estimate for a model with these values, (U,)."""
        return variances(self.stratum, self.drawn, values, self.covariates)

    def skewness_of(self, values: Floats) -> float:
        """``skewness`` of the estimate for a model with these values, (U,)."""
        return skewness(self.stratum, self.drawn, values, self.covariates)


def distinct(runs: Floats) -> Floats:
    """The different rows of (runs, U): a run that was given twice knows nothing more."""
    return np.unique(runs, axis=0)


def covariates_of(runs: Floats, amounts: Floats, count: int) -> Floats:
    """(U, 1 + count or fewer), the amounts, then the mean of the runs, then their main differences.

    The differences are the leading singular vectors of what the mean leaves over.  Amounts that are all equal make no
    covariate, since strata have a mean each.
    """
    columns = [] if np.ptp(amounts) <= 1e-9 * amounts.max() else [amounts]
    if count:
        mean = runs.mean(axis=0)
        columns.append(mean)
        if count > 1 and len(runs) > 2:
            rest = runs - mean
            # The eigenvectors of the small matrix of runs give the singular vectors of the large one.
            sizes, vectors = np.linalg.eigh(rest @ rest.T)
            best = [place for place in np.argsort(-sizes) if sizes[place] > 1e-9 * max(1e-300, float(sizes.max()))]
            columns += [_signed(vectors[:, place]) @ rest for place in best[: count - 1]]
    return np.stack(columns, axis=1) if columns else np.empty((len(amounts), 0))


def _signed(vector: Floats) -> Floats:
    """A singular vector with a sign that does not depend on the library."""
    return np.asarray(vector * np.sign(vector[np.abs(vector).argmax()]))


def design(
    method: Method, runs: Floats, amounts: Floats, size: int, strata: tuple[Ints, Floats] | None = None
) -> Design:
    """The design of a method for ``size`` units.

    Args:
        runs: (runs, U), the values of the units in different reference runs.
        amounts: (U,), each unit's part of the score.
        strata: ``strata_of`` the same, if it is known.
    """
    covariates = covariates_of(runs, amounts, method.covariates)
    if not method.strata:
        stratum = np.zeros(len(amounts), dtype=np.int64)
        return Design(stratum, np.array([min(size, len(amounts))]), covariates, _spread(runs, covariates, stratum, 1))
    stratum, spread = strata_of(runs, amounts, size) if strata is None else strata
    sizes = np.bincount(stratum).astype(np.float64)
    even = (sums_by(stratum, amounts, len(sizes)) / sizes) ** 2
    drawn = allocate(size, sizes, spread if method.allocated else even)
    return Design(stratum, drawn, covariates, spread)


def strata_of(runs: Floats, amounts: Floats, size: int) -> tuple[Ints, Floats]:
    """Strata of similar difficulty for ``size`` units: (U,) their numbers, and (strata,) the expected variances."""
    count = max(2, min(MOST_STRATA, size // UNITS_PER_STRATUM))
    known = difficulty_of(runs, amounts)
    stratum = cut(groups(known.order, GROUPS), amounts, known.mean, known.variance, count)
    sizes = np.bincount(stratum).astype(np.float64)
    spread = _within(stratum, known, amounts)
    return stratum, np.maximum(spread, LEAST_SPREAD * float(sizes @ spread) / sizes.sum())


def _spread(runs: Floats, covariates: Floats, stratum: Ints, strata: int) -> Floats:
    """The expected residual variance if no run can be left out: the runs' own variance, the same in every stratum."""
    values = runs.std(axis=1, ddof=1) ** 2
    return np.full(strata, max(float(values.mean()), 1e-12))


def _within(stratum: Ints, known: Difficulty, amounts: Floats) -> Floats:
    """(strata,), the expected variance of a new model's values in each stratum."""
    count = int(stratum.max()) + 1
    total = sums_by(stratum, amounts, count)
    centre = sums_by(stratum, amounts * known.mean, count) / total
    squares = known.variance + (known.mean - centre[stratum]) ** 2
    return np.asarray(sums_by(stratum, amounts**2 * squares, count) / np.bincount(stratum, minlength=count))


@dataclass(frozen=True)
class Validated:
    """What leaving out each run in turn gives, in the unit of the score.

    Attributes:
        errors: of each method, the standard error of the estimated score of the complete benchmark: the root mean
            square over left-out runs.
        detectable: of each method, the smallest loss against a run of the complete benchmark that a one-sided test
            at 5 % detects with 80 % power.
        folds: the number of runs that were left out in turn; 0 if there are too few.
    """

    errors: Mapping[Method, float]
    detectable: Mapping[Method, float]
    folds: int

    @property
    def best(self) -> Method:
        """The method with the smallest error; a simpler one if that is within 1 %."""
        if not self.folds:
            return WITHOUT_VALIDATION
        least = min(self.errors.values())
        return next(method for method, error in self.errors.items() if error <= 1.01 * least)


def cross_validate(runs: Floats, amounts: Floats, size: int, methods: Sequence[Method] = METHODS) -> Validated:
    """Leave each run out, choose with the others, and compute the errors of the estimate of its score.

    Args:
        runs: (runs, U), different from each other.
        size: the number of units.
    """
    if len(runs) < 2:
        return Validated({}, {}, 0)
    found: dict[Method, list[tuple[float, float]]] = {method: [] for method in methods}
    for values, others in left_out(runs):
        strata = strata_of(others, amounts, size)
        for method in methods:
            found[method].append(design(method, others, amounts, size, strata).variances_of(values))
    errors = {method: math.sqrt(float(np.mean([s - n for s, n in each]))) for method, each in found.items()}
    tested = {method: math.sqrt(float(np.mean([s + n for s, n in each]))) for method, each in found.items()}
    return Validated(errors, {method: detectable(error, sides=1) for method, error in tested.items()}, len(runs))


def left_out(runs: Floats) -> Iterator[tuple[Floats, Floats]]:
    """(a run, the others) for each run."""
    for place in range(len(runs)):
        yield runs[place], np.delete(runs, place, axis=0)


def draw(chosen: Design, order: Floats) -> Ints:
    """The numbers of the drawn units: in each stratum those with the smallest ``order``, (U,), which is random."""
    ranked = np.lexsort((order, chosen.stratum))
    sizes = np.bincount(chosen.stratum, minlength=len(chosen.drawn))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    places = [ranked[start : start + count] for start, count in zip(starts, chosen.drawn, strict=True)]
    return np.sort(np.concatenate(places))
