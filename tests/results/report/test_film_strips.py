"""Videos in reports and ``evalkit show``: the frames that the model saw, and spans of time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.results.samples.film_strip import time_bar

from ...video.clips import number_in, write_clip

WIDTH, HEIGHT = 100, 70


def own_task(folder: Path, video: str) -> Path:
    """A custom task file with one event in a video of 3 s, whose frames show their numbers."""
    row = {"id": "0", "video": video, "question": "it is bright", "span": [0.5, 2.0]}
    (folder / "mine.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "mine.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    own_task(folder, str(write_clip(folder / "clip.mp4", 75, rate=25, size=(WIDTH, HEIGHT))))
    return folder


def answered(evalkit: Any, folder: Path) -> Path:
    """The run of the task in ``folder``."""
    if not (folder / "runs").exists():
        done = evalkit("run", "-t", "mine.jsonl", "--kind", "temporal_grounding", "--device", "cpu", "--name", "R",
                       "--max-new-tokens", "4", cwd=folder)  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder / "runs" / "R"


@pytest.fixture
def run(evalkit: Any, folder: Path) -> Path:
    return answered(evalkit, folder)


def sample_in(page: Path) -> dict[str, Any]:
    body = (page / "data" / "0-0.js").read_text()
    return dict(json.loads(body[body.index("[") : body.rindex("]") + 1])[0])


def test_strip_has_the_frames_that_the_model_saw(evalkit: Any, run: Path, folder: Path) -> None:
    (line,) = map(json.loads, (run / "mine.own.jsonl").read_text().splitlines())
    (seen,) = line["video_inputs"]
    done = evalkit("report", str(run), "--out", "report", cwd=folder)
    assert done.returncode == 0, done.stderr
    sample = sample_in(folder / "report")
    (strip,) = sample["strips"]
    assert (strip["sampling"], strip["decoder"]) == (seen["sampling"], seen["decoder"])
    assert strip["duration"] == pytest.approx(3.0)
    assert strip["times"] == [round(index / 25, 3) for index in seen["indices"]]
    pixels = np.asarray(Image.open(folder / "report" / "images" / f"{strip['image']}.webp").convert("RGB"))
    width, height = strip["cell"]
    cells = [divmod(place, strip["columns"]) for place in range(strip["seen"])]
    shown = [number_in(pixels[r * height : (r + 1) * height - 2, c * width : (c + 1) * width - 2]) for r, c in cells]
    assert shown == seen["indices"]
    assert sample["spans"][0] == ["reference", [0.5, 2.0]]
    assert sample["references"] == [["0.5 s to 2 s", 1]]


def test_show_lists_times_and_draws_spans(evalkit: Any, run: Path, folder: Path) -> None:
    text = evalkit("show", str(run), "--any", "1", cwd=folder).stdout
    assert re.search(r"video +\S*clip\.mp4 \(100×70, 3\.0 s, 75 frames\)", text.replace("\n", " ")), text
    assert re.search(r"frames +6 at 0\.0, 0\.6, 1\.2, 1\.8, 2\.4, 3\.0 s", text), text
    (bar,) = re.findall(r"([·█]+) reference", text)
    assert (bar.index("█"), bar.rindex("█") + 1, len(bar)) == (7, 27, 40)


@pytest.mark.parametrize("span", [(-1.0, 9.0), (1e308, -1e308), (2.0, 1.0), (0.0, 0.0)])
def test_bars_of_any_span_fit(span: tuple[float, float]) -> None:
    for duration in (3.0, 1e-9, 1e300):
        assert re.fullmatch("·*█*·*", time_bar(span, duration))
        assert len(time_bar(span, duration)) == 40
    assert time_bar(span, 0.0) == ""


def test_changed_video_is_reported(evalkit: Any, run: Path, folder: Path) -> None:
    (folder / "clip.mp4").rename(folder / "away.mp4")
    try:
        write_clip(folder / "clip.mp4", 75, rate=25, size=(WIDTH, HEIGHT), options={"crf": "40"})
        done = evalkit("report", str(run), "--out", "changed", cwd=folder)
    finally:
        (folder / "away.mp4").rename(folder / "clip.mp4")
    assert "1 of 1 images differ from those the run used" in done.stderr + done.stdout


def test_missing_video_is_reported(evalkit: Any, run: Path, folder: Path) -> None:
    (folder / "clip.mp4").rename(folder / "away.mp4")
    try:
        done = evalkit("report", str(run), "--out", "gone", cwd=folder)
        text = evalkit("show", str(run), "--any", "1", cwd=folder).stdout
    finally:
        (folder / "away.mp4").rename(folder / "clip.mp4")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 images cannot be shown" in done.stderr + done.stdout
    assert "clip.mp4 (missing)" in text.replace("\n", " ")


def test_videos_of_a_received_task_file_are_shown_if_they_are_beside_it(
    evalkit: Any, folder: Path, tmp_path: Path
) -> None:
    """A run folder names its task file, and this a video, which may be any of the reader's."""
    received = tmp_path / "received"
    received.mkdir()
    own_task(received, str(folder / "clip.mp4"))
    assert answered(evalkit, received).is_dir()
    for data, count in (((), 0), (("--data", "."), 1)):  # the reader says that the data is theirs
        done = evalkit("report", "runs/R", "--out", "report", *data, cwd=received)
        assert done.returncode == 0, done.stderr
        assert len(sample_in(received / "report").get("strips", ())) == count
        assert len(list((received / "report" / "images").iterdir())) == count
