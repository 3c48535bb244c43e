"""Folders of frames as videos."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from evalkit.types import FrameSelection
from evalkit.video import FrameFolder

from .clips import number_in, painted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        Image.fromarray(painted(number)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    return tmp_path


def test_frames_are_in_the_order_of_their_numbers(folder: Path) -> None:
    video = FrameFolder(str(folder), 3.0)
    info = video.info()
    assert (info.frames, info.fps, info.size, info.duration) == (12, 3.0, (64, 48), 4.0)
    assert list(info.timestamps)[:3] == [0, 1 / 3, 2 / 3]
    frames = video.frames(FrameSelection((0, 2, 11, 10), (), (80, 60), 1.0))
    assert frames.shape == (4, 60, 80, 3)
    assert [number_in(frame) for frame in frames] == [0, 2, 11, 10]
    assert video.decoder.startswith("Pillow ")


def test_segments(folder: Path) -> None:
    video = FrameFolder(str(folder), 3.0, 1.0, 2.0)
    assert list(video.info().timestamps) == [1, 4 / 3, 5 / 3, 2]
    assert number_in(video.frames(FrameSelection((3,), (), (64, 48), 1.0))[0]) == 6
    assert video.name == f"{folder}#t=1,2"
    digests = {video.digest(), FrameFolder(str(folder), 3.0).digest(), FrameFolder(str(folder), 2.0).digest()}
    assert len(digests) == 3
    with pytest.raises(ValueError, match=r"no frame is in the segment; the last frame is at 3.67 s"):
        FrameFolder(str(folder), 3.0, 5.0).info()


def test_missing_empty_and_corrupt(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the folder .*none is missing"):
        FrameFolder(str(tmp_path / "none"), 3.0).info()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no frames"):
        FrameFolder(str(tmp_path / "empty"), 3.0).info()
    (folder / "frame3.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(ValueError, match=r"frame3.png cannot be read \("):
        FrameFolder(str(folder), 3.0).frames(FrameSelection((3,), (), (64, 48), 1.0))
