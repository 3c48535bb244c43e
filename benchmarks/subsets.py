"""How much less a subset of ``evalkit subset`` errs than random samples, and whether its intervals and tests hold.

    python benchmarks/subsets.py predictions ../shared/predictions   # real models, each left out in turn
    python benchmarks/subsets.py bound ../shared/predictions         # how much any estimate could gain on them
    python benchmarks/subsets.py coverage --models 2000              # simulated models of many kinds
    python benchmarks/subsets.py gate --models 1000                  # the smallest loss that a gate finds
    python benchmarks/subsets.py drift --models 500                  # how often a model is said not to fit
    python benchmarks/subsets.py budget --models 500                 # whole images against samples of equal cost

``_subset_models.py`` describes the models.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from _subset_models import KINDS, SCALE, SETS, answers, items
from _subset_trials import Trial, Trials, chosen, compare, random_trial, simulated, split_of

from evalkit.results.stats.clustered import Floats, one_stratum
from evalkit.results.stats.designs import estimate
from evalkit.results.stats.paired import permutation
from evalkit.results.subsets.chosen import of_size
from evalkit.results.subsets.estimates import needed_for, t_test, with_total
from evalkit.results.subsets.methods import design, draw, left_out


def predictions(folder: Path, sizes: Sequence[int], draws: int) -> None:
    """Leave each real model out in turn, choose with the others, and estimate its score from ``draws`` draws."""
    rng = np.random.default_rng(0)
    for name, read in SETS.items():
        models = read(folder / name)
        scores = np.array(list(models.values()))
        for size in sizes:
            trials: list[Trial] = []
            for model, (values, others) in zip(models, left_out(scores), strict=True):
                planned = Trials(chosen(others, size))
                own: list[Trial] = [(values.mean(), planned.interval(values, rng), random_trial(values, size, rng))
                                    for _ in range(draws)]  # fmt: skip
                print(f"{name}, {size} samples, {model} ({values.mean():.1f}): {compare(own)}", flush=True)
                trials += own
            print(f"{name} ({len(scores)} models), {size} samples: {compare(trials)}", flush=True)


def bound(folder: Path) -> None:
    """How much less than random samples an estimate could err that knows how each model depends on the others.

    The model's answers are predicted from the others' to the same sample, by a ridge regression that was fitted on the
    other samples of the same model (five folds), which no small subset can know as well.  With residuals r of expected
    deviation s, equal chances leave an error in proportion to √mean r²; the best chances √(mean(r²/s) mean s).
    """
    for name, read in SETS.items():
        models = read(folder / name)
        scores = np.array(list(models.values())) / SCALE
        for model, (values, others) in zip(models, left_out(scores), strict=True):
            first, second = np.triu_indices(len(others), 1)
            text = []
            for what, features in (
                ("answers", others),
                ("and their products", [*others, *others[first] * others[second]]),
            ):
                expected = predicted(np.transpose(features), values)
                residuals = (values - expected) ** 2
                spread = np.sqrt(np.clip(expected, 0.02, 0.98) * (1 - np.clip(expected, 0.02, 0.98)))
                best = (residuals / spread).mean() * spread.mean()
                equal, best = np.sqrt([residuals.mean() / values.var(), best / values.var()])
                text.append(f"{what}: R² {1 - equal**2:.2f}, errors {equal:.2f} and {best:.2f}")
            print(f"{name}, {model}: {'; '.join(text)} of random samples'", flush=True)
        for size in (50, 100, 200):
            shrunk(name, list(models), scores, size)


def shrunk(name: str, models: Sequence[str], scores: Floats, size: int) -> None:
    """The error and coverage of random samples' means that are shrunk to the mean of the other models' scores.

    As empirical Bayes does, by the variance of the other models' scores.  Such an estimate is biased; its interval is
    that of the posterior distribution.
    """
    normal = NormalDist()
    squares, plain, covered = [], [], []
    for values, others in left_out(scores):
        known = others.mean(axis=1)
        error = values.var(ddof=1) * (1 / size - 1 / len(values))
        weight = known.var(ddof=1) / (known.var(ddof=1) + error)
        bias, deviation = (1 - weight) * (known.mean() - values.mean()), weight * error**0.5
        half = 1.96 * (weight * error) ** 0.5
        squares.append(bias**2 + deviation**2)
        plain.append(error)
        covered.append(normal.cdf((half - bias) / deviation) - normal.cdf((-half - bias) / deviation))
    least = int(np.argmin(covered))
    print(f"{name}, {size} random samples, shrunk to the other models' mean: root mean square error "
          f"{(np.mean(squares) / np.mean(plain)) ** 0.5:.2f} of unshrunk; coverage {100 * np.mean(covered):.0f} %, of "
          f"{models[least]} ({SCALE * scores[least].mean():.1f}) {100 * covered[least]:.0f} %", flush=True)  # fmt: skip


def predicted(features: Floats, values: Floats, penalty: float = 20.0, folds: int = 5) -> Floats:
    """Out-of-fold predictions of a ridge regression; folds are random."""
    fold = np.random.default_rng(0).integers(0, folds, len(values))
    found = np.empty(len(values))
    for one in range(folds):
        train = fold != one
        centre, mean = features[train].mean(axis=0), values[train].mean()
        x = features[train] - centre
        slope = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (values[train] - mean))
        found[~train] = mean + (features[~train] - centre) @ slope
    return found


def coverage(models: int, size: int, samples: int, names: Sequence[str]) -> None:
    """Estimate the scores of simulated models; the benchmark and its references are drawn anew for every 100."""
    for name in names:
        trials: list[Trial] = []
        planned = None
        for of, choice in simulated(KINDS[name], models, size, samples):
            if planned is None or planned.population is not choice.population:
                planned = Trials(choice)
            scores = of.new()
            drawn = random_trial(scores, size, of.rng)
            trials.append((scores.mean(), planned.interval(scores, of.rng), drawn))
        print(f"{name}, {size} samples: {compare(trials)}", flush=True)


LOSSES = np.array([0.0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15])


def gate(models: int, size: int, samples: int, references: int, discrimination: float, broken: bool) -> None:
    """Rejection rates of losses at α = 5 %: today's test on random samples, and that on a chosen subset.

    Both test a new checkpoint against the last of the ``references``, which answered the complete benchmark.  Today's
    is the paired permutation test on random samples; the other uses the reference's complete score.

    Args:
        broken: whether the loss is of right answers at random, instead of a loss of ability.
    """
    rng = np.random.default_rng(0)
    found = np.zeros((2, len(LOSSES)))
    differ = []
    top = 0.3
    for number in range(models):
        if number % 25 == 0:
            of = items(rng, samples, discrimination)
            runs = np.array([answers(rng, of, ability) for ability in np.linspace(-top, top, references)])
            base = runs[-1]
            choice = chosen(runs, size)
            planned, known = choice.planned, with_total(Trials(choice).known, base.mean())
            abilities = np.linspace(top - 2, top, 400)
            skewed = next(own for score, own in choice.skewness if abs(score - base.mean()) < 1e-6)
            curve = np.array([(1 / (1 + np.exp(-of[0] * (one - of[1])))).mean() * SCALE for one in abilities])
        for place, loss in enumerate(LOSSES):
            new = answers(rng, of, top if broken else float(np.interp(curve[-1] - loss, curve, abilities)))
            if broken:
                new = new * (rng.random(samples) >= loss / curve[-1])
            if not loss:
                differ.append((new != base).mean())
            drawn = rng.choice(samples, size, replace=False)
            gains = one_stratum(new[drawn] - base[drawn], np.arange(size))
            found[0, place] += permutation(gains.by_cluster(gains.values), seed=number).worse <= 0.05
            units = draw(planned, rng.random(samples))
            covariates = np.column_stack([planned.covariates[units], base[units] / samples])
            one = estimate(known, planned.stratum[units], new[units] / samples, covariates)
            variance = one.sampling + one.noise
            skewness = skewed * (one.sampling / variance) ** 1.5
            worse = t_test(one.value - base.mean(), variance**0.5, one.degrees, skewness).worse
            found[1, place] += worse <= 0.05
    found *= 100 / models
    smallest = [float(np.interp(80, np.maximum.accumulate(row), LOSSES)) for row in found]
    print(
        f"{references} references, discrimination {discrimination:g} ({100 * np.mean(differ):.0f} % of equal models' "
        f"answers differ), {'answers broken at random' if broken else 'less ability'}, {size} of {samples:,} samples"
    )
    for name, row in zip(("random, permutation test", "chosen, t test"), found, strict=True):
        print(
            f"  {name}: " + ", ".join(f"{loss:g} points {rate:.1f} %" for loss, rate in zip(LOSSES, row, strict=True))
        )
    print(f"  80 % power at {smallest[0]:.1f} and {smallest[1]:.1f} points: ratio {smallest[1] / smallest[0]:.2f}",
          flush=True)  # fmt: skip


def drift(models: int, size: int, samples: int, names: Sequence[str]) -> None:
    """How often a model is said not to fit, and the error with as many samples as are said to settle it."""
    for name in names:
        said, errors = 0, []
        expected = previous = None
        for of, choice in simulated(KINDS[name], models, size, samples):
            if choice is not previous:
                previous, expected, trials = choice, choice.expected, Trials(choice)
            assert expected is not None
            scores = of.new()
            needed = needed_for(expected, trials.draw(scores, of.rng), size)
            said += needed is not None
            if needed is not None and needed < samples and expected.error:
                population = choice.population
                larger = design(choice.method, population.runs, population.amounts, needed)
                sampling, noise = larger.variances_of(scores / samples)
                errors.append(((sampling - noise) ** 0.5 / expected.error, needed))
        text = f"{name}, {size} samples: {100 * said / models:.1f} % said not to fit"
        if errors:
            ratio, needed_ = np.array(errors).T
            text += (f"; with {needed_.mean():.0f} samples the error is {ratio.mean():.2f} of the expected one "
                     f"({np.quantile(ratio, 0.05):.2f} to {np.quantile(ratio, 0.95):.2f})")  # fmt: skip
        print(text, flush=True)


def budget(models: int, samples: int, names: Sequence[str]) -> None:
    """Standard errors of new models' scores: what is chosen for a budget, and single samples of equal cost."""
    for name in names:
        for cost in (50, 100, 200):
            found, images = [], 0
            previous = None
            for of, choice in simulated(KINDS[name], models, cost, samples):
                if choice is not previous:
                    previous, planned = choice, choice.planned
                    population = choice.population
                    single = of_size(split_of(of.references, of.images), cost)
                    alone = single.planned
                    units = [draw(planned, of.rng.random(len(population.amounts))) for _ in range(20)]
                    real = float(np.mean([population.costs[one].sum() for one in units]))
                    asked = float(np.mean([np.isin(population.unit, one).sum() for one in units]))
                scores = of.new() / samples
                own = np.subtract(*planned.variances_of(np.bincount(population.unit, scores)))
                other = np.subtract(*alone.variances_of(scores))
                found.append((own, other, scores.var(ddof=1) * samples**2 * (1 / cost - 1 / samples), real, asked))
                images += population.kind == "image"
            own, other, random, real, asked = np.mean(found, axis=0)
            print(f"{name}, budget {cost}: whole images in {100 * images / models:.0f} %, cost {real:.1f}, "
                  f"{asked:.0f} questions, standard error {own**0.5:.2f}; single samples {other**0.5:.2f}, random "
                  f"{random**0.5:.2f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("predictions")
    real.add_argument("folder", type=Path)
    real.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    real.add_argument("--draws", type=int, default=1000)
    commands.add_parser("bound").add_argument("folder", type=Path)
    tested = commands.add_parser("gate")
    tested.add_argument("--references", type=int, nargs="+", default=[8, 20])
    tested.add_argument("--discrimination", type=float, nargs="+", default=[1.5, 4.0, 8.0])
    tested.add_argument("--broken", action="store_true", help="lose right answers at random instead of ability")
    simulations = {"coverage": list(KINDS), "drift": [*KINDS], "budget": [n for n, k in KINDS.items() if k.images]}
    for name, kinds in simulations.items():
        commands.add_parser(name).add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    for name in ("gate", *simulations):
        commands.choices[name].add_argument("--models", type=int, default=1000)
        commands.choices[name].add_argument("--samples", type=int, default=2000)
    for name in ("gate", "coverage", "drift"):
        commands.choices[name].add_argument("--size", type=int, default=100)
    given = parser.parse_args()
    if given.command == "predictions":
        predictions(given.folder, given.sizes, given.draws)
    elif given.command == "bound":
        bound(given.folder)
    elif given.command == "coverage":
        coverage(given.models, given.size, given.samples, given.kinds)
    elif given.command == "drift":
        drift(given.models, given.size, given.samples, given.kinds)
    elif given.command == "budget":
        budget(given.models, given.samples, given.kinds)
    else:
        for count in given.references:
            for discrimination in given.discrimination:
                gate(given.models, given.size, given.samples, count, discrimination, given.broken)


if __name__ == "__main__":
    main()
