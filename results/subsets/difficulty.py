"""What the reference runs say about how well a new model does on a unit, and how uncertain that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalkit.results.stats.clustered import Floats, Ints, sums_by

LEVELS = 32
"""Groups of units of similar difficulty, at most, in which a left-out run's values are averaged."""


@dataclass(frozen=True, eq=False)
class Difficulty:
    """What is expected of a new model, per unit of ``amounts``.

    Attributes:
        order: (U,), the mean of the reference runs.
        mean: (U,), the expected value of a new model.
        variance: (U,), its expected variance around that.
    """

    order: Floats
    mean: Floats
    variance: Floats


def difficulty_of(runs: Floats, amounts: Floats) -> Difficulty:
    """What a new model does where the runs have some mean, estimated by leaving out each run.

    With fewer than three runs the mean p of the runs itself is expected, with a variance of p (1 − p) and a little
    more, on the runs' scale.

    Args:
        runs: (runs, U), the values of the units in different reference runs.
        amounts: (U,), each unit's part of the score.
    """
    scores = runs / amounts
    order = scores.mean(axis=0)
    if len(runs) < 3:
        top = float(scores.max(initial=0.0)) or 1.0
        share = np.clip(order / top, 0.0, 1.0)
        return Difficulty(order, order, top**2 * (share * (1 - share) + 0.05))
    others = ((scores.sum(axis=0) - scores) / (len(runs) - 1)).ravel()
    group = groups(others, LEVELS)
    count = int(group.max()) + 1
    sizes = np.bincount(group, minlength=count)
    place, mean = sums_by(group, others, count) / sizes, sums_by(group, scores.ravel(), count) / sizes
    variance = sums_by(group, (scores.ravel() - mean[group]) ** 2, count) / sizes
    return Difficulty(order, np.interp(order, place, mean), np.interp(order, place, variance))


def groups(values: Floats, count: int) -> Ints:
    """(n,), numbers from 0: at most ``count`` groups of neighbouring values, equal ones in the same."""
    different, place, sizes = np.unique(np.round(values, 9), return_inverse=True, return_counts=True)
    if len(different) <= count:
        return np.asarray(place)
    middle = np.cumsum(sizes) - sizes / 2
    number = np.unique((middle * count / len(values)).astype(np.int64), return_inverse=True)[1]
    return np.asarray(number[place])
