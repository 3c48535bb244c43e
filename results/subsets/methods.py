"""Ways to choose a subset from the per-sample scores of reference runs, and their choice by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.results.stats.clustered import Floats, Ints, sums_by
from evalkit.results.stats.designs import LEAST_SPREAD, Strata, allocate, cut, variances
from evalkit.results.stats.paired import detectable

UNITS_PER_STRATUM = 14
"""Drawn units per stratum, at least: fewer make variances uncertain."""
MOST_STRATA = 12


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


def design(method: Method, runs: Floats, amounts: Floats, size: int) -> Design:
    """The design of a method for ``size`` units.

    Args:
        runs: (runs, U), the values of the units in different reference runs.
        amounts: (U,), each unit's part of the score.
    """
    covariates = covariates_of(runs, amounts, method.covariates)
    if not method.strata:
        stratum = np.zeros(len(amounts), dtype=np.int64)
        return Design(stratum, np.array([min(size, len(amounts))]), covariates, _spread(runs, covariates, stratum, 1))
    count = max(2, min(MOST_STRATA, size // UNITS_PER_STRATUM))
    order = runs.mean(axis=0) / amounts
    edges = cut(order, amounts * np.sqrt(_roughly(order, runs, amounts)), count)
    stratum = _dense(np.searchsorted(edges, order))
    strata = int(stratum.max()) + 1
    sizes = np.bincount(stratum, minlength=strata).astype(np.float64)
    spread = _held_out_spread(runs, amounts, edges) if len(runs) > 2 else _spread(runs, covariates, stratum, strata)
    if len(spread) != strata:
        spread = np.full(strata, spread.mean())
    spread = np.maximum(spread, LEAST_SPREAD * float(sizes @ spread) / sizes.sum())
    even = np.array([float(sums_by(stratum, amounts, strata)[h] / sizes[h]) ** 2 for h in range(strata)])
    drawn = allocate(size, sizes, spread if method.allocated else even)
    return Design(stratum, drawn, covariates, spread)


def _dense(numbers: Ints) -> Ints:
    return np.asarray(np.unique(numbers, return_inverse=True)[1], dtype=np.int64)


def _roughly(order: Floats, runs: Floats, amounts: Floats) -> Floats:
    """(U,), how much a unit's value varies over models, roughly: as p (1 − p) for a mean score p on the runs' scale."""
    top = float((runs / amounts).max(initial=0.0)) or 1.0
    share = np.clip(order / top, 0.0, 1.0)
    return np.asarray(share * (1 - share) + 0.05)


def _spread(runs: Floats, covariates: Floats, stratum: Ints, strata: int) -> Floats:
    """The expected residual variance if no run can be left out: the runs' own variance, the same in every stratum."""
    values = runs.std(axis=1, ddof=1) ** 2
    return np.full(strata, max(float(values.mean()), 1e-12))


def _held_out_spread(runs: Floats, amounts: Floats, edges: Floats) -> Floats:
    """(strata,), the variance of a run's values in the strata that the other runs' difficulty makes."""
    found = np.zeros((2, len(edges) + 1))
    for place, values in enumerate(runs):
        others = np.delete(runs, place, axis=0).mean(axis=0) / amounts
        stratum = np.searchsorted(edges, others)
        sizes = np.bincount(stratum, minlength=len(edges) + 1)
        centre = sums_by(stratum, values, len(edges) + 1) / np.maximum(sizes, 1)
        found += np.stack([sums_by(stratum, (values - centre[stratum]) ** 2, len(edges) + 1), sizes])
    return np.asarray(found[0] / np.maximum(found[1], 1))


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
        for method in methods:
            found[method].append(design(method, others, amounts, size).variances_of(values))
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
