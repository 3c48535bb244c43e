"""The ``server`` backend against real servers on the CPU: the bundled checkpoint answers there as it does in process.

``EVALKIT_VLLM`` is the path of a ``vllm`` executable whose build runs on this machine, ``EVALKIT_TRANSFORMERS`` that of
a ``transformers`` with what its ``serve`` needs (``transformers[serving]``); what is not there is skipped.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit import registry
from evalkit.checkpoint import bundled_folder
from evalkit.endpoint import Endpoint
from evalkit.images import PathImage
from evalkit.model.backends.server import ServerBackend
from evalkit.model.server import uuid_probe
from evalkit.model.server.http import Connection
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

from ..cli.judging import write_plugin
from ..run_folders import lines_of

pytestmark = pytest.mark.slow
PROGRAMS = {
    "vllm": "EVALKIT_VLLM serve {model} --served-model-name tiny --max-model-len 4096 --enforce-eager "
    "--dtype float32 --trust-request-mm-kwargs --host 127.0.0.1 --port {port}",
    "transformers": "EVALKIT_TRANSFORMERS serve {model} --device cpu --dtype float32 --host 127.0.0.1 --port {port}",
}
TASKS = "refcoco/val,vqav2,docvqa,scienceqa_img,coco_caption"


class Server:
    """A server with the bundled checkpoint."""

    def __init__(self, kind: str, folder: Path) -> None:
        variable, command = PROGRAMS[kind].split(maxsplit=1)
        program = os.environ.get(variable, "")
        if not Path(program).is_file():
            pytest.skip(f"{variable} names no executable")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.log = folder / "server.log"
        self.command = [program, *command.format(model=bundled_folder("tiny"), port=self.port).split()]
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1",
        }  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.log.parent
            )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ready(self) -> None:
        for _ in range(900):  # minutes, on a busy machine
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{self.url}/models") as reply:
                    json.load(reply)
                    return
            except OSError:
                time.sleep(1)
        raise AssertionError("it does not come up")


@pytest.fixture(scope="module", params=list(PROGRAMS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(request.param, tmp_path_factory.mktemp("server"))
    try:
        started.ready()
        yield started
    finally:
        started.kill()


vllm = pytest.mark.parametrize("server", ["vllm"], indirect=True)


def evalkit(*arguments: str, cwd: Path, code: int = 0) -> str:
    with start(*arguments, cwd=cwd) as process:
        _, said = process.communicate(timeout=3600)
    assert process.returncode == code, said
    return " ".join(said.split())


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    base = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    return subprocess.Popen(
        [sys.executable, "-c", "from evalkit.cli import main; main()", "run", *arguments],
        cwd=cwd, env={**base, "COLUMNS": "200"}, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def answers(out: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Every line of every journal below ``out``, by shots, split and id; none twice."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in sorted(out.glob("*/*.jsonl")):
        if path.name.endswith(".scores.jsonl"):
            continue
        shots = str(json.loads((path.parent / "manifest.json").read_text())["shots"])
        for line in path.read_text().splitlines():
            one = json.loads(line)
            assert (shots, path.name, one["id"]) not in found
            found[shots, path.name, one["id"]] = one
    return found


def test_server_answers_equal_in_process_answers(server: Server, tmp_path: Path) -> None:
    rest = ("--data", "tiny", "--tasks", TASKS, "--shots", "0,2", "--limit", "40")
    evalkit("--backend", "server", "--base-url", server.url, *rest, "--out", "there", cwd=tmp_path)
    evalkit("--dtype", "float32", *rest, "--out", "here", cwd=tmp_path)
    there, here = answers(tmp_path / "there"), answers(tmp_path / "here")
    assert there.keys() == here.keys()
    assert len(there) == 400
    for key, one in there.items():
        assert one["frames"] == here[key]["frames"]
        assert one["prompt_tokens"] == here[key]["prompt_tokens"]
    same = sum(one["text"] == here[key]["text"] and one["finish"] == here[key]["finish"] for key, one in there.items())
    assert same >= 0.99 * len(there)


@vllm
def test_videos_on_server_give_the_in_process_answers(server: Server, tmp_path: Path) -> None:
    """The frames and their times are those of a model in this process, and the server keeps them."""
    rest = ("--data", "tiny", "--tasks", "videomme,charades_sta", "--limit", "36")
    evalkit("--backend", "server", "--base-url", server.url, *rest, "--out", "there", cwd=tmp_path)
    evalkit("--dtype", "float32", *rest, "--out", "here", cwd=tmp_path)
    there, here = answers(tmp_path / "there"), answers(tmp_path / "here")
    assert there.keys() == here.keys()
    assert len(there) == 72
    for key, one in there.items():
        assert one["video_inputs"] == here[key]["video_inputs"]
        assert one["prompt_tokens"] == here[key]["prompt_tokens"]
    assert sum(one["text"] == here[key]["text"] for key, one in there.items()) >= 71
    (log,) = tmp_path.glob("there/*/log.txt")
    assert "frames" not in log.read_text()


def test_judge_on_server_gives_the_same_verdicts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = (str(write_plugin(tmp_path)), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    rest = ("--tasks", "mine.jsonl", "--data", "tiny", "--model", "tiny-early", "--dtype", "float32")
    evalkit(*rest, "--judge-base-url", server.url, "--judge", "tiny", "--out", "there", cwd=tmp_path)
    evalkit(*rest, "--judge", "tiny", "--out", "here", cwd=tmp_path)
    verdicts = []
    for place in ("there", "here"):
        (file,) = (tmp_path / place).glob("*/mine.own.verdicts.jsonl")
        verdicts.append({line["id"]: (line["text"], line["answer"], line["digests"]) for line in lines_of(file)})
    there, here = verdicts
    assert there == here
    assert len(here) == 12


@vllm
@pytest.mark.parametrize(
    "options",
    [
        ("--tasks", "scienceqa_img", "--choice", "loglikelihood"),
        ("--tasks", "refcoco/testA", "--max-pixels", "6272"),
        ("--tasks", "coco_caption", "--stop", "and", "--max-new-tokens", "12"),
    ],
    ids=["ranked letters", "smaller images", "a stop string"],
)
def test_options_have_the_same_effect(server: Server, tmp_path: Path, options: tuple[str, ...]) -> None:
    rest = (*options, "--limit", "30")
    evalkit("--backend", "server", "--base-url", server.url, *rest, "--out", "there", cwd=tmp_path)
    evalkit("--dtype", "float32", *rest, "--out", "here", cwd=tmp_path)
    there, here = answers(tmp_path / "there"), answers(tmp_path / "here")
    assert there.keys() == here.keys()
    assert len(there) == 30
    same = [(one["text"], one["frames"]) == (here[key]["text"], here[key]["frames"]) for key, one in there.items()]
    assert sum(same) >= 29
    if "--max-pixels" in options:
        assert all(frame["resized"][0] * frame["resized"][1] <= 6272 for o in there.values() for frame in o["frames"])


@vllm
def test_images_by_uuid_give_the_same_prompts_and_answers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four questions about each of three images, one after another; all but the first of each without the image."""
    monkeypatch.setattr(uuid_probe, "MIN_REPEATED", 1)
    bodies: list[dict[str, Any]] = []
    post = Connection.post

    async def recorded(self: Connection, session: Any, path: str, content: bytes) -> Any:
        bodies.append(json.loads(content))
        return await post(self, session, path, content)

    monkeypatch.setattr(Connection, "post", recorded)
    images = [PathImage(str(tmp_path / f"{number}.png")) for number in range(3)]
    for number, image in enumerate(images):
        Image.effect_mandelbrot((280, 224), (-2, -1, 1 - number / 2, 1), 40).convert("RGB").save(image.path)
    words = ("shapes", "colours", "lines", "words")
    requests = [
        Request(f"{image.path} {word}", (Message("user", (ImagePart(image), TextPart(f"How many {word} are there?"))),),
                Decoding(max_new_tokens=8))
        for image in images for word in words
    ]  # fmt: skip
    found = {}
    for kind in ("uuids", "data"):
        checkpoint = registry.backends.get("server").connect(None, Endpoint(server.url, concurrency=1))
        assert checkpoint.served is not None
        if kind == "data":
            checkpoint = replace(checkpoint, served=replace(checkpoint.served, says={}))
        backend = ServerBackend(checkpoint)
        found[kind] = {one.id: (one.prompt_tokens, one.text, one.error) for one in backend.generate(requests)}
        told = 9 if kind == "uuids" else 0
        assert backend.describe()["image_uuids"] == {"used": told > 0, "problem": None, "told": told, "dropped": 0}
    assert found["uuids"] == found["data"]
    assert all(tokens > 30 and error is None for tokens, _, error in found["data"].values()), found
    alone = [body["messages"][0]["content"][0]["image_url"] is None for body in bodies]
    assert alone == [False, True, True] + [False, True, True, True] * 3 + [False] * 12  # the first three try it


