"""How much less a subset of ``evalkit subset`` errs than random samples, and whether its intervals and tests hold.

    python benchmarks/subsets.py predictions ../shared/predictions   # real models, each left out in turn
    python benchmarks/subsets.py coverage --models 1000              # simulated models of many kinds
    python benchmarks/subsets.py gate --models 1000                  # the smallest loss that a gate finds

``predictions`` reads the answers of several models to BLINK, MATH-Vision and MathVista in the formats of their
repositories.  Simulated answers are right with the probability of the two-parameter logistic model of item response
theory, p = 1 / (1 + exp(−a (θ − b))), for a model of ability θ and a sample of discrimination a and difficulty b.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from evalkit.results.stats.clustered import Floats, one_stratum
from evalkit.results.stats.designs import estimate
from evalkit.results.stats.error_bars import t_quantile, wilson
from evalkit.results.stats.paired import permutation
from evalkit.results.subsets.estimates import t_test, with_total
from evalkit.results.subsets.methods import Design, cross_validate, design, distinct, draw, left_out

SCALE = 100.0
Items = tuple[Floats, Floats]
"""Discriminations and difficulties, (samples,) each."""


def blink(folder: Path) -> Floats:
    """(models, samples), right or wrong; as also the following."""
    references = json.loads((folder / "val_answers.json").read_text())
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.stem != "val_answers"]
    return np.array([[SCALE * ((one.get(key) or "")[:3] == right) for key, right in references.items()]
                     for one in files])  # fmt: skip


def math_vision(folder: Path) -> Floats:
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        rows.append({line["id"]: SCALE * line["correct"] for line in lines})
    return np.array([[row[key] for key in sorted(rows[0])] for row in rows])


def mathvista(folder: Path) -> Floats:
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("output_*.json"))]
    return np.array([[SCALE * bool(one[key].get("true_false")) for key in sorted(files[0])] for one in files])


SETS: dict[str, Callable[[Path], Floats]] = {"blink": blink, "math_v": math_vision, "mathvista": mathvista}


def chosen(references: Floats, size: int) -> Design:
    """The design that ``evalkit subset`` chooses."""
    count = references.shape[1]
    runs, amounts = distinct(references) / count, np.full(count, 1 / count)
    return design(cross_validate(runs, amounts, size).best, runs, amounts, size)


def trial(planned: Design, scores: Floats, rng: np.random.Generator) -> tuple[float, float, float]:
    """(estimate, the ends of its interval) from one draw."""
    count = len(scores)
    units = draw(planned, rng.random(count))
    known = planned.known(np.full(count, 1 / count), SCALE)
    found = estimate(known, planned.stratum[units], scores[units] / count, planned.covariates[units])
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


def compare(trials: Sequence[tuple[float, tuple[float, float, float], tuple[float, float, float]]]) -> str:
    """Mean absolute errors, half widths and coverage of (truth, chosen, random) trials."""
    truth = np.array([one[0] for one in trials])
    text = []
    errors = []
    for place, name in ((1, "chosen"), (2, "random")):
        value, low, high = np.array([one[place] for one in trials]).T
        errors.append(np.abs(value - truth).mean())
        inside = 100 * ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean()
        text.append(f"{name}: error {errors[-1]:5.2f}, ± {(high - low).mean() / 2:5.2f}, coverage {inside:5.1f} %")
    return f"{'; '.join(text)}; error ratio {errors[0] / errors[1]:.2f}"


def predictions(folder: Path, sizes: Sequence[int], draws: int) -> None:
    """Leave each real model out in turn, choose with the others, and estimate its score from ``draws`` draws."""
    rng = np.random.default_rng(0)
    for name, read in SETS.items():
        scores = read(folder / name)
        for size in sizes:
            trials = []
            for values, others in left_out(scores):
                planned = chosen(others, size)
                for _ in range(draws):
                    trials.append((values.mean(), trial(planned, values, rng), random_trial(values, size, rng)))
            print(f"{name} ({len(scores)} models), {size} samples: {compare(trials)}", flush=True)


def items(rng: np.random.Generator, count: int, discrimination: float) -> Items:
    return rng.lognormal(np.log(discrimination), 0.3, count), rng.normal(0, 1.5, count)


def answers(rng: np.random.Generator, of: Items, ability: float) -> Floats:
    discrimination, difficulty = of
    return SCALE * (rng.random(len(difficulty)) < 1 / (1 + np.exp(-discrimination * (ability - difficulty))))


KINDS: dict[str, tuple[float, Sequence[float], tuple[float, float]]] = {
    "8 references": (1.5, (-1.5, -1, -0.5, 0, 0.2, 0.5, 1, 1.5), (0, 1)),
    "8 references, steep": (4, (-1.5, -1, -0.5, 0, 0.2, 0.5, 1, 1.5), (0, 1)),
    "20 references, steep": (4, tuple(np.linspace(-2, 2, 20)), (0, 1)),
    "8 references, flat": (0.5, (-1.5, -1, -0.5, 0, 0.2, 0.5, 1, 1.5), (0, 1)),
    "1 reference": (2, (0,), (0, 1)),
    "2 references": (2, (0, 0.3), (0, 1)),
    "3 identical references": (2, (), (0, 1)),
    "only weak references": (2, (-3, -2.8, -3.2, -2.5, -3.5), (0, 0.5)),
    "far better than all": (2, (-1, -0.8, -1.3, -1.2, -0.5), (4, 0.1)),
    "near the top": (2, (3.5, 4, 4.2, 3.8), (4.3, 0.2)),
    "another order": (2, (-1, -0.5, 0, 0.5, 1), (0, 1)),
}
"""Name → discrimination, abilities of the references, mean and deviation of the new models' abilities."""


