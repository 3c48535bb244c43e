"""Checks of videos before anything is computed."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.video import FrameFolder, VideoFile, check_videos
from evalkit.video_source import VideoSource

from .clips import write_audio, write_clip


def test_good_videos_pass_and_single_frames_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = write_clip(tmp_path / "good.mp4", 5)
    one = write_clip(tmp_path / "one.mp4", 1)
    check_videos([VideoFile(str(good)), VideoFile(str(good), 0.0, 0.1)], "videomme/test")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_videos([VideoFile(str(good)), VideoFile(str(one))], "videomme/test")
    assert "videomme/test: 1 of 2 videos have a single frame" in caplog.text


def test_bad_videos_are_named_and_counted(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4", 5)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:-100])
    missing, sound = tmp_path / "missing.mp4", write_audio(tmp_path / "sound.m4a")
    expected = {
        (missing,): "t/s: the video .*missing.mp4 is missing; complete the download, or give --allow-missing",
        (good, cut): r"the video .*cut.mp4 cannot be read \(.* is truncated: .*\); replace or convert it, or give",
        (
            good,
            sound,
            cut,
        ): r"sound.m4a cannot be read \(.* has no video stream\) \(2 of 3 videos are missing or unread",
    }
    for paths, message in expected.items():
        with pytest.raises(UserError, match=message):
            check_videos([VideoFile(str(path)) for path in paths], "t/s")
    with pytest.raises(UserError, match="the video .*frames is missing"):
        check_videos([FrameFolder(str(tmp_path / "frames"), 3.0)], "t/s")


def test_videos_in_archives_are_looked_for_without_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clip = write_clip(tmp_path / "a.mp4", 2)
    with zipfile.ZipFile(tmp_path / "videos.zip", "w") as archive:
        archive.write(clip, "videos/a.mp4")
    clip.unlink()
    source = VideoSource(str(tmp_path), str(tmp_path), ("videos",), "videomme")
    check_videos([source.video("a.mp4")], "videomme/test")
    with pytest.raises(UserError, match="videomme/test: the video .*b.mp4 is missing; complete the download"):
        check_videos([source.video("a.mp4"), source.video("b.mp4")], "videomme/test")
    assert not (tmp_path / "cache").exists()
