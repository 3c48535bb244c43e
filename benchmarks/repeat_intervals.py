"""Coverage of the 95 % intervals over repeated samples: the mean, pass@4, pass@8 and the majority vote of 8 answers.

    python benchmarks/repeat_intervals.py
    python benchmarks/repeat_intervals.py --images 80,200 --levels 0.6 --alike 0.3 --evaluations 2000

The simulated evaluations are those of ``error_bars.py`` (a question's chance of a right answer has a beta distribution
around its image's, which has one around the level), but only the interval is computed, not the complete score, so that
a grid takes minutes.  The true values come from a million questions.  ``symmetric`` is the rule for single answers.
With 2,000 evaluations, a share of 95 % has a margin of ± 1 point.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.repeats import pass_at
from evalkit.results.stats.clustered import one_stratum
from evalkit.results.stats.error_bars import ends_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REPEATS = 8
QUESTIONS = 4.0
"""As in ``error_bars.py``: how alike an image's questions are."""
TRUTH = 1_000_000
PASSED: Mapping[str, Floats] = {
    f"pass@{k}": np.array([pass_at(k, REPEATS, right) for right in range(REPEATS + 1)]) for k in (4, REPEATS)
}


def right_answers(rng: np.random.Generator, images: Ints, level: float, alike: float) -> Ints:
    """(questions,), how many answers are right; ``images``, (questions,), are numbers from 0 without gaps."""
    strength = 1 / alike - 1
    own = np.clip(rng.beta(level * strength, (1 - level) * strength, int(images[-1]) + 1), 1e-9, 1 - 1e-9)[images]
    found: Ints = rng.binomial(REPEATS, rng.beta(own * QUESTIONS, (1 - own) * QUESTIONS))
    return found


def values(rng: np.random.Generator, right: Ints) -> dict[str, Floats]:
    """The questions' scores from 0 to 100.  Of a tie, the answer that was given first wins."""
    first = rng.random(len(right)) < 0.5
    vote = np.where(2 * right == REPEATS, first, 2 * right > REPEATS)
    found = {"mean": right / REPEATS, **{name: table[right] for name, table in PASSED.items()}, "maj@8": vote}
    return {name: 100.0 * value for name, value in found.items()}


def coverage(
    images: int, most: int, level: float, alike: float, evaluations: int
) -> dict[str, tuple[float, float, float]]:
    """By value: its true value, and the shares of evaluations whose interval holds it, of both rules.

    Args:
        most: the largest number of questions of an image, from 1.
    """
    rng = np.random.default_rng(24)
    large = right_answers(rng, np.arange(TRUTH), level, alike)
    truth = {name: float(value.mean()) for name, value in values(rng, large).items()}
    hits: Counter[tuple[str, bool]] = Counter()
    for _ in range(evaluations):
        clusters = np.repeat(np.arange(images), rng.integers(1, most + 1, images))
        for name, value in values(rng, right_answers(rng, clusters, level, alike)).items():
            measured = one_stratum(value, clusters)
            for repeated in (True, False):
                ends = ends_of(measured, scale=100.0, repeated=repeated)
                hits[name, repeated] += ends is not None and ends.low <= truth[name] <= ends.high
    return {name: (truth[name], hits[name, True] / evaluations, hits[name, False] / evaluations) for name in truth}


def numbers(kind: type[Any], text: str) -> list[Any]:
    return [kind(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", default="20,40,80,200,1000", help="numbers of images")
    parser.add_argument("--questions", default="1,5", help="largest numbers of questions of an image")
    parser.add_argument("--levels", default="0.05,0.2,0.4,0.6,0.8,0.9,0.95", help="mean chances of a right answer")
    parser.add_argument("--alike", default="0.1,0.3,0.6", help="correlations of an image's questions")
    parser.add_argument("--evaluations", type=int, default=2_000, help="simulated evaluations per case")
    options = parser.parse_args()
    try:
        images, questions = numbers(int, options.images), numbers(int, options.questions)
        levels, alike = numbers(float, options.levels), numbers(float, options.alike)
    except ValueError:
        parser.error("give numbers with commas between them, such as --images 80,200")
    if min(images) < 2 or min(questions) < 1 or options.evaluations < 1:
        parser.error("give at least 2 images, 1 question and 1 evaluation")
    if not all(0 < number < 1 for number in (*levels, *alike)):
        parser.error("--levels and --alike are between 0 and 1")
    print("images  questions  alike  value     true   covered  symmetric")
    for count in images:
        for most in questions:
            for correlation in alike:
                for level in levels:
                    for name, row in coverage(count, most, level, correlation, options.evaluations).items():
                        print(
                            f"{count:6,}  {f'1-{most}' if most > 1 else '1':>9}  {correlation:5}  {name:6}  "
                            f"{row[0]:6.1f}  {row[1]:8.1%}  {row[2]:9.1%}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