def coverage(models: int, size: int, samples: int, names: Sequence[str]) -> None:
    """Estimate the scores of simulated models; the benchmark and its references are drawn anew for every 50."""
    for name in names:
        rng = np.random.default_rng(0)
        discrimination, abilities, (mean, deviation) = KINDS[name]
        trials = []
        for number in range(models):
            if number % 50 == 0:
                of = items(rng, samples, discrimination)
                runs = [answers(rng, of, ability) for ability in abilities] or [answers(rng, of, 0.0)] * 3
                planned = chosen(np.array(runs), size)
            shown = (of[0], rng.permutation(of[1])) if name == "another order" else of
            scores = answers(rng, shown, rng.normal(mean, deviation))
            trials.append((scores.mean(), trial(planned, scores, rng), random_trial(scores, size, rng)))
        print(f"{name}, {size} samples: {compare(trials)}", flush=True)


def gate(models: int, size: int, samples: int, references: int, discrimination: float) -> None:
    """Rejection rates of losses at α = 5 %: today's test on random samples, and that on a chosen subset.

    Both test a new model against the last reference, which answered the complete benchmark.  Today's is the paired
    permutation test on the same random samples; the other uses the reference's complete score.
    """
    rng = np.random.default_rng(0)
    losses = np.array([0.0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15])
    found = np.zeros((2, len(losses)))
    amounts = np.full(samples, 1 / samples)
    for number in range(models):
        if number % 25 == 0:
            of = items(rng, samples, discrimination)
            runs = np.array([answers(rng, of, ability) for ability in np.linspace(-0.3, 0.3, references)])
            base, ability = answers(rng, of, 0.3), 0.3
            planned = chosen(np.array([*runs, base]), size)
            known = planned.known(amounts, SCALE)
            known = with_total(known, base.mean())
            abilities = np.linspace(ability - 2, ability, 400)
            curve = np.array([(1 / (1 + np.exp(-of[0] * (one - of[1])))).mean() * SCALE for one in abilities])
        for place, loss in enumerate(losses):
            new = answers(rng, of, float(np.interp(curve[-1] - loss, curve, abilities)))
            drawn = rng.choice(samples, size, replace=False)
            gains = one_stratum(new[drawn] - base[drawn], np.arange(size))
            found[0, place] += permutation(gains.by_cluster(gains.values), seed=number).worse <= 0.05
            units = draw(planned, rng.random(samples))
            covariates = np.column_stack([planned.covariates[units], base[units] / samples])
            one = estimate(known, planned.stratum[units], new[units] / samples, covariates)
            worse = t_test(one.value - base.mean(), (one.sampling + one.noise) ** 0.5, one.degrees).worse
            found[1, place] += worse <= 0.05
    found *= 100 / models
    smallest = [float(np.interp(80, np.maximum.accumulate(row), losses)) for row in found]
    print(f"{references + 1} references, discrimination {discrimination:g}, {size} of {samples:,} samples")
    for name, row in zip(("random, permutation test", "chosen, t test"), found, strict=True):
        print(
            f"  {name}: " + ", ".join(f"{loss:g} points {rate:.1f} %" for loss, rate in zip(losses, row, strict=True))
        )
    print(f"  80 % power at {smallest[0]:.1f} and {smallest[1]:.1f} points: ratio {smallest[1] / smallest[0]:.2f}",
          flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("predictions")
    real.add_argument("folder", type=Path)
    real.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    real.add_argument("--draws", type=int, default=200)
    simulated = commands.add_parser("coverage")
    simulated.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    tested = commands.add_parser("gate")
    tested.add_argument("--references", type=int, default=7)
    tested.add_argument("--discrimination", type=float, nargs="+", default=[1.5, 4.0, 8.0])
    for command in (simulated, tested):
        command.add_argument("--models", type=int, default=1000)
        command.add_argument("--size", type=int, default=100)
        command.add_argument("--samples", type=int, default=2000)
    given = parser.parse_args()
    if given.command == "predictions":
        predictions(given.folder, given.sizes, given.draws)
    elif given.command == "coverage":
        coverage(given.models, given.size, given.samples, given.kinds)
    else:
        for discrimination in given.discrimination:
            gate(given.models, given.size, given.samples, given.references, discrimination)


if __name__ == "__main__":
    main()
