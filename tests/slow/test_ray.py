"""Ray workers give the answers of one process, whichever worker answers and whichever dies.

The cluster is this machine alone, with two workers on the CPU, which are real processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.interfaces import RequestBatch
from evalkit.model.backends.hf import HFBackend
from evalkit.types import Batching, Cluster, Decoding, ImagePart, Message, PromptSpec, Request, Response, TextPart

from ..processes import alive, children, wait_for

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    factory: Any = registry.backends.get("hf")
    opened = factory.worker_pool(
        device="auto", dtype="float32", batching=Batching(size=16), cluster=Cluster("local", 2, 0)
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    task, family = registry.tasks.get("vqav2"), registry.families.get("qwen2.5-vl")
    samples = list(task.load(open_data("tiny"), "val"))
    return [Request(s.id, family.prompt(PromptSpec("vqav2", task.kind), s), Decoding(16)) for s in samples]


@pytest.fixture(scope="module")
def expected(tiny_backend: HFBackend, requests: list[Request]) -> dict[str, Response]:
    return {r.id: replace(r, seconds=0) for r in tiny_backend.generate(requests)}


def _batch(model: str, requests: list[Request]) -> RequestBatch:
    return RequestBatch(resolve_checkpoint(model), len(requests), lambda: requests)


def test_two_workers_give_answers_of_one_and_are_restarted(
    pool: Any, requests: list[Request], expected: dict[str, Response], caplog: pytest.LogCaptureFixture
) -> None:
    backend = pool.open(resolve_checkpoint("tiny"))
    about = backend.describe()
    assert (about["device_name"], about["workers"]) == ("2 × cpu", 2)
    assert about["executor"].startswith("ray ")
    found = []
    victim = None
    for response in backend.generate(requests):
        found.append(response)
        if victim is None:
            victim = max(pool.handles, key=lambda handle: handle.outstanding)
            assert victim.outstanding > 0
            os.kill(victim.pid, signal.SIGKILL)
    assert victim is not None
    assert victim.restarts == 1
    assert len(found) == len(requests)
    assert {r.id: replace(r, seconds=0) for r in found} == expected
    (line,) = [record.getMessage() for record in caplog.records if "died" in record.getMessage()]
    assert line.startswith(f"{victim.name}: the worker died")
    assert "unanswered samples are requeued" in line


def test_checkpoints_share_workers_and_fail_separately(
    pool: Any, requests: list[Request], expected: dict[str, Response], tmp_path: Path, tiny_backend: HFBackend
) -> None:
    moved = replace(resolve_checkpoint("tiny"), location=str(tmp_path / "elsewhere"))
    absent = Request("absent", (Message("user", (ImagePart(PathImage("/no/such/a.png")), TextPart("?"))),), Decoding(4))
    few = requests[:40]
    batches = [
        _batch("tiny", requests),
        _batch("tiny-early", few),
        RequestBatch(moved, 5, lambda: few),
        _batch("tiny", [absent]),
    ]
    found: dict[int, list[Any]] = {at: [] for at in range(len(batches))}
    for batch, answer in pool.answer(batches):
        found[batches.index(batch)].append(answer)
    assert {r.id: replace(r, seconds=0) for r in found[0]} == expected
    early = found[1]
    assert sorted(r.id for r in early) == sorted(r.id for r in few)
    assert any(r.text != expected[r.id].text for r in early), "another checkpoint gives other answers"
    (error,) = found[2]
    assert isinstance(error, UserError)
    assert "has no folder" in str(error)
    assert str(tmp_path) in str(error)
    (error,) = found[3]
    assert "has no folder /no/such" in str(error)


# --------------------------------------------------------------------------------------------------- the command line


def _lines(folder: Path) -> dict[str, list[str]]:
    """Journals, line by line in an order of their own, but for what depends on the clock."""
    found = {}
    for path in sorted(folder.glob("*/*.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        found[f"{path.parent.name}/{path.name}"] = sorted(json.dumps(_timeless(r), sort_keys=True) for r in records)
    return found


def _timeless(value: Any) -> Any:
    return {k: _timeless(v) for k, v in value.items() if k != "seconds"} if isinstance(value, dict) else value


def _descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *_descendants(child))]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def test_killed_run_leaves_no_actors_and_is_resumed_by_one_process(tmp_path: Path) -> None:
    command = [
        Path(sys.executable).parent / "evalkit", "run", "--tasks", "refcoco/testA,vqav2", "--model", "tiny,tiny-early",
    ]  # fmt: skip
    ray = ["--executor", "ray", "--workers", "2", "--batch-size", "4"]

    def begin(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    def answered() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in tmp_path.glob("two/*/*.jsonl"))

    with begin(*ray, "--out", "two") as process:
        wait_for(lambda: answered() > 0 or process.poll() is not None, 600)
        assert process.poll() is None, process.communicate()
        # Ray's own agents exit by themselves a minute later.
        actors = [pid for pid in _descendants(process.pid) if "ray::WorkerActor" in _command(pid)]
        assert actors
        process.kill()
        process.communicate()
    wait_for(lambda: not any(map(alive, actors)), 300)
    assert 0 < (before := answered()) < 924
    with begin("--device", "cpu", "--out", "two", "--limit", "150") as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert before < answered() < 924 * 2
    with begin(*ray, "--out", "two") as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    with begin("--device", "cpu", "--out", "one") as process:
        process.communicate()
    assert _lines(tmp_path / "one") == _lines(tmp_path / "two")
    assert sum(map(len, _lines(tmp_path / "one").values())) == 2 * 2 * 462  # answers, and their scores
