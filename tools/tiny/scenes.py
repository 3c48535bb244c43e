"""Synthetic scenes: what is in them, and how they are drawn with Pillow.

Three sorts: coloured *shapes*, one large *number*, and a small *page* with labelled values.  A scene is described in
unit coordinates (0..1 of the image's width and height) and drawn at any size, so that the original and the resized
image differ, as for photographs.

The digest of a scene decides whether it is held out (one in eight); training never uses those.  The digest is that
of the ``repr``, so renaming a class or a field here changes the bundled data.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 40),
    "purple": (140, 50, 170),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "star")
LABELS = ("total", "tax", "code", "page", "room", "year")

HELD_OUT_ONE_IN = 8


@dataclass(frozen=True)
class Thing:
    """One coloured shape; ``box`` is (x1, y1, x2, y2) in unit coordinates."""

    color: str
    shape: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """An image's content: ``things``, a ``number`` (``number_at``: place and size, all 0..1), or a page's ``rows``."""

    sort: Literal["shapes", "number", "page"]
    things: tuple[Thing, ...] = ()
    number: str = ""
    number_color: str = ""
    number_at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rows: tuple[tuple[str, str], ...] = ()
    background: tuple[int, int, int] = (255, 255, 255)

    @property
    def held_out(self) -> bool:
        """Whether the scene is kept for evaluation; depends only on its content."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0


def _overlap(a: tuple[float, ...], b: tuple[float, ...], gap: float) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _shapes(rng: random.Random, count: int) -> tuple[Thing, ...]:
    while True:
        kinds = rng.sample([(color, shape) for color in COLORS for shape in SHAPES], count)
        if count > 1 and rng.random() < 0.5:  # repeated shapes and colours make counting and finding harder
            color, shape = kinds[0]
            pool = [(c, shape) for c in COLORS] if rng.random() < 0.65 else [(color, s) for s in SHAPES]
            kinds = [kinds[0], *rng.sample([k for k in pool if k != kinds[0]], min(count, len(pool)) - 1)]
            rng.shuffle(kinds)
        boxes: list[tuple[float, float, float, float]] = []
        for _ in range(60):
            width = rng.uniform(0.22, 0.40)
            height = width * rng.uniform(0.9, 1.1)
            x, y = rng.uniform(0.02, 0.98 - width), rng.uniform(0.02, 0.98 - height)
            box = (round(x, 4), round(y, 4), round(x + width, 4), round(y + height, 4))
            apart = all(abs((box[0] + box[2]) - (b[0] + b[2])) > 0.16 for b in boxes)  # a clear left-to-right order
            if apart and not any(_overlap(box, b, 0.02) for b in boxes):
                boxes.append(box)
            if len(boxes) == len(kinds):
                return tuple(Thing(c, s, b) for (c, s), b in zip(kinds, boxes, strict=True))


SORTS = (0.56, 0.22, 0.22)  # shares of images with shapes, a number, a page


def _draw_scene(rng: random.Random, sorts: tuple[float, float, float]) -> Scene:
    background = (rng.randint(225, 255), rng.randint(225, 255), rng.randint(225, 255))
    sort = rng.choices(("shapes", "number", "page"), sorts)[0]
    if sort == "shapes":
        return Scene("shapes", things=_shapes(rng, rng.choice((1, 2, 2, 3, 3, 4))), background=background)
    if sort == "number":
        number = str(rng.randint(10, 999) if rng.random() < 0.6 else rng.randint(10, 99))
        size = rng.uniform(0.34, 0.46)
        at = (round(rng.uniform(0, 1), 3), round(rng.uniform(0, 1), 3), round(size, 3))
        return Scene(
            "number", number=number, number_color=rng.choice(list(COLORS)), number_at=at, background=background
        )
    labels = rng.sample(LABELS, rng.choice((2, 3)))
    return Scene("page", rows=tuple((label, str(rng.randint(10, 99))) for label in labels), background=background)


