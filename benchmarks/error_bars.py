"""Coverage and power of the error bars, in simulated evaluations whose true scores are known.

    python benchmarks/error_bars.py
    python benchmarks/error_bars.py 1000 --only repeats --images 80,200 --metric exact_match

Coverage: the share of 95 % intervals that contain the true score.  False alarms: the share of gates that fail although
nothing is worse.  Power: the share that fail at the sample size computed for a power of 80 %.  With 1,000 repetitions,
a share of 95 % has a margin of ± 1.4 points, one of 80 % of ± 2.5.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from evalkit.interfaces import Task
from evalkit.jobs import Job, Record
from evalkit.results.stats.clustered import Measured, bootstrap, one_stratum
from evalkit.results.stats.error_bars import interval_of
from evalkit.results.stats.intervals import of_values
from evalkit.results.stats.paired import compare, needed
from evalkit.scoring import Result, score_job
from evalkit.types import Prediction, Response, Sample, Split

REPETITIONS = 1_000
QUESTIONS = 4.0
"""How alike an image's questions are: a question's chance has a beta distribution of this strength."""
TRUTH = 20
"""Evaluations of 1,000 images each whose mean is taken for the true value."""


def right_or_wrong(rng: np.random.Generator, images: int, level: float, alike: float) -> Measured:
    """Scores of images with 1 to 9 questions; an image's difficulty has a beta distribution around ``level`` (0 to 1).

    ``alike`` is the correlation of two questions of an image: a + b = 1 / alike − 1.
    """
    counts = rng.integers(1, 10, images)
    strength = 1 / alike - 1
    own = rng.beta(level * strength, (1 - level) * strength, images)
    clusters = np.repeat(np.arange(images), counts)
    return one_stratum(100.0 * (rng.random(len(clusters)) < own[clusters]), clusters)


def like_cider(rng: np.random.Generator, images: int) -> Measured:
    """Per-image scores as CIDEr's are: skewed, many near 0; one question an image.  The mean is 100."""
    return one_stratum(rng.gamma(1.2, 100 / 1.2, images), np.arange(images))


def coverage(
    draw: Callable[[np.random.Generator], Measured], truth: float, scale: float | None, repetitions: int
) -> dict[str, float]:
    """Shares of the evaluations whose interval holds ``truth``: as quoted in the table, and of the bootstrap alone."""
    rng = np.random.default_rng(20)
    quoted = percentile = wilson = 0
    for seed in range(repetitions):
        measured = draw(rng)
        found = interval_of(measured, scale=scale, seed=seed)
        assert found is not None
        half = found.half
        low, high = (found.low, found.high) if half is None else (measured.mean - half, measured.mean + half)
        quoted += low <= truth <= high
        ends = (found.low, found.high) if half is not None else bootstrap(measured.totals(), seed=seed)
        assert ends is not None
        percentile += ends[0] <= truth <= ends[1]
        wilson += found.method == "wilson"
    return {"quoted": quoted / repetitions, "bootstrap": percentile / repetitions, "wilson": wilson / repetitions}


def pair(rng: np.random.Generator, images: int, drop: float) -> tuple[Measured, Measured]:
    """Two models over the same questions: they find the same images hard, and the second is ``drop`` points worse."""
    counts = rng.integers(1, 10, images)
    clusters = np.repeat(np.arange(images), counts)
    own = rng.uniform(0.3, 0.9, images)[clusters]
    # Some questions are beyond both, so that the two agree more often than chance.
    hard = rng.random(len(clusters)) < 0.3
    first = np.where(hard, 0.1, own)
    second = first - drop / 100
    values = [100.0 * (rng.random(len(clusters)) < chance) for chance in (first, second)]
    return one_stratum(values[0], clusters), one_stratum(values[1], clusters)


def alarms(images: int, drop: float, repetitions: int, alpha: float = 0.05) -> float:
    """The share of evaluations in which the gate says worse."""
    rng = np.random.default_rng(21)
    hits = 0
    for seed in range(repetitions):
        before, after = pair(rng, images, drop)
        hits += compare(before, after, seed=seed).chance.worse <= alpha
    return hits / repetitions


def images_needed(drop: float, pilot: int = 2_000) -> int:
    """Images for a power of 80 % of the gate, from the standard error of a pilot."""
    before, after = pair(np.random.default_rng(22), pilot, 0.0)
    found = compare(before, after, seed=0)
    assert found.stderr is not None
    samples = needed(found.n, found.stderr, drop, sides=1)
    assert samples is not None
    return math.ceil(samples / found.n * pilot)


# ------------------------------------------------------------------------------------------------------------- repeats


class Own(Task):
    """A task whose samples are made up."""

    name = "own"
    version = 1
    kind = "yes_no"
    splits = {"val": Split(None)}

    def __init__(self, metric: str) -> None:
        self.metric = metric


