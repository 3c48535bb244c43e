"""Time and memory to score complete splits: ``python benchmarks/scorers.py``.

VQAv2 val (214,354 answers), the RefCOCO family's boxes (58,000), COCO's Karpathy test (5,000 captions with five
references each), all synthetic.  Each case runs in a new process, to measure its peak memory.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from evalkit import registry
from evalkit.types import Answered, Prediction, Sample, Scores

VQA_ANSWERS = 214_354
BOXES = 58_000


def vqa(count: int) -> list[Answered]:
    """Questions with ten annotators: a third unanimous, the rest with wordings that need normalising."""
    draw = random.Random(0)
    words = ["yes", "no", "2", "two", "a red bus", "The Red Bus.", "skateboard", "it's a dog", "dog", "left, side"]
    answers = []
    for number in range(count):
        first = draw.choice(words)
        given = tuple(first if number % 3 == 0 or draw.random() < 0.6 else draw.choice(words) for _ in range(10))
        meta = {"answer_type": draw.choice(("yes/no", "number", "other"))}
        sample = Sample(str(number), (), "", given, cluster=str(number // 5), meta=meta)
        answers.append(Answered(sample, Prediction(draw.choice(words))))
    return answers


def boxes(count: int) -> list[Answered]:
    """Boxes in a 640 × 480 image, half of them near the reference."""
    draw = random.Random(0)
    answers = []
    for number in range(count):
        x, y, w, h = draw.uniform(0, 500), draw.uniform(0, 350), draw.uniform(20, 140), draw.uniform(20, 130)
        shift = draw.choice((4.0, 90.0))
        read = (x + draw.uniform(-shift, shift), y + draw.uniform(-shift, shift), x + w, y + h)
        sample = Sample(str(number), (), "", ((x, y, x + w, y + h),), cluster=str(number // 7))
        answers.append(Answered(sample, Prediction(read)))
    return answers


def measure(metric: str, answers: list[Answered]) -> Scores:
    began = time.perf_counter()
    scores = registry.metrics.get(metric).score(answers)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{metric}: {len(answers):,} answers in {seconds:.1f} s, peak memory {peak:,.0f} MB")
    return scores


CASES: dict[str, Callable[[], object]] = {
    "vqa": lambda: measure("vqa_accuracy", vqa(VQA_ANSWERS)),
    "boxes": lambda: measure("iou", boxes(BOXES)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=CASES)
    case = parser.parse_args().case
    if case:
        CASES[case]()
        return
    for name in CASES:
        subprocess.run([sys.executable, __file__, name], check=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name("caption_speed.py"))], check=True)


if __name__ == "__main__":
    main()
