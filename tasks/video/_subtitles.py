"""Subtitles in SubRip files: which lines are spoken while the frames are shown that a model sees.

- ``overlapping``: every line that a frame falls into, once, in the file's order: Qwen3-VL's script for Video-MME
  (QwenLM/Qwen3-VL, commit 9658872).  Markup is removed.
- ``lmms_eval``: lmms-eval's (commit 75571cf), with its defects: of 32 frames whatever the model sees, lines only of the
  form ``<font color="white" size=".72c">…</font>``, in the order in which Python's ``set`` yields their numbers.
- ``vlmevalkit``: VLMEvalKit's (commit e8e78f0): for each frame the first line that it falls into, repeated as often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evalkit.types import VideoInfo

_TIMES = re.compile(
    r"\s*((?:\d+:)?\d{1,2}:\d{1,2}(?:[,.]\d{1,6})?)\s*-{1,3}>\s*((?:\d+:)?\d{1,2}:\d{1,2}(?:[,.]\d{1,6})?)", re.ASCII
)
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
_NUMBER = re.compile(r"\s*\d+\s*", re.ASCII)
FRAMES = 32
_LMMS_EVAL_LINE = re.compile(r'<font color="white" size=".72c">(.*?)</font>')


@dataclass(frozen=True)
class Line:
    """A subtitle: from when to when it is shown, in seconds, and its text."""

    start: float
    end: float
    text: str


def parsed(content: str) -> list[Line]:
    """The lines of a SubRip file, in its order; what is no subtitle is skipped.

    Numbers, hours and blank lines may be missing, decimals are set off by a comma or a point, and a text may have
    several lines, which are joined by blanks.
    """
    found: list[Line] = []
    times: tuple[float, float] | None = None
    texts: list[str] = []
    plain = content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for line in [*plain.split("\n"), "", "0", "0:0 --> 0:0"]:  # as if another one followed the last
        match = _TIMES.match(line)
        if match is None:
            texts.append(line)
            continue
        if times is not None:
            found += _line(*times, texts)
        times, texts = (_seconds(match[1]), _seconds(match[2])), []
    return found


def _line(start: float, end: float, texts: list[str]) -> list[Line]:
    """A subtitle of the lines up to the next one's times; none without a text."""
    while texts and not texts[-1].strip():
        texts.pop()
    if len(texts) > 1 and _NUMBER.fullmatch(texts[-1]) and not texts[-2].strip():
        texts.pop()  # the next one's number
    elif len(texts) == 1 and _NUMBER.fullmatch(texts[0]):
        texts.pop()
    text = " ".join(filter(None, (_TAG.sub("", line).strip() for line in texts)))
    return [Line(start, end, text)] if text else []


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.replace(",", ".").split(":"):
        total = 60 * total + float(part)
    return total


def overlapping(lines: Iterable[Line], timestamps: Sequence[float]) -> list[str]:
    """The texts of the lines that a frame falls into, each once."""
    return [line.text for line in lines if any(line.start < time < line.end for time in timestamps)]


def vlmevalkit(lines: Sequence[Line], timestamps: Sequence[float]) -> list[str]:
    """For each frame the text of the first line that it falls into."""
    found = (next((line.text for line in lines if line.start < time < line.end), "") for time in timestamps)
    return [text for text in found if text]


def lmms_eval(content: str, info: VideoInfo) -> list[str]:
    """The lines that lmms-eval puts before the question; see the module."""
    lines = _lmms_eval_lines(content, info.fps)
    frames = [int(place * (info.frames - 1) / (FRAMES - 1)) for place in range(FRAMES)]
    hit = [number for frame in frames for number, (start, end, _) in enumerate(lines) if start <= frame < end]
    matches = [_LMMS_EVAL_LINE.search(lines[number][2]) for number in set(hit)]  # in the set's own order
    return [match[1] for match in matches if match is not None]


def _lmms_eval_lines(content: str, fps: float) -> list[tuple[int, int, str]]:
    """(first frame, frame after the last, text); of lines with the same times the last one's text counts."""
    found: dict[tuple[float, float], str] = {}
    for section in content.split("\n\n"):
        lines = section.split("\n")
        times = lines[1].split(" --> ") if section.strip() and len(lines) >= 3 else []
        if len(times) < 2 or not all(re.fullmatch(r"\d+:\d+:\d+,\d+\s*", time, re.ASCII) for time in times[:2]):
            continue  # an error upstream
        found[_seconds(times[0]), _seconds(times[1])] = " ".join(lines[2:])
    return [(int(start * fps), int(end * fps), text) for (start, end), text in found.items()]
