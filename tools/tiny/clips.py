"""Synthetic clips: scenes of coloured shapes that move, come and go, or change their colour.

A clip is described by its actors, each with at most one event in an interval of time.  ``Clip.at`` is the scene at any
moment, so that clips are drawn as images are, at any rate of frames.  As for images, the digest of a clip decides
whether it is held out (``scenes.HELD_OUT_ONE_IN``), and training never uses those.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scenes import COLORS, HELD_OUT_ONE_IN, SHAPES, Scene, Thing

RATE = 8
"""Frames per second of the bundled files."""
SIDE = 112
"""Width and height of their frames in pixels: those of the tiny checkpoint, so that nothing is resized."""
SECONDS = (2, 3, 4, 5, 6)
STEP = 0.5
"""Events begin and end at multiples of this number of seconds."""

Event = Literal["", "moves", "visible", "recolored"]
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Actor:
    """A shape and what happens to it between ``start`` and ``end`` (seconds).

    Attributes:
        event: it *moves* in ``direction`` by ``distance`` (unit coordinates), is *visible* at no other time, or has
            another ``color``; empty if it is there all the time and never changes.
    """

    thing: Thing
    event: Event = ""
    start: float = 0.0
    end: float = 0.0
    direction: str = ""
    distance: float = 0.0
    color: str = ""

    @property
    def name(self) -> str:
        return f"{self.thing.color} {self.thing.shape}"

    def at(self, time: float) -> Thing | None:
        """The shape at ``time``; None while it is not visible."""
        within = self.start <= time < self.end
        if self.event == "visible":
            return self.thing if within else None
        if self.event == "recolored" and within:
            return replace(self.thing, color=self.color)
        if self.event == "moves":
            done = min(1.0, max(0.0, (time - self.start) / (self.end - self.start)))
            return replace(self.thing, box=self._moved(done))
        return self.thing

    def _moved(self, done: float) -> Box:
        dx, dy = (sign * self.distance * done for sign in DIRECTIONS[self.direction])
        x1, y1, x2, y2 = self.thing.box
        return x1 + dx, y1 + dy, x2 + dx, y2 + dy

    @property
    def swept(self) -> Box:
        """The box of all places where the shape is at some time."""
        first, last = self.thing.box, self._moved(1.0) if self.event == "moves" else self.thing.box
        return min(first[0], last[0]), min(first[1], last[1]), max(first[2], last[2]), max(first[3], last[3])


@dataclass(frozen=True)
class Clip:
    """A clip of ``seconds``: its actors before a plain background."""

    seconds: int
    actors: tuple[Actor, ...]
    background: tuple[int, int, int]

    @property
    def held_out(self) -> bool:
        """Whether the clip is kept for evaluation; depends only on its content."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0

    def at(self, time: float) -> Scene:
        """The scene at ``time`` in seconds from the beginning."""
        things = (actor.at(time) for actor in self.actors)
        return Scene("shapes", things=tuple(t for t in things if t is not None), background=self.background)

    @property
    def frames(self) -> int:
        """The number of frames of its file."""
        return self.seconds * RATE


def _span(rng: random.Random, seconds: int, *, open_start: bool, open_end: bool) -> tuple[float, float]:
    """An interval of a second or more that leaves half a second before and after it, except where it is open."""
    last = round(seconds / STEP)
    while True:
        start = 0 if open_start else rng.randint(1, last - 1)
        end = last if open_end else rng.randint(1, last - 1)
        if 2 <= end - start < last:
            return start * STEP, end * STEP


