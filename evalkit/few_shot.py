"""Few-shot examples (shots): samples with their answers in front of a question.

They come from the task's training split or from a custom task file, never from the split that is evaluated, and never
have the question's image (or, if it has none, its text).  The choice depends only on the seed, the sample and the pool,
not on batches, workers, ``--limit`` or the order of execution.

- ``random``: drawn per sample by (seed, sample id), as in the Qwen-VL report (arXiv 2308.12966, figure 4).
- ``fixed``: drawn once by the seed, for all samples.
- ``similar``: those with the most similar images (RICES, Yang et al. 2022, arXiv 2109.05014) by the model's own vision
  encoder; the most similar is last, next to the question.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from evalkit.data import Data
from evalkit.errors import UserError
from evalkit.file_task import FileTask
from evalkit.fingerprint import of_samples
from evalkit.interfaces import Backend, Family, Task
from evalkit.task_files import read_task_file
from evalkit.types import LOCATED, ImageRef, ImageSize, PromptSpec, Sample, Shot, Size

TRAIN = "train"
SIMILAR_POOL = 4096
"""Number of candidates for ``similar``, drawn by the seed: each image goes through the vision encoder."""


@dataclass(frozen=True)
class ShotPool:
    """The candidates for few-shot examples: samples that have answers.

    Attributes:
        file: the custom task file that they come from, if they do.
    """

    name: str
    samples: Sequence[Sample]
    file: FileTask | None = None

    def digest(self) -> str:
        """A digest of its samples, independent of their location."""
        return of_samples(self.samples)

    def earlier_digest(self) -> str | None:
        """The digest that earlier versions gave a custom task file, if it was another one; else None."""
        return None if self.file is None else self.file.earlier_annotations(self.samples)


def shot_pool(task: Task, split: str, data: Data, given: str | None) -> ShotPool:
    """The pool for ``task``/``split``: its training split in ``data``, or the task file ``given``.

    Raises:
        UserError: there is no pool, it is of another kind, or it is the split that is evaluated.
    """
    if given is not None:
        own = read_task_file(Path(given), task.kind)
        samples = tuple(own.load(data, own.default_splits[0]))
        if isinstance(task, FileTask) and own.digest == task.digest:
            raise UserError(f"--shots-from {given}: this file is evaluated itself; give another file.")
        return ShotPool(given, _without_turns(samples, given), own)
    if TRAIN not in task.splits:
        raise UserError(f"--shots: {task.name} has no training split to take examples from; give --shots-from FILE.")
    if split == TRAIN:
        raise UserError(
            f"--shots: examples come from {task.name}/{TRAIN}, which is evaluated itself; give --shots-from FILE."
        )
    name = f"{task.name}/{TRAIN}"
    return ShotPool(name, _without_turns(tuple(task.load(data, TRAIN)), name))


def _without_turns(samples: Sequence[Sample], name: str) -> Sequence[Sample]:
    """``samples``; refuses questions in conversations, of which an example would show only the last turn."""
    for sample in samples:
        if sample.turns:
            raise UserError(f"--shots: sample {sample.id} of {name} is a conversation, which cannot be an example.")
    return samples


class ShotSelector:
    """Chooses the few-shot examples of each sample.

    Args:
        embed: returns the backend whose embeddings ``similar`` compares; not needed otherwise.
    """

    def __init__(
        self, pool: ShotPool, count: int, selection: str, seed: int, embed: Callable[[], Backend] | None = None
    ) -> None:
        self._pool, self._count, self._selection, self._seed = pool, count, selection, seed
        self._embed = embed
        self._digests: dict[str, str] = {}
        self._vectors: Mapping[int, tuple[float, ...]] | None = None

    def select(self, sample: Sample) -> tuple[Sample, ...]:
        """The few-shot examples of ``sample`` in the order of the prompt.

        Raises:
            UserError: there are not enough with other images, or an image cannot be read.
        """
        chosen: list[Sample] = []
        for index in self._order(sample):
            candidate = self._pool.samples[index]
            if not self._same_image(candidate, sample) and not _same_text(candidate, sample):
                chosen.append(candidate)
            if len(chosen) == self._count:
                return tuple(reversed(chosen)) if self._selection == "similar" else tuple(chosen)
        raise UserError(
            f"--shots {self._count}: {self._pool.name} has only {len(chosen)} examples with other images than that "
            f"of sample {sample.id}; give fewer, or --shots-from a larger file."
        )

    def _order(self, sample: Sample) -> Iterator[int]:
        if self._selection == "similar":
            yield from self._by_similarity(sample)
        else:
            yield from random_order(
                len(self._pool.samples),
                f"{self._seed}/{sample.id}" if self._selection == "random" else f"{self._seed}",
            )

    def _by_similarity(self, sample: Sample) -> list[int]:
        if self._embed is None:
            raise UserError("--shots-by similar: this backend cannot compare images; use random or fixed.")
        if not sample.images:
            raise UserError(f"--shots-by similar: sample {sample.id} has no image to compare; use random or fixed.")
        backend = self._embed()
        if self._vectors is None:
            order = random_order(len(self._pool.samples), f"{self._seed}")
            some = sorted(islice((index for index in order if self._pool.samples[index].images), SIMILAR_POOL))
            self._vectors = dict(
                zip(some, _embedded(backend, [self._pool.samples[i].images[-1] for i in some]), strict=True)
            )
        (own,) = _embedded(backend, [sample.images[-1]])
        likeness = {
            index: math.fsum(a * b for a, b in zip(own, vector, strict=True)) for index, vector in self._vectors.items()
        }
        return sorted(likeness, key=lambda index: (-likeness[index], index))

    def _same_image(self, one: Sample, other: Sample) -> bool:
        return bool({self._digest(i) for i in one.all_images} & {self._digest(i) for i in other.all_images})

    def _digest(self, image: ImageRef) -> str:
        if image.name not in self._digests:
            try:
                self._digests[image.name] = image.digest()
            except (OSError, ValueError) as error:
                raise UserError(f"--shots: the image {image.name} cannot be read ({error}).") from error
        return self._digests[image.name]


def _same_text(one: Sample, other: Sample) -> bool:
    """Whether they are the same question without an image."""
    return not one.all_images and not other.all_images and one.text == other.text


def random_order(count: int, seed: str) -> Iterator[int]:
    """``range(count)`` in a random order, drawn lazily, since few of a large pool are needed."""
    draw = random.Random(seed)
    moved: dict[int, int] = {}  # Fisher-Yates shuffle; only entries that were swapped
    for place in range(count):
        other = draw.randrange(place, count)
        yield moved.get(other, other)
        moved[other] = moved.get(place, place)


def _embedded(backend: Backend, images: Sequence[ImageRef]) -> list[tuple[float, ...]]:
    try:
        return list(backend.embed(images))
    except OSError as error:
        raise UserError(f"--shots-by similar: an image cannot be read ({error}).") from error


def with_answers(
    samples: Sequence[Sample], spec: PromptSpec, family: Family, image_size: Callable[[Size], ImageSize]
) -> tuple[Shot, ...]:
    """Few-shot examples: ``samples`` with their answers as ``family`` would write them.

    Args:
        image_size: gives the size at which the model sees an image; for families whose boxes are in its pixels.
    """
    specs = [spec.of(sample) for sample in samples]
    return tuple(
        Shot(sample, family.answer(own, sample, _image_size(sample, own, image_size)))
        for sample, own in zip(samples, specs, strict=True)
    )


def _image_size(sample: Sample, spec: PromptSpec, image_size: Callable[[Size], ImageSize]) -> ImageSize:
    if spec.kind not in LOCATED:  # only coordinates depend on it, and reading headers takes time
        return ImageSize((1, 1), (1, 1))
    image = sample.images[-1]
    try:
        return image_size(image.size())
    except (OSError, ValueError) as error:
        raise UserError(f"--shots: the image {image.name} cannot be read ({error}).") from error
