"""The estimate of a complete split's score in the scores of a run of its subset, and tests against a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import UserError
from evalkit.results.stats.designs import Estimate, Strata, estimate
from evalkit.results.stats.error_bars import t_quantile
from evalkit.results.stats.paired import Difference, PermutationTest, untested
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.signature import Signature

from .subset_file import Expected, SplitSubset, Subset, read_subset

FILE = "subset.json"
"""The copy of the subset file in a run folder."""
DRIFT = 0.01
"""How often a run that fits the references like they fit each other is said not to."""


def subset_in(run: Path) -> Subset | None:
    """The subset that a run was made of; None for other runs.

    Raises:
        UserError: its file is corrupt.
    """
    path = run / FILE
    return _cached(path, path.stat().st_mtime_ns) if path.is_file() and not path.is_symlink() else None


@cache
def _cached(path: Path, changed: int) -> Subset:
    return read_subset(path, "the subset")


def estimated(held: SplitSubset, scores: Mapping[str, float]) -> Estimate:
    """The estimate of the complete split's score from the scores of the subset's samples by id."""
    return estimate(held.strata, held.stratum, held.values(scores), held.covariates)


def with_estimate(row: ScoreRow, subset: Subset, scores: Mapping[str, float]) -> ScoreRow:
    """The row of a subset's run with the estimate, and with the subset in its signature.

    There is none, and a note says why, if samples have no score or were scored otherwise than the references.
    """
    held = subset.splits.get(row.name)
    if held is None:
        return row
    signature = Signature.parse(row.signature).with_subset(subset.digest).format()
    row = replace(row, signature=signature, limited=True)
    missing = [sample for sample in held.ids if sample not in scores]
    if missing:
        why = f"{len(missing):,} of its samples have no score ({', '.join(missing[:3])})"
    elif row.parsed_signature.scorer.format() != held.scorer:
        why = f"its references were scored by {held.scorer}"
    else:
        return replace(row, estimate=_as_row(held, estimated(held, scores), subset.digest))
    return replace(row, notes=[*row.notes, f"no estimate of the complete split's score from this subset: {why}."])


def _as_row(held: SplitSubset, found: Estimate, digest: str) -> dict[str, Any]:
    low, high = found.interval(held.scale)
    value = found.value if held.scale is None else min(held.scale, max(0.0, found.value))
    symmetric = math.isclose(high - found.value, found.value - low, rel_tol=1e-6)
    doubt = drift(held, found)
    return {
        "value": value, "stderr": found.stderr, "ci95": found.half() if symmetric else None, "low": low, "high": high,
        "interval": "design" if symmetric else "wilson", "size": held.size, "references": len(held.references),
        "subset": digest, **({} if doubt is None else {"doubt": doubt}),
    }  # fmt: skip


def drift(held: SplitSubset, found: Estimate) -> str | None:
    """Why the references do not tell about a model, and how many samples would; None if they do."""
    expected, needed = held.expected, needed_for(held.expected, found, len(held.ids))
    if needed is None or expected.error is None:
        return None
    what = f"about {needed:,} samples" if needed < held.size else "the complete split"
    return (
        f"its answers do not fit those of the references (mean squared residual {found.misfit:.2f}; of left-out "
        f"references {expected.misfit:.2f} ± {expected.misfit_spread:.2f}), so that these samples tell less about it: "
        f"do not rely on this estimate beyond its interval; {what} would give the ± {1.96 * expected.error:.1f} that "
        "was expected"
    )


def needed_for(expected: Expected, found: Estimate, size: int) -> int | None:
    """How many samples give a model that does not fit the references the expected error; None if it fits.

    One-sided test of the mean squared residual, with the spread that left-out references have among themselves.

    Args:
        size: the number of samples of the estimate.
    """
    if expected.misfit is None or expected.misfit_spread is None or expected.error is None:
        return None
    runs = expected.folds
    spread = math.hypot(expected.misfit_spread * math.sqrt(1 + 1 / runs), found.misfit_error)
    if found.misfit <= expected.misfit + t_quantile(1 - DRIFT, runs - 1) * spread or found.stderr <= expected.error:
        return None
    # ``sampling`` falls with the number of samples, and ``noise``, which is taken from it, does not.
    return math.ceil(size * found.sampling / (expected.error**2 + found.noise))


@dataclass(frozen=True)
class Reference:
    """What a subset's run is tested against.

    Attributes:
        scores: of the subset's samples, by id.
        complete: the score on the complete split; None if only the subset was run.
    """

    scores: Mapping[str, float]
    complete: float | None = None


def difference(held: SplitSubset, base: Reference, scores: Mapping[str, float]) -> Difference:
    """The difference of two complete splits' scores, estimated from a subset, with a one-sided t test of a loss.

    The variance is that for an unlimited number of samples like these: the test asks whether the model is worse, not
    whether these questions happen to show it.  The base's own samples are a covariate if its score is known; else the
    differences of the samples are estimated.  A base that is one of the references has helped to choose the samples,
    which makes the estimate skewed (``_skewness_at``).
    """
    before, after = held.values(base.scores), held.values(scores)
    if base.complete is None:
        start = estimated(held, base.scores).value
        found = estimate(held.strata, held.stratum, after - before, held.covariates)
        change, variance, skewness = found.value, found.sampling, 0.0  # neither has chosen the subset
    else:
        start = base.complete
        found = estimate(
            with_total(held.strata, start), held.stratum, after, np.column_stack([held.covariates, before])
        )
        change, variance = found.value - start, found.sampling + found.noise
        skewness = _skewness_at(held, start) * (found.sampling / variance) ** 1.5 if variance > 0 else 0.0
    error = math.sqrt(variance)
    gains = np.array([scores[sample] - base.scores[sample] for sample in held.ids])
    nothing = untested(start, start + change, len(held.ids), found.units)
    half = t_quantile(0.975, found.degrees) * error
    return replace(
        nothing, stderr=error, half=half, low=change - half, high=change + half,
        chance=t_test(change, error, found.degrees, skewness),
        wins=int((gains > 0).sum()), losses=int((gains < 0).sum()), ties=int((gains == 0).sum()),
    )  # fmt: skip


def _skewness_at(held: SplitSubset, score: float) -> float:
    """The skewness of the estimate for a model like the reference with a score; 0 if there is none with it.

    Strata are made of what the references answer.  What a good model alone answers is in that stratum where none does,
    of which few units are drawn with a great weight: the estimate for another model as good is skewed to the right, as
    the reference's own was when it was left out.
    """
    return next((value for own, value in held.skewness if math.isclose(own, score, rel_tol=1e-6)), 0.0)


def t_test(change: float, error: float, degrees: float, skewness: float = 0.0) -> PermutationTest:
    """The p-values of a change with a standard error, by Student's t, corrected for the skewness of the change.

    The correction is the first term of the Edgeworth expansion of a studentized mean (Hall 1992, section 2.4): a change
    that is skewed to the right looks like a loss too often, and one to the left like a gain.  Where the correction
    would make a p-value smaller, it is left out: the expansion is rough in the tails.
    """
    from scipy.special import stdtr  # takes as long to import as the rest of a small command

    if error == 0:
        return PermutationTest(1.0, 1.0, False)
    ratio = change / error
    density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    more = min(abs(skewness), 1.0) / 6 * (2 * ratio**2 + 1) * density
    worse = min(1.0, float(stdtr(degrees, ratio)) + (more if skewness > 0 else 0.0))
    better = min(1.0, float(stdtr(degrees, -ratio)) + (more if skewness < 0 else 0.0))
    return PermutationTest(min(1.0, 2 * min(worse, better)), worse, False)


def with_total(strata: Strata, total: float) -> Strata:
    """The strata with one more covariate, of which only the total over all strata is known and needed."""
    column = np.zeros((len(strata.sizes), 1))
    column[0] = total
    return replace(strata, totals=np.hstack([strata.totals, column]))


def subset_of(run: Path, name: str) -> SplitSubset:
    """The subset of a split that a run was made of.  Raises ``UserError`` if the run folder lacks it."""
    found = subset_in(run)
    if found is None or name not in found.splits:
        raise UserError(f"{run} has no {FILE} with {name}, which its estimates need; run the same command again.")
    return found.splits[name]
