"""The options about videos: checks, run identity, signatures and requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.identity import split_parts
from evalkit.interfaces import Family
from evalkit.jobs import Job, build_requests, load_job, prompt_digest
from evalkit.options import RunSettings
from evalkit.runner.plan import check_video_options, prompting_signature
from evalkit.settings import effective
from evalkit.types import Decoding, Message, Request, Sample, TextPart, VideoPart
from evalkit.video import VideoFile, video_sampling
from evalkit.video.sampling import sampling_of

FAMILY = registry.families.get("qwen2.5-vl")


def settings(tmp_path: Path, **given: object) -> RunSettings:
    return effective({"tasks": "vqav2", **given}, tmp_path).settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"video_sampling": "qwen"}, "--video-sampling qwen: unknown; use qwen2.5-report, .* or fps=2,max_frames=64"),
        ({"video_sampling": "fps=2,frames=3"}, "'frames=3' is not fps=NUMBER, max_frames=NUMBER or max_video_tokens"),
        ({"video_sampling": "fps=0"}, "'fps=0' is not fps=NUMBER"),
        ({"video_sampling": "transformers", "fps": 1.0}, "--video-sampling transformers sets what fps=1 sets, too"),
        ({"fps": 0.0}, "--fps 0.0: give more than 0"),
        ({"max_frames": 1}, "--max-frames 1: give at least 2"),
        ({"max_video_tokens": 0}, "--max-video-tokens 0: give at least 1"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(tmp_path, **given)


def job(videos: tuple[VideoFile, ...], **changes: object) -> Job:
    """A job with one sample, which has these videos."""
    found = load_job(registry.tasks.get("vqav2"), "val", open_data("tiny"), limit=1, seed=0)
    sample = Sample("1", (), "What happens?", ("a",), cluster="1", videos=videos)
    return replace(found, samples=[sample], all_samples=[sample], **changes)


VIDEO = VideoFile("/data/clip.mp4", 1.0, 2.5)


def test_sampling_is_in_identity_and_signature_of_splits_with_videos_only(tmp_path: Path) -> None:
    given = settings(tmp_path, fps=1.5, max_frames=16)
    with_video = job((VIDEO,), video_sampling="fps=1.5,max_frames=16")
    assert split_parts(with_video, FAMILY, None)["video_sampling"] == "fps=1.5,max_frames=16"
    assert "video:fps=1.5,max_frames=16" in prompting_signature(given, with_video, 0).split("|")
    without = job(())
    assert "video_sampling" not in split_parts(without, FAMILY, None)
    assert "video" not in prompting_signature(given, without, 0)


def test_requests_with_videos_carry_the_rule() -> None:
    turn = Message("user", (VideoPart(VIDEO), TextPart("What happens?")))
    rule = sampling_of((turn,), "lmms-eval-8")
    request = Request("1", (turn,), Decoding(1), video_sampling=rule)
    assert request.videos == request.media == (VIDEO,)
    assert rule is not None
    assert rule.name == "lmms-eval-8"
    assert sampling_of((Message("user", (TextPart("?"),)),), "lmms-eval-8") is None
    (question,) = build_requests(job((), video_sampling=""), FAMILY).values()
    assert question.request.video_sampling is None
    assert prompt_digest((turn,)) != prompt_digest((Message("user", turn.content[1:]),))


@pytest.mark.parametrize("family", registry.families.all(), ids=lambda family: family.name)
def test_every_family_names_a_rule(family: Family) -> None:
    assert video_sampling(family.video_sampling).name == family.video_sampling


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    settings = effective({"tasks": "vqav2", "fps": 2.0}, tmp_path)
    with pytest.raises(UserError, match="--fps: no task of this run has videos; leave it out"):
        check_video_options(settings, [])
    (tmp_path / "evalkit.toml").write_text("fps = 2.0\n")
    check_video_options(effective({"tasks": "vqav2"}, tmp_path), [])
