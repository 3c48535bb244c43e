"""Video files: index and frame-exact reading, on clips made with PyAV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evalkit.types import FrameSelection
from evalkit.video import VideoFile

from .clips import number_in, write_clip


def read(path: Path, indices: list[int], **segment: float) -> list[int]:
    """The frame numbers that are painted into the frames at ``indices``."""
    video = VideoFile(str(path), **segment)
    times = [video.info().timestamps[index] for index in indices]
    selection = FrameSelection(tuple(indices), tuple(times), video.info().size, 2.0)
    frames = video.frames(selection)
    assert frames.shape == (len(indices), *video.info().size[::-1], 3)
    assert frames.dtype == np.uint8
    return [number_in(frame) for frame in frames]


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3", "g": "250"}, {"g": "12"}])
def test_h264_frames_are_exact(tmp_path: Path, options: dict[str, str]) -> None:
    write_clip(path := tmp_path / "clip.mp4", 60, options=options)
    info = VideoFile(str(path)).info()
    assert (info.frames, info.fps, info.size) == (60, 30.0, (64, 48))
    assert list(info.timestamps) == [index / 30 for index in range(60)]
    assert read(path, [0, 15, 15, 30, 59, 7]) == [0, 15, 15, 30, 59, 7]


def test_segments_have_the_times_of_the_file(tmp_path: Path) -> None:
    write_clip(path := tmp_path / "clip.mp4", 60)
    video = VideoFile(str(path), 0.5, 1.5)
    assert list(video.info().timestamps) == [index / 30 for index in range(15, 46)]
    assert video.name == f"{path}#t=0.5,1.5"
    assert read(path, [0, 30], start=0.5, end=1.5) == [15, 45]
    with pytest.raises(ValueError, match="no frame is in the segment; the last frame is at 1.97 s"):
        VideoFile(str(path), 3.0).info()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        VideoFile(str(tmp_path / "none.mp4")).info()
    with pytest.raises(OSError, match="regular file"):
        VideoFile(str(tmp_path)).info()
