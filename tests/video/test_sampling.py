"""Sampling rules: equal to the outputs of the implementations that they are named after."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.errors import UserError
from evalkit.types import VideoGeometry, VideoInfo
from evalkit.video import SAMPLING_RULES, VideoFile, described, video_sampling
from evalkit.video.frame_numbers import spread, spread_float32

from .clips import CLIPS, cut_without_encoding, write_clip

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "video_sampling.json").read_text())
GEOMETRY = {
    "14": VideoGeometry(),
    "16": VideoGeometry(patch=16, whole_video=True, min_pixels=4_096, max_pixels=25_165_824),
}


def video(frames: int, fps: float, size: tuple[int, int] = (640, 360)) -> VideoInfo:
    return VideoInfo(array("d", (index / fps for index in range(frames))), fps, size)


def check(info: VideoInfo, key: str, expected: Mapping[str, Any]) -> None:
    """Compare a rule's selection with an entry of the golden file."""
    name, patch = key.split("/")
    rule = video_sampling(name)
    assert rule.name == name
    if "error" in expected:
        with pytest.raises(ValueError, match=r"needs 2 frames at least; this has \d|one side is over 200 times"):
            rule.select(info, GEOMETRY[patch])
        return
    found = rule.select(info, GEOMETRY[patch])
    assert list(found.indices) == expected["indices"], key
    assert list(found.size) == expected["size"], key
    assert found.fps == pytest.approx(expected["fps"], rel=1e-12), key
    assert len(found.timestamps) == len(found.indices)
    assert found.timestamps[-1] == pytest.approx(expected["last_time"], rel=1e-12), key


NUMBERS = [case for case in GOLDEN["cases"] if "clip" not in case]


@pytest.mark.parametrize("case", NUMBERS, ids=[f"{c['frames']}@{c['fps']:g} {c['size']}" for c in NUMBERS])
def test_rules_equal_their_references(case: Mapping[str, Any]) -> None:
    info = video(case["frames"], case["fps"], tuple(case["size"]))
    for key, expected in case["expected"].items():
        check(info, key, expected)


LONGER: Mapping[str, Callable[[Path], Path]] = {
    "half-minute.mp4": lambda path: write_clip(path, 900, size=(640, 360), options={"preset": "ultrafast", "g": "250"}),
    "six-seconds.mp4": lambda path: write_clip(
        path, 150, rate=25, size=(320, 240), options={"preset": "ultrafast", "bf": "3"}
    ),
    "cut.mp4": lambda path: cut_without_encoding(CLIPS["b-frames.mp4"][1](path.with_name("whole.mp4")), path, 58),
}
ON_CLIPS = {case["clip"]: case for case in GOLDEN["cases"] if "clip" in case}


@pytest.mark.parametrize("name", ON_CLIPS)
def test_rules_equal_their_references_on_clips(tmp_path: Path, name: str) -> None:
    """The number of frames, the rate and the size of the file are those of torchcodec, too."""
    case = ON_CLIPS[name]
    make = LONGER[name] if name in LONGER else CLIPS[name][1]
    info = VideoFile(str(make(tmp_path / name))).info()
    assert (info.frames, list(info.size)) == (case["frames"], case["size"])
    assert info.fps == pytest.approx(case["fps"], rel=1e-9)
    for key, expected in case["expected"].items():
        check(info, key, expected)


def test_rules_in_words() -> None:
    """The examples of the facts file: half a minute of 640x360 at 30 frames per second."""
    info = video(900, 30.0)
    assert video_sampling("qwen-vl-utils-0.0.14").select(info, GEOMETRY["14"]).indices[:4] == (0, 15, 30, 46)
    assert video_sampling("qwen-vl-utils-0.0.14").select(info, GEOMETRY["14"]).indices[-1] == 899
    assert video_sampling("transformers").select(info, GEOMETRY["14"]).indices[-1] == 885


def test_single_precision_of_torch() -> None:
    """Of long videos, some frame numbers are one off those of exact arithmetic."""
    different = 0
    for total in (899, 5_003, 20_011, 95_142, 226_994):
        for number in (2, 32, 64, 222, 768):
            found = spread_float32(total, number)
            assert found == tuple(torch.linspace(0, total - 1, number).round().long().tolist()), (total, number)
            different += found != spread(total, number)
    assert different


