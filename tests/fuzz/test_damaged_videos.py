"""Damaged video files: a sentence about the file, or frames; never another error, and never a hang."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evalkit.types import VideoGeometry
from evalkit.video import VideoFile, video_sampling

from ..video.clips import CLIPS

SECONDS = 30
"""For one file, on a busy machine; most take a hundredth of a second."""
NAMES = ("b-frames.mp4", "pyramid.mkv", "hevc.mp4", "vp9.webm", "gif.gif", "mpeg4.avi", "h264.ts", "mjpeg.mov")
EACH = 25


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(content: bytes, random: random.Random) -> bytes:
    """Bits flipped, bytes zeroed, removed or inserted, or a header of random bytes."""
    found = bytearray(content)
    at = random.randrange(len(found))
    match random.randrange(5):
        case 0:
            for _ in range(random.choice((1, 5, 50))):
                found[random.randrange(len(found))] ^= 1 << random.randrange(8)
        case 1:
            found[at : at + 64] = bytes(len(found[at : at + 64]))
        case 2:
            del found[at : at + random.randrange(1, 500)]
        case 3:
            found[at:at] = random.randbytes(random.randrange(1, 300))
        case _:
            for _ in range(5):
                found[random.randrange(min(len(found), 600))] = random.randrange(256)
    return bytes(found)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    content = CLIPS[name][1](tmp_path / name).read_bytes()
    draws = random.Random(name)
    path, rule = tmp_path / f"damaged-{name}", video_sampling("fps=4,max_frames=16")
    messages = []
    for _ in range(EACH):
        path.write_bytes(damaged(content, draws))
        video = VideoFile(str(path))
        try:
            with time_limit(SECONDS):
                selection = rule.select(video.info(), VideoGeometry())
                assert len(video.frames(selection)) == len(selection.indices)
        except (OSError, ValueError) as error:
            messages.append(str(error))
    assert 0 < len(messages) < EACH
    assert [message for message in messages if str(path) not in message or "\n" in message] == []