@vllm
def test_killed_server_loses_nothing(server: Server, tmp_path: Path) -> None:
    journal = "*/refcoco.testA.jsonl"
    spec = ("--backend", "server", "--base-url", server.url, "--tasks", "refcoco/testA", "--out", "runs")

    def waited(process: subprocess.Popen[str], lines: int) -> None:
        for _ in range(6000):
            found = [path.read_text().count("\n") for path in (tmp_path / "runs").glob(journal)]
            if found and found[0] >= lines:
                return
            assert process.poll() is None
            time.sleep(0.02)
        raise AssertionError("it does not get on")

    with start(*spec, "--concurrency", "4", "--patience", "3", cwd=tmp_path) as process:
        waited(process, 20)
        server.kill()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "answers so far are saved; run the same command to resume" in " ".join(said.split())
    kept = answers(tmp_path / "runs")
    assert 20 <= len(kept) < 138
    assert all(one["finish"] != "error" for one in kept.values())

    server.start()
    server.ready()
    with start(*spec, "--concurrency", "4", cwd=tmp_path) as process:
        waited(process, len(kept) + 20)
        server.kill()
        server.start()
        _, said = process.communicate(timeout=3600)
    said = " ".join(said.split())
    assert process.returncode == 0, said
    assert "the server responds again" in said
    whole = answers(tmp_path / "runs")
    assert len(whole) == 138
    assert all(one["finish"] == "stop" for one in whole.values())
    assert all(whole[key] == one for key, one in kept.items())
