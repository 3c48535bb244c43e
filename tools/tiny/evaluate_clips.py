"""Measure a tiny checkpoint on held-out clips: ``python tools/tiny/evaluate_clips.py FOLDER…``

Uses evalkit's ``hf`` backend with the prompts of Video-MME and Charades-STA, and the ``qwen2.5-vl`` family's parser.
Multiple choice is scored by accuracy, by topic; spans of time by their mean IoU.  ``--blind`` shows the frames of other
clips: the score that needs no video.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clip_questions import ClipQA, clip_questions, temporal_questions
from clips import RATE, SIDE, Clip, draw_clip
from frames import compressed
from PIL import Image
from scenes import render

from evalkit import registry
from evalkit.types import (
    Batching,
    Decoding,
    FrameSelection,
    Prediction,
    Request,
    Sample,
    TimeSpan,
    VideoInfo,
    VideoRef,
)
from evalkit.video import video_sampling

SPANS = "when (mean IoU)"
ALL = "multiple choice (all)"


@dataclass(frozen=True)
class DrawnVideo(VideoRef):
    """A clip as a video, drawn when its frames are needed, with the artefacts of compression."""

    clip: Clip
    name: str
    start = end = None
    decoder = "drawn"

    def info(self) -> VideoInfo:
        return VideoInfo([number / RATE for number in range(self.clip.frames)], float(RATE), (SIDE, SIDE))

    def frames(self, selection: FrameSelection) -> np.ndarray:
        images = (self._frame(index).resize(selection.size) for index in selection.indices)
        return np.stack([np.asarray(image) for image in images])

    def _frame(self, index: int) -> Image.Image:
        return compressed(render(self.clip.at(index / RATE), SIDE, SIDE), random.Random(f"{self.name}/{index}"))

    def digest(self) -> str:
        return hashlib.sha256(repr(self.clip).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Item:
    """A question about a held-out clip, and what it is shown with."""

    qa: ClipQA
    task: str
    sample: Sample


def held_out(clips: int, seed: int, *, blind: bool) -> Iterator[Item]:
    """All questions about ``clips`` held-out clips."""
    rng = random.Random(f"{seed}/evaluate clips")
    drawn = [draw_clip(rng, held_out=True) for _ in range(clips)]
    for number, clip in enumerate(drawn):
        seen = drawn[(number + 1) % clips] if blind else clip
        video = DrawnVideo(seen, f"clip {number}")
        for qa in (*clip_questions(clip, rng), *temporal_questions(clip)):
            task = "charades_sta" if qa.span else "videomme"
            key = f"{number}/{qa.question}/{qa.topic}"
            yield Item(qa, task, Sample(key, (), qa.question, (), video.name, options=qa.options, videos=(video,)))


def score(qa: ClipQA, prediction: Prediction) -> float:
    """In percent: whether the letter is right, or the IoU of the span."""
    if qa.span is None:
        return 100.0 * (prediction.value == qa.letter)
    value = prediction.value
    return 100.0 * _iou((value[0], value[1]), qa.span) if isinstance(value, tuple) else 0.0  # type: ignore[arg-type]


def _iou(a: TimeSpan, b: TimeSpan) -> float:
    both = min(a[1], b[1]) - max(a[0], b[0])
    return both / (max(a[1], b[1]) - min(a[0], b[0])) if both > 0 else 0.0


def measure(folder: Path, items: Sequence[Item]) -> dict[str, tuple[float, int]]:
    """Mean score in percent and number of questions by topic, for the checkpoint in ``folder``."""
    from evalkit.checkpoint import resolve_checkpoint
    from evalkit.model.backends.hf import BACKEND
    from evalkit.model.families.qwen2_5_vl import FAMILY

    backend = BACKEND.open(resolve_checkpoint(str(folder)), device="auto", dtype="auto", batching=Batching(size=32))
    sampling = video_sampling(FAMILY.video_sampling)
    specs = {name: registry.tasks.get(name).prompt_spec("official") for name in ("videomme", "charades_sta")}
    by_id = {item.sample.id: item for item in items}
    requests = [
        Request(key, FAMILY.prompt(specs[item.task], item.sample), Decoding(24), video_sampling=sampling)
        for key, item in by_id.items()
    ]
    found: dict[str, list[float]] = {}
    for response in backend.generate(requests):
        item = by_id[response.id]
        if response.error is not None:
            raise RuntimeError(f"{item.sample.id}: {response.error}")
        prediction = FAMILY.parse(specs[item.task], response.text, (), item.sample.options)
        for topic in (item.qa.topic, ALL) if item.qa.topic else (SPANS,):
            found.setdefault(topic, []).append(score(item.qa, prediction))
    return {topic: (sum(v) / len(v), len(v)) for topic, v in sorted(found.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="ask about another clip's frames")
    args = parser.parse_args()
    items = list(held_out(args.clips, args.seed, blind=args.blind))
    for folder in args.folders:
        print(folder)
        for topic, (value, n) in measure(folder, items).items():
            print(f"  {topic:22s} {value:5.1f}  (n = {n})")


if __name__ == "__main__":
    main()
