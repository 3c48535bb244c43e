from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.few_shot import ShotPool, ShotSelector, random_order, shot_pool, with_answers
from evalkit.images import PathImage
from evalkit.jsonl_task import read_jsonl_task
from evalkit.types import ImageRef, ImageSize, PromptSpec, Sample


@dataclass(frozen=True)
class Patch(ImageRef):
    """An image that is all ``color``."""

    name: str
    color: int

    def size(self) -> tuple[int, int]:
        return 8, 8

    def load(self) -> Image.Image:
        return Image.new("RGB", (8, 8), (self.color,) * 3)

    def digest(self) -> str:
        return str(self.color)


def sample(number: int, color: int | None = None) -> Sample:
    return Sample(
        f"{number}", (Patch(f"{number}.png", number if color is None else color),), "?", ("yes",), f"{number}"
    )


POOL = ShotPool("pool", [sample(n) for n in range(100)])
ASKED = [sample(1000 + n) for n in range(50)]


@pytest.mark.parametrize("selection", ["random", "fixed"])
def test_selection_depends_on_seed_sample_and_pool_only(selection: str) -> None:
    forwards, backwards = (ShotSelector(POOL, 4, selection, 3) for _ in range(2))
    first = {s.id: [e.id for e in forwards.select(s)] for s in ASKED}
    again = {s.id: [e.id for e in backwards.select(s)] for s in reversed(ASKED[10:])}
    assert again.items() <= first.items()
    assert all(len(set(ids)) == 4 for ids in first.values())
    other = ShotSelector(POOL, 4, selection, 4)
    assert [e.id for e in other.select(ASKED[0])] != first[ASKED[0].id]
    different = {tuple(ids) for ids in first.values()}
    assert len(different) == (1 if selection == "fixed" else len(ASKED))


def test_fewer_shots_are_first_of_more() -> None:
    two, eight = (ShotSelector(POOL, count, "random", 0) for count in (2, 8))
    for s in ASKED:
        assert eight.select(s)[:2] == two.select(s)


def test_selection_is_uniform() -> None:
    counts = Counter(
        e.id for s in [sample(n) for n in range(1000, 3000)] for e in ShotSelector(POOL, 2, "random", 0).select(s)
    )
    assert len(counts) == 100
    assert 15 < min(counts.values()) <= max(counts.values()) < 75  # 40 expected


def test_complete_draw_is_permutation() -> None:
    assert sorted(random_order(50, "x")) == list(range(50))
    assert list(random_order(50, "x")) == list(random_order(50, "x")) != list(random_order(50, "y"))
    assert len({next(iter(random_order(10, str(n)))) for n in range(200)}) == 10


@pytest.mark.parametrize("selection", ["random", "fixed"])
def test_examples_never_have_questions_image(selection: str) -> None:
    """Not by name, not by content under another name."""
    pool = ShotPool("pool", [sample(n, color=n % 3) for n in range(9)])
    asked = sample(99, color=1)
    for seed in range(20):
        chosen = ShotSelector(pool, 6, selection, seed).select(asked)
        assert {int(e.id) % 3 for e in chosen} == {0, 2}
    with pytest.raises(UserError, match="pool has only 6 examples with other images than that of sample 99"):
        ShotSelector(pool, 7, selection, 0).select(asked)


class ByColor:
    """Embeds an image as a direction in the plane."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        for image in images:
            self.asked.append(image.name)
            angle = image.load().getpixel((0, 0))[0] / 100  # type: ignore[index]
            yield math.cos(angle), math.sin(angle)


def test_most_similar_comes_last() -> None:
    backend = ByColor()
    selector = ShotSelector(POOL, 3, "similar", 0, lambda: backend)
    chosen = [int(e.id) for e in selector.select(replace(sample(500), images=(Patch("x", 40),)))]
    assert 40 not in chosen, "an image with the same content is not one of them"
    assert [abs(c - 40) for c in chosen] == [2, 1, 1]
    assert len(backend.asked) == 100 + 1, "the pool is embedded once"


def test_similar_requires_embeddings() -> None:
    with pytest.raises(UserError, match="this backend cannot compare images; use random or fixed"):
        ShotSelector(POOL, 1, "similar", 0).select(ASKED[0])


# ----------------------------------------------------------------------------------------------------------------- pools


def test_examples_come_from_training_split() -> None:
    task = registry.tasks.get("vqav2")
    pool = shot_pool(task, "val", open_data("tiny"), None)
    assert pool.name == "vqav2/train"
    evaluated = list(task.load(open_data("tiny"), "val"))
    assert not {s.id for s in pool.samples} & {s.id for s in evaluated}
    assert not {s.images[0].name for s in pool.samples} & {s.images[0].name for s in evaluated}


def test_never_from_evaluated_split() -> None:
    task = registry.tasks.get("vqav2")
    with pytest.raises(UserError, match="come from vqav2/train, which is evaluated itself; give --shots-from FILE"):
        shot_pool(task, "train", open_data("tiny"), None)
    with pytest.raises(UserError, match="gqa has no training split to take examples from; give --shots-from FILE"):
        shot_pool(registry.tasks.get("gqa"), "testdev_balanced", open_data("tiny"), None)


def test_examples_from_file(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    file = tmp_path / "mine.jsonl"
    file.write_text('{"id": "x", "image": "a.png", "question": "q?", "answers": ["yes"]}\n')
    pool = shot_pool(registry.tasks.get("gqa"), "testdev_balanced", open_data("tiny"), str(file))
    assert [s.id for s in pool.samples] == ["x"]
    with pytest.raises(UserError, match="--shots 2: .*mine.jsonl has only 1 examples"):
        ShotSelector(pool, 2, "random", 0).select(ASKED[0])
    own = read_jsonl_task(file, "vqa")
    with pytest.raises(UserError, match=r"mine\.jsonl: this file is evaluated itself; give another file"):
        shot_pool(own, own.default_splits[0], open_data("tiny"), str(file))
    before = pool.digest()
    file.write_text('{"id": "x", "image": "a.png", "question": "q?", "answers": ["no"]}\n')
    assert shot_pool(registry.tasks.get("gqa"), "testdev_balanced", open_data("tiny"), str(file)).digest() != before


def test_example_boxes_use_the_models_frame(tmp_path: Path) -> None:
    Image.new("RGB", (280, 140)).save(tmp_path / "a.png")
    box = Sample("1", (PathImage(str(tmp_path / "a.png")),), "dog", ((0.0, 0.0, 140.0, 70.0),), "1")
    family, spec = registry.families.get("qwen2.5-vl"), PromptSpec("refcoco", "grounding")
    (plain,) = with_answers([box], spec, family, family.image_size)
    assert "[0, 0, 140, 70]" in plain.answer
    (small,) = with_answers([box], spec, family, lambda size: ImageSize(size, (140, 84)))
    assert "[0, 0, 70, 42]" in small.answer
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"a.png cannot be read"):
        with_answers([box], spec, family, family.image_size)
