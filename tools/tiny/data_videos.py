"""Clips in the bundled data: Video-MME's parquet file with its videos, and Charades-STA's annotations with its own."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from clip_questions import LETTERS, ClipQA, clip_questions, temporal_questions
from clips import RATE, SIDE, Clip, draw_clip
from scenes import COLORS, SHAPES, render

QUESTIONS = 3
"""For each video, as in Video-MME."""
CANDIDATES = 60
"""Clips of which the one with the rarest questions and answers is kept."""
ANSWERS = 3
"""How much an answer's count weighs beside those of topics and letters, which are larger."""
Span = tuple[float, float]
DURATIONS = {2: "short", 3: "short", 4: "medium", 5: "long", 6: "long"}
"""Video-MME's groups by the length of our clips in seconds; its own are of minutes."""


def write_video(path: Path, clip: Clip) -> None:
    """Draw ``clip`` into an H.264 file with B-frames."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the same bytes on every machine
        stream.options = {"crf": "20", "preset": "slow", "x264-params": "threads=1"}
        for number in range(clip.frames):
            pixels = np.asarray(render(clip.at(number / RATE), SIDE, SIDE))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def _words(qa: ClipQA) -> tuple[str, str, str]:
    """What is balanced: the topic, the letter, and the answer to the question without its shapes and colours.

    Else "How many shapes move?" is mostly answered by 1, and a model that sees nothing answers it.
    """
    question = " ".join(word for word in qa.question.split() if word not in {*COLORS, *SHAPES})
    return qa.topic, qa.letter, f"{question} {qa.answer}"


def _chosen(seconds: int, asked: Counter[str], rng: random.Random) -> tuple[Clip, list[ClipQA]]:
    """A clip with three questions, of the topics and with the letters and answers that were asked least."""

    def cost_of(qa: ClipQA) -> int:
        topic, letter, answer = (asked[word] for word in _words(qa))
        return topic + letter + ANSWERS * answer

    best: tuple[int, Clip, list[ClipQA]] | None = None
    for _ in range(CANDIDATES):
        clip = draw_clip(rng, held_out=True, seconds=seconds)
        least = sorted(clip_questions(clip, rng), key=cost_of)[:QUESTIONS]
        cost = sum(map(cost_of, least))
        if len(least) == QUESTIONS and (best is None or cost < best[0]):
            best = cost, clip, least
    if best is None:
        return _chosen(seconds, asked, rng)
    return best[1:]


def write_videomme(root: Path, videos: int, rng: random.Random) -> int:
    """Video-MME's table and videos; returns the number of questions."""
    rows: list[dict[str, Any]] = []
    asked: Counter[str] = Counter()
    seconds = sorted(DURATIONS)
    while len(rows) < videos * QUESTIONS:
        number = len(rows) // QUESTIONS + 1
        clip, chosen = _chosen(seconds[number % len(seconds)], asked, rng)
        video = f"clip{number:03d}"
        write_video(root / "videomme" / "data" / f"{video}.mp4", clip)
        for place, qa in enumerate(chosen, 1):
            asked.update(_words(qa))
            rows.append({
                "video_id": f"{number:03d}", "duration": DURATIONS[clip.seconds], "domain": "Synthetic",
                "sub_category": "Shapes", "url": "", "videoID": video, "question_id": f"{number:03d}-{place}",
                "task_type": qa.topic, "question": qa.question,
                "options": [f"{letter}. {text}" for letter, text in zip(LETTERS, qa.options, strict=True)],
                "answer": qa.letter,
            })  # fmt: skip
    _write_parquet(root / "videomme" / "videomme" / "test-00000-of-00001.parquet", rows)
    return len(rows)


def _spanned(seconds: int, asked: Counter[Span], rng: random.Random) -> tuple[Clip, list[ClipQA]]:
    """A clip with its sentences, whose spans begin, end and are where the fewest have so far.

    Else most spans would reach from the beginning or to the end, and be found without seeing the clip.
    """

    def cost_of(qas: list[ClipQA]) -> float:
        spans = [qa.span for qa in qas if qa.span is not None]
        return sum(asked[part] for span in spans for part in _parts(span)) / len(spans)

    clips = [draw_clip(rng, held_out=True, seconds=seconds) for _ in range(CANDIDATES)]
    return min(((clip, temporal_questions(clip)) for clip in clips), key=lambda found: cost_of(found[1]))


def _parts(span: Span) -> tuple[Span, Span, Span]:
    """What is balanced: a span, its beginning and its end."""
    return span, (span[0], -1.0), (-1.0, span[1])


def write_charades(root: Path, videos: int, rng: random.Random) -> int:
    """``charades_sta_test.txt`` and its videos; returns the number of sentences."""
    lines: list[str] = []
    asked: Counter[Span] = Counter()
    for number in range(videos):
        clip, sentences = _spanned((4, 5, 6)[number % 3], asked, rng)
        name = f"CLIP{number + 1:02d}"
        write_video(root / "charades_sta" / "Charades_v1_480" / f"{name}.mp4", clip)
        for qa in sentences:
            assert qa.span is not None
            asked.update(_parts(qa.span))
            lines.append(f"{name} {qa.span[0]:.1f} {qa.span[1]:.1f}##{qa.question}.")
    path = root / "charades_sta" / "charades_sta_test.txt"
    path.write_text("\n".join(lines) + "\n")
    return len(lines)


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