def repeated(rng: np.random.Generator, metric: str, images: int, repeats: int, level: float, alike: float) -> Result:
    """An evaluation with ``repeats`` answers to each of 1 to 5 questions of ``images`` images, scored as a run's.

    Every question has its own probability of a right answer, with a beta distribution around its image's, which has one
    around ``level``.  References are yes or no.
    """
    strength = 1 / alike - 1
    samples, records = [], []
    for image, own in enumerate(rng.beta(level * strength, (1 - level) * strength, images)):
        for place in range(int(rng.integers(1, 6))):
            chance = rng.beta(max(own, 1e-9) * QUESTIONS, max(1 - own, 1e-9) * QUESTIONS)
            reference, other = ("yes", "no") if rng.random() < 0.5 else ("no", "yes")
            sample = Sample(f"{image}-{place}", (), "?", (reference,), str(image), meta={"category": "all"})
            samples.append(sample)
            for number, right in enumerate(rng.random(repeats) < chance, start=1):
                prediction = Prediction(reference if right else other)
                records.append(Record(sample, "", Response(sample.id), prediction, repeat=number))
    job = Job(Own(metric), "val", samples, limited=False, all_samples=samples, repeats=repeats)
    return score_job(job, records)


def repeats_coverage(
    metric: str, images: int, repeats: int, evaluations: int, level: float = 0.6, alike: float = 0.3
) -> dict[str, float]:
    """The share of the evaluations whose interval holds the true value, by value.

    The true values are the means over large evaluations with 20,000 images in all.
    """
    rng = np.random.default_rng(23)
    truth = dict.fromkeys(repeated(rng, metric, 50, repeats, level, alike).scores.values, 0.0)
    for _ in range(TRUTH):
        large = repeated(rng, metric, 1_000, repeats, level, alike)
        truth = {name: total + large.scores.values[name] / TRUTH for name, total in truth.items()}
    hits: Counter[str] = Counter()
    for _ in range(evaluations):
        result = repeated(rng, metric, images, repeats, level, alike)
        for name, row in of_values(result).items():
            half, value = row["ci95"], result.scores.values[name]
            low, high = (row["low"], row["high"]) if half is None else (value - half, value + half)
            hits[name] += low <= truth[name] <= high
    return {name: count / evaluations for name, count in hits.items()}


CASES: dict[str, tuple[Callable[[np.random.Generator], Measured], float, float | None]] = {
    "right/wrong 70 %, 300 images": (lambda rng: right_or_wrong(rng, 300, 0.7, 0.3), 70.0, 100.0),
    "right/wrong 30 %, 1,000 images": (lambda rng: right_or_wrong(rng, 1_000, 0.3, 0.1), 30.0, 100.0),
    "CIDEr-like, 500 images": (lambda rng: like_cider(rng, 500), 100.0, None),
    "CIDEr-like, 1,500 images": (lambda rng: like_cider(rng, 1_500), 100.0, None),
}
NEAR_THE_END: dict[str, tuple[Callable[[np.random.Generator], Measured], float, float | None]] = {
    "right/wrong 99 %, 100 images": (lambda rng: right_or_wrong(rng, 100, 0.99, 0.1), 99.0, 100.0),
    "right/wrong 99.5 %, 60 images": (lambda rng: right_or_wrong(rng, 60, 0.995, 0.3), 99.5, 100.0),
}


def intervals(repetitions: int) -> None:
    for title, cases in (("coverage", CASES), ("coverage near the end of the scale", NEAR_THE_END)):
        print(f"{title} of 95 % intervals, {repetitions:,} evaluations each")
        for name, (draw, truth, scale) in cases.items():
            found = coverage(draw, truth, scale, repetitions)
            print(f"  {name:32} {found['quoted']:6.1%} quoted, {found['bootstrap']:6.1%} bootstrap, "
                  f"{found['wilson']:4.0%} of them Wilson's")  # fmt: skip


def repeats(repetitions: int, counts: Sequence[int], metrics: Sequence[str]) -> None:
    for metric in metrics:
        for images in counts:
            print(f"coverage with 8 answers to each question, {images:,} images, {metric}, {repetitions:,} evaluations")
            found = repeats_coverage(metric, images, 8, repetitions)
            print("  " + ", ".join(f"{name} {share:.1%}" for name, share in found.items() if "[" not in name))


def gate(repetitions: int) -> None:
    for images in (200, 1_000):
        print(f"false alarms of the gate at α 5 %, {images} images: {alarms(images, 0.0, repetitions):.1%}")
    for drop in (2.0, 5.0):
        images = images_needed(drop)
        print(
            f"power at the {images:,} images computed for a drop of {drop:g}: {alarms(images, drop, repetitions):.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("repetitions", type=int, nargs="?", default=REPETITIONS, help="simulated evaluations per case")
    parser.add_argument("--only", choices=("intervals", "repeats", "gate"), help="one part of the simulation")
    parser.add_argument("--images", default="80,200", help="numbers of images of the evaluations with repeats")
    parser.add_argument(
        "--metric",
        default="exact_match,yes_no_accuracy,pope_pooled",
        help="metrics of the evaluations with repeats (exact_match, yes_no_accuracy, pope_pooled)",
    )
    options = parser.parse_args()
    try:
        counts = [int(count) for count in options.images.split(",")]
    except ValueError:
        parser.error(f"--images {options.images}: give numbers, such as 80,200")
    if options.repetitions < 1 or min(counts) < 2:
        parser.error("give at least 1 evaluation of at least 2 images")
    if options.only in (None, "intervals"):
        intervals(options.repetitions)
    if options.only in (None, "repeats"):
        repeats(options.repetitions, counts, options.metric.split(","))
    if options.only in (None, "gate"):
        gate(options.repetitions)


if __name__ == "__main__":
    main()