# ------------------------------------------------------------------------------------------------------------ evalkit's


def tokens(rule: str, info: VideoInfo, geometry: VideoGeometry) -> int:
    found = video_sampling(rule).select(info, geometry)
    width, height = found.size
    assert width % geometry.factor == height % geometry.factor == 0
    return -(-len(found.indices) // geometry.frames) * width * height // geometry.factor**2


@pytest.mark.parametrize("patch", ["14", "16"])
@pytest.mark.parametrize("seconds", [1, 2, 6, 30, 120, 600, 1_500, 7_200])
def test_budgets_hold(patch: str, seconds: int) -> None:
    info = video(seconds * 30, 30.0, (1280, 720))
    for rule, most, frames in (
        ("qwen2.5-report", 24_576, 768),
        ("qwen3-report", 229_376, 2_048),
        ("fps=1,max_frames=16,max_video_tokens=1000", 1_000, 16),
    ):
        found = video_sampling(rule).select(info, GEOMETRY[patch])
        assert tokens(rule, info, GEOMETRY[patch]) <= most
        fps = 1 if rule.startswith("fps=1") else 2
        assert len(found.indices) == min(max(4, seconds * fps), frames)
        assert found.indices[0] == 0
        assert found.indices[-1] == info.frames - 1
        assert found.fps == pytest.approx(len(found.indices) / seconds)


def test_short_clips_are_as_in_qwen_vl_utils() -> None:
    """Where the budget does not bind, the report's rule chooses what the package does.

    Only the number of frames is rounded, as in release 0.0.8, and not rounded down.
    """
    assert len(video_sampling("qwen2.5-report").select(video(61, 12.5), GEOMETRY["14"]).indices) == 10
    assert len(video_sampling("qwen-vl-utils-0.0.14").select(video(61, 12.5), GEOMETRY["14"]).indices) == 8
    for frames, fps in ((900, 30.0), (150, 25.0), (60, 12.0), (8, 8.0)):
        info = video(frames, fps, (320, 240))
        ours = video_sampling("qwen2.5-report").select(info, GEOMETRY["14"])
        theirs = video_sampling("qwen-vl-utils-0.0.14").select(info, GEOMETRY["14"])
        assert (ours.indices, ours.size, ours.fps) == (theirs.indices, theirs.size, theirs.fps)


def test_a_budget_that_no_frame_fits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"768 frames are 384 tokens at least, more than the 100 allowed"):
        video_sampling("max_video_tokens=100").select(video(30_000, 10.0), GEOMETRY["14"])


def test_variable_rate_keeps_the_frames_own_times() -> None:
    info = VideoInfo([0.0, 0.1, 0.2, 5.0, 5.1, 10.0], 0.6, (64, 48))
    assert video_sampling("fps=2").select(info, GEOMETRY["14"]).timestamps == tuple(info.timestamps)
    by_rate = video_sampling("qwen-vl-utils-0.0.14").select(info, GEOMETRY["14"]).timestamps
    assert by_rate == tuple(index / 0.6 for index in range(6))


def test_described_rules_are_named_by_what_describes_them() -> None:
    rule = described(fps=0.5, max_frames=64)
    assert rule.name == "fps=0.5,max_frames=64"
    assert video_sampling(rule.name) == rule
    assert video_sampling("max_frames=9").select(video(900, 30.0), GEOMETRY["14"]).indices == (
        0, 128, 257, 385, 514, 642, 771, 899,
    )  # fmt: skip


def test_names() -> None:
    assert set(SAMPLING_RULES) == {"qwen2.5-report", "qwen3-report", "qwen-vl-utils-0.0.14", "transformers"}
    for wrong in ("lmms-eval", "lmms-eval-0", "vlmevalkit-", "qwen", "", "fps", "fps=x", "max_frames=1.5", "fps=1,,"):
        with pytest.raises(UserError, match="--video-sampling"):
            video_sampling(wrong)
