"""The workloads of ``throughput.py``: synthetic questions about synthetic images, shaped like real benchmarks.

Each mix has a benchmark's questions per image, image sizes, prompt lengths (the tiny checkpoint's tokenizer needs
about one token per word for the words below, as the released ones do for English) and answer lengths.  Images are
textured files on disk, so reading and decoding them costs as much as in a real run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from evalkit.images import PathImage
from evalkit.types import Decoding, ImagePart, Message, Request, Size, TextPart

WORDS = [
    "what", "color", "is", "the", "circle", "above", "red", "square", "how", "many", "stars", "are", "there", "in",
    "this", "picture", "which", "shape", "number", "shown", "on", "page", "for", "year", "with", "an", "purple",
    "triangle", "yellow", "option", "blue", "green", "black", "from", "total", "one", "or", "and", "question",
]  # fmt: skip


@dataclass(frozen=True)
class Mix:
    """A workload shaped like one benchmark.

    Attributes:
        questions: questions per image, cycled.
        sizes: (width, height) of the images, cycled; ``large`` is used on a GPU.
        page: text on white as PNG; otherwise a textured JPEG.
        words: range of words per question (uniform); ``suffix`` is appended to every question.
        limit: maximum tokens per answer.
        length: the mean answer length in tokens, without the end token.
        samples: default samples per round, on a CPU and on a GPU.
        images: the fewest and the most images of a question, for one question per image.
        shots: examples before each question, the same for all (``--shots-by fixed``), each with its image.
        repeats: how often each question is asked (``--repeats``; greedily, so that answers can be compared).
        shortest: if not 0, answers have lengths between this and ``limit`` with a heavy tail (a bounded Pareto
            distribution with exponent 0.5), each of which is that request's limit.
    """

    name: str
    questions: tuple[int, ...]
    sizes: tuple[Size, ...]
    large: tuple[Size, ...]
    words: tuple[int, int]
    suffix: str
    limit: int
    length: float
    samples: tuple[int, int]
    page: bool = False
    images: tuple[int, int] = (1, 1)
    shots: int = 0
    repeats: int = 1
    shortest: int = 0

    @property
    def images_each(self) -> float:
        """The mean number of images that a sample adds to those of others."""
        asked = self.repeats * sum(self.questions) / len(self.questions)
        return sum(self.images) / 2 / asked


COCO = ((640, 480), (640, 427), (480, 640), (640, 480), (500, 375))
SHORT = " Answer the question using a single word or phrase."

LETTER = " A. 12 B. 15 C. 19 D. 24 Answer with the option's letter from the given choices directly."

MIXES = (
    Mix("vqav2", (5, 6, 5), ((640, 480),), ((640, 480),), (4, 10), SHORT, 4, 2.0, (32, 1000)),
    Mix(
        "refcoco", (7, 8), ((640, 480),), ((640, 480),), (2, 7),
        " in this image and output the bbox coordinates in JSON format.", 30, 24.0, (30, 900),
    ),
    # A page of 1240 × 1600 is 2,508 visual tokens: too many for a CPU, which gets it at half the resolution.
    Mix("docvqa", (10,), ((620, 800),), ((1240, 1600),), (6, 14), SHORT, 15, 8.0, (20, 320), page=True),
    Mix("caption", (1,), COCO, COCO, (0, 0), "Describe this image in one short sentence.", 30, 14.0, (16, 512)),
    Mix("textvqa", (1,), COCO, ((1024, 768), (768, 1024), (1024, 683)), (5, 11), SHORT, 10, 4.0, (16, 320)),
    Mix("mmmu", (1,), COCO, ((1024, 768), (640, 480)), (20, 60), LETTER, 2, 1.0, (12, 320), images=(1, 3)),
    Mix("fewshot", (1,), COCO, COCO, (5, 11), SHORT, 10, 4.0, (12, 320), shots=4),
    Mix("long", (6,), ((640, 480),), ((640, 480),), (8, 20), " Think step by step.", 376, 78.0, (24, 128), shortest=16),
    # Of a model that thinks.
    Mix("thinking", (6,), ((640, 480),), ((640, 480),), (8, 20), " Think.", 2048, 181.0, (12, 128), shortest=16),
    Mix("repeats", (1,), COCO, COCO, (5, 11), " Explain your answer.", 60, 40.0, (32, 512), repeats=8),
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """An image before that of the question.

    Attributes:
        text: after the image; ``answer`` ends the turn, and is empty if the image is another one of the same question.
    """

    path: Path
    size: Size
    text: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Query:
    """A question about an image, with others before it."""

    id: str
    path: Path
    size: Size
    text: str
    limit: int
    before: tuple[Shown, ...] = ()

    @property
    def shown(self) -> tuple[Shown, ...]:
        """All images, the question's last, with the texts after them."""
        return (*self.before, Shown(self.path, self.size, self.text))

    @property
    def request(self) -> Request:
        """The request for evalkit's backends."""
        messages: list[Message] = []
        content: list[ImagePart | TextPart] = []
        for one in self.shown:
            content += [ImagePart(PathImage(str(one.path))), *((TextPart(one.text),) if one.text else ())]
            if one.answer:
                messages += [Message("user", tuple(content)), Message("assistant", (TextPart(one.answer),))]
                content = []
        return Request(self.id, (*messages, Message("user", tuple(content))), Decoding(self.limit))


