"""Measure a tiny checkpoint on held-out scenes: ``python tools/tiny/evaluate.py FOLDER…``

Uses evalkit's ``hf`` backend, and the prompts and parsers of the ``qwen2.5-vl`` family.  Grounding is scored by
IoU ≥ 0.5, everything else by exact match.  ``--blind`` swaps the images: the score that needs no image.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import questions as q
from scenes import Scene, draw_scene, image_size, render

from evalkit.types import Batching, Decoding, ImageRef, Kind, Message, PromptSpec, Request, Sample, TextPart

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

KIND: dict[str, Kind] = {"caption": "caption", "grounding": "grounding", "choice": "choice"}


@dataclass(frozen=True)
class SceneImage(ImageRef):
    """A scene as an image, drawn on loading."""

    scene: Scene
    width: int
    height: int
    name: str  # unique: images of one name are encoded once

    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def load(self) -> PILImage:
        return render(self.scene, self.width, self.height)

    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class HeldOut:
    """A held-out question; ``topic`` is its row of the report."""

    topic: str
    qa: q.QA
    image: SceneImage


def _scene_image(scene: Scene, rng: random.Random) -> SceneImage:
    size = image_size(rng)
    return SceneImage(scene, *size, name=f"{scene} {size}")


def held_out(count: int, seed: int) -> list[HeldOut]:
    """``count`` questions of every topic, about held-out scenes."""
    rng = random.Random(f"{seed}/evaluate")
    items: list[HeldOut] = []
    for _ in range(count):
        scene = draw_scene(rng, held_out=True, sort="shapes")
        image = _scene_image(scene, rng)
        items.append(HeldOut("caption", q.QA("caption", "", q.caption(scene)), image))
        qa = q.sample_vqa(scene, rng)
        items.append(HeldOut(f"vqa {qa.topic}", qa, image))
        thing = rng.choice(scene.things)
        items.append(
            HeldOut("grounding", q.QA("grounding", rng.choice(q.expressions(scene, thing)), "", thing=thing), image)
        )
        scene = draw_scene(rng, held_out=True, sort="number")
        items.append(HeldOut("reading", q.QA("reading", rng.choice(q.READING), scene.number), _scene_image(scene, rng)))
        scene = draw_scene(rng, held_out=True, sort="page")
        label, value = rng.choice(scene.rows)
        items.append(HeldOut("page", q.QA("page", f"What is the {label}?", value), _scene_image(scene, rng)))
        scene = draw_scene(rng, held_out=True)
        items.append(HeldOut("choice", q.sample_choice(scene, rng), _scene_image(scene, rng)))
    return items


def _sample(item: HeldOut, number: int) -> Sample:
    return Sample(str(number), (item.image,), item.qa.question, (), str(number), options=item.qa.options)


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(0.0, w) * max(0.0, h)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter or 1.0)


def _is_correct(item: HeldOut, value: Any) -> bool:
    if item.qa.thing is None:
        return bool(value == item.qa.answer)
    if value is None:
        return False
    width, height = item.image.size()
    box = [v * s for v, s in zip(item.qa.thing.box, (width, height, width, height), strict=True)]
    return _iou(value, box) >= 0.5


def measure(folder: Path, items: list[HeldOut], *, blind: bool = False, shots: int = 0) -> dict[str, tuple[float, int]]:
    """Accuracy in percent and number of questions per topic, for the checkpoint in ``folder``."""
    from evalkit.checkpoint import resolve_checkpoint
    from evalkit.model.backends.hf import BACKEND
    from evalkit.model.families.qwen2_5_vl import FAMILY

    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="auto", dtype="auto", batching=Batching(size=32))
    requests, by_id = [], {}
    for number, item in enumerate(items):
        sample = _sample(item, number)
        if blind:  # the same question about the image of the next question of its topic
            peers = [i for i in items if i.topic == item.topic]
            other = peers[(peers.index(item) + 1) % len(peers)].image
            sample = Sample(sample.id, (other,), sample.text, (), sample.id, options=sample.options)
        kind = KIND.get(item.qa.kind, "vqa")
        messages = FAMILY.prompt(PromptSpec(kind, kind), sample)
        if shots:
            peers = [i for i in items if i.topic == item.topic and i is not item][:shots]
            before: list[Message] = []
            for peer in peers:
                answer = q.answer_text(peer.qa, (112, 112))
                before += [
                    *FAMILY.prompt(PromptSpec(kind, kind), _sample(peer, 0)),
                    Message("assistant", (TextPart(answer),)),
                ]
            messages = (*before, *messages)
        requests.append(Request(sample.id, messages, Decoding(64)))
        by_id[sample.id] = (item, kind)
    correct: dict[str, list[bool]] = {}
    for response in backend.generate(requests):
        item, kind = by_id[response.id]
        correct.setdefault(item.topic, []).append(
            _is_correct(item, FAMILY.parse(PromptSpec(kind, kind), response.text, response.image_sizes).value)
        )
    table = {topic: (100 * sum(v) / len(v), len(v)) for topic, v in sorted(correct.items())}
    vqa = [r for topic, v in correct.items() if topic.startswith("vqa") for r in v]
    table["vqa (all)"] = (100 * sum(vqa) / len(vqa), len(vqa))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=200, help="questions per topic")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shots", type=int, default=0, help="few-shot examples before each question")
    parser.add_argument("--blind", action="store_true", help="ask about another scene's image")
    args = parser.parse_args()
    items = held_out(args.count, args.seed)
    for folder in args.folders:
        print(folder)
        for topic, (value, n) in measure(folder, items, blind=args.blind, shots=args.shots).items():
            print(f"  {topic:14s} {value:5.1f}  (n = {n})")


if __name__ == "__main__":
    main()