def _actor(rng: random.Random, color: str, shape: str, event: Event, seconds: int, colors: list[str]) -> Actor:
    width = rng.uniform(0.22, 0.36)
    height = width * rng.uniform(0.9, 1.1)
    x, y = rng.uniform(0.02, 0.98 - width), rng.uniform(0.02, 0.98 - height)
    actor = Actor(Thing(color, shape, (round(x, 4), round(y, 4), round(x + width, 4), round(y + height, 4))), event)
    if event == "moves":
        opened = rng.choice(((True, False), (False, True), (False, False)))
        start, end = _span(rng, seconds, open_start=opened[0], open_end=opened[1])
        distance = round(rng.uniform(0.3, 0.6), 3)
        return replace(actor, start=start, end=end, direction=rng.choice(list(DIRECTIONS)), distance=distance)
    if event:
        opened = rng.choice(((True, False), (False, True), (False, True), (False, False)))
        if seconds == 2 and opened == (False, False):
            opened = (False, True)
        start, end = _span(rng, seconds, open_start=opened[0], open_end=opened[1])
        return replace(actor, start=start, end=end, color=rng.choice(colors) if event == "recolored" else "")
    return actor


def _apart(actors: list[Actor], gap: float = 0.02) -> bool:
    """Whether no actor leaves the frame or comes into another's way."""
    boxes = [actor.swept for actor in actors]
    if any(min(box) < 0.0 or max(box) > 1.0 for box in boxes):
        return False
    pairs = ((a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    return not any(
        a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap for a, b in pairs
    )


PLOTS: tuple[tuple[Event, ...], ...] = (
    ("moves",), ("moves", ""), ("moves", "", ""), ("moves", "moves"), ("moves", "visible"), ("moves", "recolored"),
    ("visible", ""), ("visible", "visible"), ("visible", "visible", ""), ("visible", "visible", "visible"),
    ("recolored",), ("recolored", ""), ("recolored", "visible"), ("recolored", "", ""),
)  # fmt: skip
"""What happens to the actors of a clip."""


BUSY: tuple[tuple[Event, ...], ...] = (
    ("moves", "moves", "recolored"), ("moves", "moves", "visible"), ("moves", "recolored", "visible"),
    ("recolored", "recolored", "visible"), ("visible", "visible", "recolored"), ("moves", "moves", "moves"),
)  # fmt: skip
"""The same for training: something happens to every actor, so that there is much to ask about few tokens."""


def _draw_clip(rng: random.Random, seconds: int, plots: Sequence[tuple[Event, ...]]) -> Clip | None:
    background = (rng.randint(225, 255), rng.randint(225, 255), rng.randint(225, 255))
    plot = rng.choice(plots)
    shapes = rng.sample(SHAPES, len(plot))
    colors = rng.sample(list(COLORS), len(plot))
    others = [color for color in COLORS if color not in colors]
    for _ in range(20):
        actors = [
            _actor(rng, color, shape, event, seconds, others)
            for color, shape, event in zip(colors, shapes, plot, strict=True)
        ]
        appear = [actor.start for actor in actors if actor.event == "visible"]
        in_order = all(abs(a - b) >= 1.0 for i, a in enumerate(appear) for b in appear[:i])
        if _apart(actors) and in_order:
            return Clip(seconds, tuple(actors), background)
    return None


def draw_clip(rng: random.Random, *, held_out: bool, seconds: int | None = None, busy: bool = False) -> Clip:
    """A random clip that is held out or not, as asked, and of a length if given; ``busy`` ones are for training.

    The colours and shapes of its actors differ, and those that are visible for a time appear at least a second apart.
    """
    while True:
        clip = _draw_clip(rng, rng.choice(SECONDS) if seconds is None else seconds, BUSY if busy else PLOTS)
        if clip is not None and clip.held_out == held_out:
            return clip


def sampled_times(clip: Clip, fps: float = 2.0, least: int = 4) -> list[float]:
    """The times of the frames that the model sees: an even number, the first and the last among them.

    This is the rule of Qwen2.5-VL's report at ``fps`` frames per second, applied to the clip's file.
    """
    count = min(max(2 * round(clip.frames / RATE * fps / 2), least), clip.frames)
    last = clip.frames - 1
    return [round(last * i / (count - 1)) / RATE for i in range(count)]
