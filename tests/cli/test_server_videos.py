"""``evalkit run --backend server`` with videos: with a server that keeps the times of frames, and with others."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.checkpoint import bundled_folder

Run = Callable[..., tuple[int, str]]
REFUSAL = "Per-request media_io_kwargs are disabled by default."  # vLLM 0.32


@pytest.fixture
def run(evalkit: Callable[..., subprocess.CompletedProcess[str]], http_server: Any, tmp_path: Path) -> Run:
    def call(tasks: str, *arguments: str) -> tuple[int, str]:
        done = evalkit(
            "run", "--backend", "server", "--base-url", http_server.url, "--data", "tiny", "--family", "qwen2.5-vl",
            "--tasks", tasks, "--limit", "3", *arguments, cwd=tmp_path,
        )  # fmt: skip
        return done.returncode, " ".join(done.stderr.split())

    return call


def journal(folder: Path, task: str) -> list[dict[str, Any]]:
    (path,) = [p for p in folder.glob(f"runs/*/{task}.*.jsonl") if not p.name.endswith(".scores.jsonl")]
    return [json.loads(line) for line in path.read_text().splitlines()]


def urls(body: dict[str, Any], kind: str) -> list[str]:
    content = body["messages"][-1]["content"]
    return [part[kind]["url"] for part in content if part["type"] == kind]


def reply(body: dict[str, Any], *, keeps_times: bool) -> dict[str, Any]:
    """As of a model that counts a token for every 28 × 28 pixels of two frames, and whose answers depend on times."""
    frames = [frame for url in urls(body, "video_url") for frame in url.partition(",")[2].split(",")]
    with Image.open(io.BytesIO(base64.b64decode(frames[0]))) as image:
        assert image.format == "PNG"
        tokens = (len(frames) + 1) // 2 * image.width * image.height // 28**2
    told = body["media_io_kwargs"]["video"]
    assert len(told["frames_indices"]) == len(frames)
    last = told["frames_indices"][-1] / told["fps"] if keeps_times else 0.0
    tops = [{"token": "A", "logprob": -1.0 - last / 100}, {"token": "B", "logprob": -2.0}]
    choice = {
        "index": 0, "message": {"role": "assistant", "content": f"B: 0.5 - {last:.1f} seconds"},
        "finish_reason": "stop", "logprobs": {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": tops}]},
    }  # fmt: skip
    return {"id": "x", "choices": [choice], "usage": {"prompt_tokens": tokens + 30, "completion_tokens": 3}}


def test_times_are_told_to_a_server_that_keeps_them(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.replace = lambda number, body: (200, reply(body, keeps_times=True))
    code, said = run("videomme,charades_sta")
    assert code == 0, said
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert "frames of videos are sent" not in log.read_text()
    asked = http_server.seen[3:]  # the first three find out whether times are kept
    assert [body["max_tokens"] for body in http_server.seen[:3]] == [1, 1, 1]
    assert len(asked) == 6
    for line in (*journal(tmp_path, "videomme"), *journal(tmp_path, "charades_sta")):
        (shown,) = line["video_inputs"]
        bodies = [body for body in asked if body["media_io_kwargs"]["video"]["frames_indices"] == [
            round(time * 1000) for time in shown["times"]
        ]]  # fmt: skip
        assert bodies
        for body in bodies:
            told = body["media_io_kwargs"]["video"]
            frames = urls(body, "video_url")[0].removeprefix("data:video/jpeg;base64,").split(",")
            assert (told["do_sample_frames"], told["num_frames"], len(frames)) == (False, -1, len(shown["indices"]))
            assert len(frames) / told["total_num_frames"] * told["fps"] == pytest.approx(shown["fps"], rel=1e-3)
    assert all(line["answer"] is not None for line in journal(tmp_path, "charades_sta"))


@pytest.mark.parametrize("refuses", [True, False])
def test_frames_are_images_where_times_would_be_lost(refuses: bool, run: Run, http_server: Any, tmp_path: Path) -> None:
    """And temporal grounding is refused, before anything is asked."""

    def answered(number: int, body: dict[str, Any]) -> Any:
        if not urls(body, "video_url"):
            return None
        return (400, {"error": {"message": REFUSAL}}) if refuses else (200, reply(body, keeps_times=False))

    http_server.replace = answered
    code, said = run("charades_sta")
    assert code == 2, said
    assert "temporal grounding needs the times of frames, which would be lost" in said
    assert (REFUSAL if refuses else "ignores the times of frames") in said
    code, said = run("videomme")
    assert code == 0, said
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert log.read_text().count("the frames of videos are sent as images") == 1
    lines = journal(tmp_path, "videomme")
    asked = [body for body in http_server.seen if not urls(body, "video_url")]
    assert sorted(len(urls(body, "image_url")) for body in asked) == sorted(
        len(line["video_inputs"][0]["indices"]) for line in lines
    )
    assert [line["frames"] for line in lines] == [[]] * 3


def test_run_is_not_resumed_with_frames_sent_as_something_else(run: Run, http_server: Any, tmp_path: Path) -> None:
    http_server.replace = lambda number, body: (200, reply(body, keeps_times=True))
    assert run("videomme")[0] == 0
    (path,) = (p for p in tmp_path.glob("runs/*/videomme.*.jsonl") if not p.name.endswith(".scores.jsonl"))
    first = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(first)
    assert json.loads(first)["video_inputs"][0]["sent"] == "video"
    refused = (400, {"error": {"message": REFUSAL}})
    http_server.replace = lambda number, body: refused if urls(body, "video_url") else None
    code, said = run("videomme")
    assert code == 1, said
    assert "the server now takes frames as images, and the answers so far were given to videos" in said
    assert path.read_bytes() == first
    assert run("videomme", "--fresh")[0] == 0
    assert {line["video_inputs"][0]["sent"] for line in journal(tmp_path, "videomme")} == {"images"}


def test_server_that_resizes_frames_is_noticed(run: Run, http_server: Any, tmp_path: Path) -> None:
    """As the frames of a checkpoint whose processor makes smaller ones than the released, until its files are given."""

    def smaller(number: int, body: dict[str, Any]) -> Any:
        status, found = 200, reply(body, keeps_times=True)
        if body["max_tokens"] > 1:  # not the probe
            found["usage"]["prompt_tokens"] = 20
        return status, found

    http_server.replace = smaller
    assert run("videomme")[0] == 0
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert log.read_text().count("the server resizes or drops frames") == 1
    large = max(line["video_inputs"][0]["size"] for line in journal(tmp_path, "videomme"))
    assert run("videomme", "--processor", str(bundled_folder("tiny")), "--name", "known")[0] == 0
    lines = (tmp_path / "runs" / "known" / "videomme.test.jsonl").read_text().splitlines()
    small = max(json.loads(line)["video_inputs"][0]["size"] for line in lines)
    assert small < large
    assert small[0] * small[1] <= 15_360  # as its files say
