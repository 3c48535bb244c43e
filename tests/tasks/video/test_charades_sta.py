"""Charades-STA: the official file and the hub, videos in folders and archives, prompts, rules, and bad files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit import registry, time_spans
from evalkit.errors import UserError
from evalkit.metric_contract import score_answers
from evalkit.types import Answered, Prediction
from evalkit.video import VideoFile, check_videos

from .roots import archived, clip, loaded, prompt_of, table

LINES = "3MSZA 24.3 30.4##person turn a light on.\n3MSZA 0.0 5.5##person sits down.\n\nAX2PL 1 2.25##a man opens the door ##x.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "charades_sta"
    clip(folder / "Charades_v1_480" / "3MSZA.mp4")
    clip(folder / "Charades_v1_480" / "AX2PL.mp4")
    (folder / "charades_sta_test.txt").write_text(LINES)
    return tmp_path


def test_official_file(root: Path) -> None:
    samples = loaded(root, "charades_sta").samples
    assert [sample.id for sample in samples] == ["3MSZA-1", "3MSZA-2", "AX2PL-1"]
    assert [sample.text for sample in samples] == [
        "person turn a light on",
        "person sits down",
        "a man opens the door ##x",
    ]
    assert [sample.references for sample in samples] == [((24.3, 30.4),), ((0.0, 5.5),), ((1.0, 2.25),)]
    assert [sample.cluster for sample in samples] == ["3MSZA", "3MSZA", "AX2PL"]
    video = samples[0].videos[0]
    assert isinstance(video, VideoFile)
    assert video.path == str(root / "charades_sta" / "Charades_v1_480" / "3MSZA.mp4")
    assert video.info().frames == 10


def test_archive_is_read_where_it_lies(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = root / "charades_sta" / "Charades_v1_480"
    content = {path.stem: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    archived(
        root / "charades_sta" / "Charades_v1_480.zip",
        Charades_v1_480__3MSZA_DOT_mp4=content["3MSZA"],
        Charades_v1_480__AX2PL_DOT_mp4=content["AX2PL"],
    )
    first, _, third = loaded(root, "charades_sta").samples
    unpacked = tmp_path / "cache" / "evalkit" / "videos"
    assert not unpacked.exists()
    assert first.videos[0].info().frames == 10
    assert [path.read_bytes() for path in unpacked.iterdir()] == [content["3MSZA"]]
    assert first.videos[0].name.endswith("charades_sta/3MSZA.mp4")
    assert third.videos[0].digest() != ""
    assert len(list(unpacked.iterdir())) == 2


def test_videos_missing_from_the_archive_end_the_run_before_it_begins(root: Path) -> None:
    folder = root / "charades_sta" / "Charades_v1_480"
    archived(root / "charades_sta" / "videos.zip", a__3MSZA_DOT_mp4=(folder / "3MSZA.mp4").read_bytes())
    for path in folder.iterdir():
        path.unlink()
    job = loaded(root, "charades_sta")
    with pytest.raises(UserError, match=r"charades_sta/test: the video .*/AX2PL.mp4 is missing; complete the download"):
        check_videos(job.videos, job.name)
    check_videos([sample.videos[0] for sample in job.samples[:2]], job.name)


def test_hub(root: Path, tmp_path: Path) -> None:
    rows = [
        {"video": "3MSZA.mp4", "caption": "person turn a light on.", "timestamp": [24.296875, 30.40625]},
        {"video": "AX2PL.mp4", "caption": "a man opens the door", "timestamp": [1.0, 2.25]},
    ]
    mirror = tmp_path / "mirror"
    table(mirror / "lmms-lab" / "charades_sta" / "data" / "test-00000-of-00001.parquet", rows)
    clip(mirror / "lmms-lab" / "charades_sta" / "Charades_v1_480" / "3MSZA.mp4")
    first, second = loaded(f"hub:{mirror}", "charades_sta").samples
    assert (first.id, first.text, first.references) == ("3MSZA-1", "person turn a light on", ((24.296875, 30.40625),))
    assert first.videos[0].info().frames == 10
    with pytest.raises(OSError, match="has no video AX2PL.mp4, neither in Charades_v1_480"):
        second.videos[0].info()


def test_lmms_eval(root: Path) -> None:
    job = loaded(root, "charades_sta")
    prompt = prompt_of(job, job.samples[0], "lmms-eval")
    assert prompt.startswith("Please find the visual event described by a sentence in the video, determining its")
    assert (
        "happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence: person turn a light on. Please"
        in prompt
    )
    assert job.task.prompt_spec("lmms-eval").reading == time_spans.LMMS_EVAL
    assert job.task.prompt_spec().reading == time_spans.DEFAULT


def test_scores(root: Path) -> None:
    job = loaded(root, "charades_sta")
    family = registry.families.get("qwen3-vl")
    texts = ["<24.3 seconds> to <30.4 seconds>", "00:00 - 00:11", "never"]
    spec = job.task.prompt_spec()
    answers = [Answered(s, family.parse(spec, t, ())) for s, t in zip(job.samples, texts, strict=True)]
    found = score_answers(registry.metrics.get(job.metric), answers).values
    assert found["mean_iou"] == pytest.approx(50)
    assert (found["r1@0.3"], found["r1@0.7"]) == (pytest.approx(200 / 3), pytest.approx(100 / 3))
    assert family.parse(spec, "", ()) == Prediction(None)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("3MSZA 24.3 30.4 person", "line 1 of .*not the official format .it is '3MSZA 24.3 30.4 person'"),
        ("3MSZA x 30.4##person", "could not convert string to float"),
        ("3MSZA nan 30.4##person", "not a start and an end in seconds"),
        ("3MSZA -1 30.4##person", "not a start and an end in seconds"),
        ("3MSZA 1 2##.", "the sentence is empty"),
        ("../../3MSZA 1 2##person", "which is outside"),
    ],
)
def test_bad_lines(root: Path, line: str, sentence: str) -> None:
    (root / "charades_sta" / "charades_sta_test.txt").write_text(f"{line}\n")
    with pytest.raises(UserError, match=sentence):
        loaded(root, "charades_sta")


def test_missing_files(root: Path, tmp_path: Path, evalkit: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for path in (root / "charades_sta" / "Charades_v1_480").iterdir():
        path.unlink()
    (root / "charades_sta" / "Charades_v1_480").rmdir()
    with pytest.raises(UserError, match="no videos under .*; expected Charades_v1_480/ or videos/"):
        loaded(root, "charades_sta")
    answers = tmp_path / "answers.jsonl"
    names = ("3MSZA-1", "3MSZA-2", "AX2PL-1")
    answers.write_text("".join(json.dumps({"id": name, "text": "1 - 2.25"}) + "\n" for name in names))
    where = ("--data", str(root), "-p", str(answers), "--out", str(tmp_path / "runs"), "--name", "x")
    done = evalkit("score", "--tasks", "charades_sta", *where, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # no video is needed
    assert "3,720" in done.stdout + done.stderr