def draw(mix: Mix, count: int, folder: Path, *, seed: str, large: bool) -> list[Query]:
    """Draw ``count`` questions of a mix and write their images to ``folder``; each seed gives different images."""
    rng = random.Random(f"{seed}/{mix.name}")
    sizes = mix.large if large else mix.sizes
    queries: list[Query] = []
    wanted: list[tuple[Path, Size, int]] = []

    def image() -> tuple[Path, Size]:
        place = len(wanted)
        size = sizes[place % len(sizes)]
        path = folder / f"{mix.name}-{seed}-{place}.{'png' if mix.page else 'jpg'}"
        wanted.append((path, size, rng.randrange(2**32)))
        return path, size

    def limit() -> int:
        if not mix.shortest:
            return mix.limit
        low, high = mix.shortest**-0.5, mix.limit**-0.5
        return round((low - rng.random() * (low - high)) ** -2)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(*mix.words))).capitalize() + mix.suffix

    examples = tuple(Shown(*image(), text(), rng.choice(WORDS)) for _ in range(mix.shots))
    first = len(wanted)
    while len(queries) < count:
        questions = mix.questions[(len(wanted) - first) % len(mix.questions)]
        others = tuple(Shown(*image()) for _ in range(rng.randint(*mix.images) - 1))
        path, size = image()
        for _ in range(questions):
            asked = text()
            for _ in range(mix.repeats):
                if len(queries) < count:
                    name = f"{mix.name}-{seed}-{len(queries)}"
                    queries.append(Query(name, path, size, asked, limit(), (*examples, *others)))

    def paint(image: tuple[Path, Size, int]) -> None:
        path, size, number = image
        (_page if mix.page else paint_scene)(size, number).save(path, **({} if mix.page else {"quality": 90}))

    with ThreadPoolExecutor() as pool:
        list(pool.map(paint, wanted))
    return queries


def images(queries: Sequence[Query]) -> int:
    """The number of distinct images."""
    return len({shown.path for one in queries for shown in one.shown})


def paint_scene(size: Size, seed: int) -> Image.Image:
    """Smooth colours, shapes and grain: about 100 kB as a JPEG of 640 × 480, like a photograph."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    image = small.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(20, size[0] // 3), rng.integers(20, size[1] // 3)
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((int(x), int(y), int(x + w), int(y + h)), fill=tuple(int(c) for c in rng.integers(0, 256, 3)))
    grain = rng.normal(0, 12, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def _page(size: Size, seed: int) -> Image.Image:
    """Lines of words on slightly noisy paper."""
    rng = np.random.default_rng(seed)
    paper = 245 + rng.normal(0, 3, (size[1], size[0], 1))
    image = Image.fromarray(np.clip(np.repeat(paper, 3, axis=2), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for y in range(30, size[1] - 30, 16):
        words = rng.choice(WORDS, size=int(rng.integers(2, 14)))
        pen.text((30, y), f"{rng.integers(1, 10_000)}  " + " ".join(words), fill=(20, 20, 30))
    return image