def draw_scene(
    rng: random.Random,
    *,
    held_out: bool,
    sort: str | None = None,
    sorts: tuple[float, float, float] = SORTS,
) -> Scene:
    """A random scene that is held out or not, as asked, and of ``sort`` if given."""
    while True:
        scene = _draw_scene(rng, sorts)
        if scene.held_out == held_out and (sort is None or scene.sort == sort):
            return scene


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _star(x1: float, y1: float, x2: float, y2: float) -> list[tuple[float, float]]:
    # A five-pointed star in the unit square, touching all four sides.
    tips = [
        (0.5, 0.0), (0.618, 0.382), (1.0, 0.382), (0.691, 0.618), (0.809, 1.0),
        (0.5, 0.764), (0.191, 1.0), (0.309, 0.618), (0.0, 0.382), (0.382, 0.382),
    ]  # fmt: skip
    return [(x1 + u * (x2 - x1), y1 + v * (y2 - y1)) for u, v in tips]


@dataclass(frozen=True)
class Line:
    """A piece of text to draw: its top left corner and font size in pixels."""

    text: str
    x: float
    y: float
    size: int
    color: tuple[int, int, int]


def lines(scene: Scene, width: int, height: int) -> list[Line]:
    """The texts of a scene with their positions in an image of ``width`` × ``height`` pixels."""
    if scene.sort == "number":
        u, v, size = scene.number_at
        pixels = round(size * height)
        x1, y1, x2, y2 = _font(pixels).getbbox(scene.number)
        left, top = 3 + u * (width - 6 - (x2 - x1)), 3 + v * (height - 6 - (y2 - y1))
        return [Line(scene.number, left - x1, top - y1, pixels, COLORS[scene.number_color])]
    found = []
    for number, (label, value) in enumerate(scene.rows):
        y = 0.06 * height + number * height / 3.2
        for text, x in ((label, 0.05), (value, 0.66)):
            found.append(Line(text, x * width, y, round(0.17 * height), (30, 30, 30)))
    return found


def value_box(row: int) -> tuple[float, float, float, float]:
    """The approximate unit box of the value in ``row`` of a page."""
    top = 0.06 + row / 3.2
    return 0.66, top, 0.88, top + 0.17


def render(scene: Scene, width: int, height: int) -> Image.Image:
    """Draw ``scene`` as an RGB image of ``width`` × ``height`` pixels."""
    image = Image.new("RGB", (width, height), scene.background)
    draw = ImageDraw.Draw(image)
    for thing in scene.things:
        x1, y1, x2, y2 = (v * s for v, s in zip(thing.box, (width, height, width, height), strict=True))
        fill = COLORS[thing.color]
        if thing.shape == "circle":
            draw.ellipse((x1, y1, x2, y2), fill=fill)
        elif thing.shape == "square":
            draw.rectangle((x1, y1, x2, y2), fill=fill)
        elif thing.shape == "triangle":
            draw.polygon([((x1 + x2) / 2, y1), (x2, y2), (x1, y2)], fill=fill)
        else:
            draw.polygon(_star(x1, y1, x2, y2), fill=fill)
    for line in lines(scene, width, height):
        draw.text((line.x, line.y), line.text, font=_font(line.size), fill=line.color)
    for number in range(len(scene.rows)):
        y = (0.06 + number / 3.2 + 0.25) * height
        draw.line((0.05 * width, y, 0.95 * width, y), fill=(150, 150, 150))
    return image


def glyph_centres(line: Line) -> list[tuple[str, float, float]]:
    """Every character of ``line`` with the centre of its ink, in pixels."""
    font = _font(line.size)
    found = []
    for at, character in enumerate(line.text):
        x1, y1, x2, y2 = font.getbbox(character)
        start = line.x + font.getlength(line.text[:at])
        found.append((character, start + (x1 + x2) / 2, line.y + (y1 + y2) / 2))
    return found


def image_size(rng: random.Random) -> tuple[int, int]:
    """A width and height that the tiny checkpoint's processor resizes to 112 × 112, usually by unequal factors."""
    side = rng.randint(112, 170)
    return side, max(104, round(side * rng.uniform(0.86, 1.16)))
