"""Time and memory to score a complete captioning split: ``python benchmarks/caption_speed.py``.

The size of COCO's Karpathy test split with five references per image.  Captions are synthetic: about ten words drawn
from a Zipf distribution, some shared by the captions of an image, so that every scorer has matches to count.
"""

from __future__ import annotations

import argparse
import random
import resource
import time

from evalkit.metrics.cider import METRIC
from evalkit.types import Answered, Prediction, Sample, Scores

WORDS = 8_000  # about the vocabulary of COCO's captions after the usual cut


def captions(images: int, references: int, seed: int = 0) -> list[Answered]:
    """Synthetic answers for ``images`` images with ``references`` references each; deterministic in ``seed``."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abdeiklmnoprstu", k=draw.randint(2, 9))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]

    def caption(shown: list[str]) -> str:
        words = [*draw.sample(shown, 4), *draw.choices(vocabulary, weights, k=draw.randint(4, 9))]
        draw.shuffle(words)
        return " ".join(words).capitalize() + "."

    answers = []
    for i in range(images):
        shown = draw.choices(vocabulary, weights, k=6)
        sample = Sample(str(i), (), "", tuple(caption(shown) for _ in range(references)), cluster=str(i))
        answers.append(Answered(sample, Prediction(caption(shown))))
    return answers


def measure(images: int = 5_000, references: int = 5) -> tuple[Scores, float, float, float]:
    """Scores, wall time in seconds, and peak memory in MB: of this process, and of its largest child (METEOR).

    They run side by side, so the machine needs up to their sum and 0.2 GB for the tokenizer.
    """
    answers = captions(images, references)
    began = time.perf_counter()
    scores = METRIC.score(answers)
    seconds = time.perf_counter() - began
    own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return scores, seconds, own, child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--references", type=int, default=5)
    arguments = parser.parse_args()
    scores, seconds, own, child = measure(arguments.images, arguments.references)
    print(", ".join(f"{name} {value:.2f}" for name, value in scores.values.items()))
    print(f"{arguments.images:,} images x {arguments.references} references, every metric: {seconds:.1f} s")
    print(f"peak memory: {own:,.0f} MB here, {child:,.0f} MB in the largest child")


if __name__ == "__main__":
    main()
