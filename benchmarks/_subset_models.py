"""The models of ``benchmarks/subsets.py``: real ones' predictions, and simulated ones of many kinds.

Simulated answers are right with the probability of the two-parameter logistic model of item response theory,
p = 1 / (1 + exp(−a (θ − b))), for a model of ability θ and a sample of discrimination a and difficulty b.  Models of
one family share quirks: parts of the difficulties that other families do not have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalkit.results.stats.clustered import Floats, Ints

SCALE = 100.0
Items = tuple[Floats, Floats]
"""Discriminations and difficulties, (samples,) each."""


def blink(folder: Path) -> dict[str, Floats]:
    """(samples,) of each model, right or wrong; as also the following."""
    references = json.loads((folder / "val_answers.json").read_text())
    files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: np.array([SCALE * ((one.get(key) or "")[:3] == right) for key, right in references.items()])
            for name, one in files.items() if name != "val_answers"}  # fmt: skip


def math_vision(folder: Path) -> dict[str, Floats]:
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        correct = {line["id"]: SCALE * line["correct"] for line in lines}
        found[path.stem] = np.array([correct[key] for key in sorted(correct)])
    return found


def mathvista(folder: Path) -> dict[str, Floats]:
    files = {
        path.stem.removeprefix("output_"): json.loads(path.read_text()) for path in sorted(folder.glob("output_*"))
    }
    return {name: np.array([SCALE * bool(one[key].get("true_false")) for key in sorted(one)])
            for name, one in files.items()}  # fmt: skip


SETS: dict[str, Callable[[Path], dict[str, Floats]]] = {"blink": blink, "math_v": math_vision, "mathvista": mathvista}


def items(rng: np.random.Generator, count: int, discrimination: float) -> Items:
    return rng.lognormal(np.log(discrimination), 0.3, count), rng.normal(0, 1.5, count)


def answers(rng: np.random.Generator, of: Items, ability: float | Floats) -> Floats:
    """(samples,), 0 or 100, of a model; ``ability`` may differ between samples."""
    discrimination, difficulty = of
    return SCALE * (rng.random(len(difficulty)) < 1 / (1 + np.exp(-discrimination * (ability - difficulty))))


@dataclass(frozen=True)
class Kind:
    """A kind of benchmark, of its reference models and of new models.

    Attributes:
        discrimination: of the samples (median).
        abilities: of the references; none: one model of ability 0, given three times.
        new: mean and deviation of the new models' abilities.
        shuffled: whether new models find other samples difficult than the references do.
        dimensions: the number of abilities that samples ask for in different proportions.
        families: the families of the references, in turn.
        family: that of new models, which share its quirks.
        quirks: the deviation of a family's quirks.
        graded: ``vqa``, ``anls``, or empty for right or wrong.
        per_image: mean number of questions about an image.
        images: whether whole images are drawn, for a budget of ``size``.
    """

    discrimination: float = 2.0
    abilities: Sequence[float] = (-1.5, -1, -0.5, 0, 0.2, 0.5, 1, 1.5)
    new: tuple[float, float] = (0, 1)
    shuffled: bool = False
    dimensions: int = 1
    families: Sequence[int] = (0,)
    family: int = 0
    quirks: float = 0.0
    graded: str = ""
    per_image: int = 1
    images: bool = False


CHECKPOINTS = (-0.4, -0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3)
KINDS: dict[str, Kind] = {
    "discrimination 1.5": Kind(1.5),
    "discrimination 4": Kind(4),
    "discrimination 8": Kind(8),
    "discrimination 4, 20 references": Kind(4, tuple(np.linspace(-2, 2, 20))),
    "discrimination 0.5": Kind(0.5),
    "two abilities": Kind(4, dimensions=2),
    "checkpoints of a family": Kind(6, CHECKPOINTS, (0, 0.3), quirks=1),
    "another family": Kind(6, CHECKPOINTS, quirks=1, family=1),
    "two families": Kind(6, quirks=1, families=(0, 1)),
    "VQA accuracy": Kind(2, graded="vqa"),
    "ANLS": Kind(2, graded="anls"),
    "clustered by image": Kind(2, per_image=5),
    "whole images": Kind(2, per_image=5, images=True),
    "whole images, VQA accuracy": Kind(4, per_image=3, images=True, graded="vqa"),
    "one reference": Kind(2, (0,)),
    "two references": Kind(2, (0, 0.3)),
    "three identical references": Kind(2, ()),
    "weak references only": Kind(2, (-3, -2.8, -3.2, -2.5, -3.5), (0, 0.5)),
    "far better than all": Kind(2, (-1, -0.8, -1.3, -1.2, -0.5), (4, 0.1)),
    "all near the top": Kind(2, (3.5, 4, 4.2, 3.8), (4.3, 0.2)),
    "all near the bottom": Kind(2, (-3.5, -4, -4.2, -3.8), (-3, 0.2)),
    "other samples difficult": Kind(2, (-1, -0.5, 0, 0.5, 1), shuffled=True),
}


class Benchmark:
    """A simulated benchmark: the (references, samples) scores of its references, and new models."""

    def __init__(self, kind: Kind, samples: int, rng: np.random.Generator) -> None:
        self.kind, self.rng = kind, rng
        self.images: Ints = np.arange(samples)
        if kind.per_image > 1:
            sizes = rng.integers(1, 2 * kind.per_image, samples)
            self.images = np.repeat(np.arange(samples), sizes)[:samples]
        self.of = items(rng, samples, kind.discrimination)
        if kind.per_image > 1:
            self.of = self.of[0], 0.6 * self.of[1] + rng.normal(0, 1.2, samples)[self.images]
        self.quirks = rng.normal(0, kind.quirks, (2, samples))
        self.share = rng.random(samples)
        self.quality = rng.beta(4, 1, samples)
        found = [self._model(ability, kind.families[place % len(kind.families)])
                 for place, ability in enumerate(kind.abilities or (0.0,))]  # fmt: skip
        self.references = np.array(found if kind.abilities else found * 3)

    def new(self) -> Floats:
        """(samples,) scores of a new model."""
        return self._model(self.rng.normal(*self.kind.new), self.kind.family, self.kind.shuffled)

    def _model(self, ability: float, family: int, shuffled: bool = False) -> Floats:
        rng, (discrimination, difficulty) = self.rng, self.of
        able: Floats = np.full(len(difficulty), ability) + self.quirks[family]
        if self.kind.dimensions > 1:
            able = self.share * able + (1 - self.share) * rng.normal(0, 1)
        if self.kind.per_image > 1:
            able = able + rng.normal(0, 0.7, len(difficulty))[self.images]  # a model's own trouble with an image
        right = answers(rng, (discrimination, rng.permutation(difficulty) if shuffled else difficulty), able)
        if self.kind.graded == "vqa":  # ten annotators, of whom about ``quality`` agree with a right answer
            agreed = rng.binomial(10, np.where(right > 0, self.quality, 0.03))
            return np.array([0, 30, 60, 90, 100])[np.minimum(agreed, 4)].astype(np.float64)
        if self.kind.graded == "anls":
            return right * np.where(rng.random(len(right)) < 0.7, 1, rng.uniform(0.5, 1, len(right)))
        return right
