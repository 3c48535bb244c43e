"""Draws from chosen and random subsets, for ``benchmarks/subsets.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from _subset_models import SCALE, Benchmark, Kind

from evalkit.results.stats.clustered import Floats, Ints
from evalkit.results.stats.designs import Estimate, estimate
from evalkit.results.stats.error_bars import t_quantile, wilson
from evalkit.results.subsets.chosen import Choice, Split, of_size, within_budget
from evalkit.results.subsets.methods import draw

PER_BENCHMARK = 100
"""New models for each simulated benchmark and its references."""
Trial = tuple[float, tuple[float, float, float], tuple[float, float, float]]
"""The complete score; the estimate and the ends of its interval from a chosen subset, and from random samples."""


def split_of(references: Floats, images: Ints | None = None) -> Split:
    count = references.shape[1]
    each = np.arange(count)
    return Split("", [], [str(one) for one in each], each if images is None else images, np.full(count, 1 / count),
                 references)  # fmt: skip


def chosen(references: Floats, size: int) -> Choice:
    """What ``evalkit subset`` chooses."""
    return of_size(split_of(references), size)


class Trials:
    """Draws from a chosen subset's design."""

    def __init__(self, choice: Choice) -> None:
        self.population, self.planned = choice.population, choice.planned
        self.known = self.planned.known(self.population.amounts, SCALE)

    def draw(self, scores: Floats, rng: np.random.Generator) -> Estimate:
        """The estimate of a model's score, given those of all samples."""
        population = self.population
        units = draw(self.planned, rng.random(len(population.amounts)))
        values = np.bincount(population.unit, population.parts * scores)[units]
        return estimate(self.known, self.planned.stratum[units], values, self.planned.covariates[units])

    def interval(self, scores: Floats, rng: np.random.Generator) -> tuple[float, float, float]:
        """(estimate, the ends of its interval) from one draw."""
        found = self.draw(scores, rng)
        return (found.value, *found.interval(SCALE))


def random_trial(scores: Floats, size: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """The same from random samples: Student's t interval, or Wilson's near the ends of the scale."""
    drawn = scores[rng.choice(len(scores), size, replace=False)]
    half = t_quantile(0.975, size - 1) * float(drawn.std(ddof=1)) / size**0.5
    value = float(drawn.mean())
    if value - half < 0 or value + half > SCALE or half == 0:
        low, high = wilson(value / SCALE, size)
        return value, low * SCALE, high * SCALE
    return value, value - half, value + half


def compare(trials: Sequence[Trial]) -> str:
    """Mean absolute errors, half widths and coverage."""
    truth = np.array([one[0] for one in trials])
    text = []
    errors = []
    for place, name in ((1, "chosen"), (2, "random")):
        value, low, high = np.array([one[place] for one in trials]).T
        errors.append(np.abs(value - truth).mean())
        inside = 100 * ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean()
        text.append(f"{name}: error {errors[-1]:5.2f}, ± {(high - low).mean() / 2:5.2f}, coverage {inside:5.1f} %")
    return f"{'; '.join(text)}; error ratio {errors[0] / errors[1]:.2f}"


def simulated(kind: Kind, models: int, size: int, samples: int) -> Iterator[tuple[Benchmark, Choice]]:
    """A benchmark and its chosen subset for each new model."""
    rng = np.random.default_rng(0)
    for number in range(models):
        if number % PER_BENCHMARK == 0:
            of = Benchmark(kind, samples, rng)
            split = split_of(of.references, of.images)
            choice = within_budget(split, size) if kind.images else of_size(split, size)
        yield of, choice
