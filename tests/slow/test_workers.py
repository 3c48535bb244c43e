"""Several workers give the answers of one, whichever worker answers and whichever dies.

Two workers on the CPU stand for two GPUs; they are real processes, and most tests share a pair.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import RunFailed, UserError
from evalkit.images import PathImage
from evalkit.interfaces import RequestBatch
from evalkit.model.backends.hf import HFBackend
from evalkit.model.workers.backend import PoolBackend
from evalkit.types import Batching, Decoding, ImagePart, Message, PromptSpec, Request, Response, TextPart

from ..processes import Forked, alive, children, wait_for


def _open(device: str, **batching: Any) -> Any:
    return registry.backends.get("hf").open(
        resolve_checkpoint("tiny"), device=device, dtype="float32", batching=Batching(**batching)
    )


# Each worker is a new process that imports torch.
pytestmark = pytest.mark.slow

BREAKS = """
from dataclasses import dataclass
from evalkit.types import ImageRef

@dataclass(frozen=True)
class Breaks(ImageRef):
    name: str = "breaks"

    def size(self):
        return 100, 100

    def load(self):
        raise RuntimeError("it is broken")

    def digest(self):
        return self.name
"""


@pytest.fixture(scope="module")
def breaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A custom image class whose images cannot be loaded, from a module that is only on ``sys.path``."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_images.py").write_text(BREAKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module("own_images").Breaks


@pytest.fixture(scope="module")
def workers(breaks: Any) -> Iterator[PoolBackend]:
    opened = _open("cpu,cpu", size=16)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """All of the bundled RefCOCO testA and VQAv2 val."""
    found = []
    for name, split in (("refcoco", "testA"), ("vqav2", "val")):
        task = registry.tasks.get(name)
        family = registry.families.get("qwen2.5-vl")
        samples = list(task.load(open_data("tiny"), split))
        found += [
            Request(f"{name}-{s.id}", family.prompt(PromptSpec(name, task.kind), s), Decoding(32)) for s in samples
        ]
    return found


@pytest.fixture(scope="module")
def expected(tiny_backend: HFBackend, requests: list[Request]) -> dict[str, Response]:
    return {r.id: replace(r, seconds=0) for r in tiny_backend.generate(requests)}


def _all_gone(pids: list[int]) -> bool:
    return not any(map(alive, pids))


def _batch(model: str, requests: list[Request]) -> RequestBatch:
    return RequestBatch(resolve_checkpoint(model), len(requests), lambda: requests)


# ------------------------------------------------------------------------------------------------------- real workers


def test_two_workers_give_answers_of_one(
    workers: PoolBackend, requests: list[Request], expected: dict[str, Response], tiny_backend: HFBackend
) -> None:
    assert isinstance(workers, PoolBackend)
    found = list(workers.generate(requests))
    assert len(found) == len(requests)
    assert {r.id: replace(r, seconds=0) for r in found} == expected
    about = workers.describe()
    assert (about["device"], about["device_name"], about["dtype"]) == ("cpu,cpu", "2 × cpu", "float32")
    assert workers.memory() > 200 * 2**20
    assert workers.estimate_tokens(requests[:9], {}) == tiny_backend.estimate_tokens(requests[:9], {})
    images = [r.images[0] for r in requests[:80]]
    assert list(workers.embed(images)) == list(tiny_backend.embed(images))


def test_stop(workers: PoolBackend, requests: list[Request], expected: dict[str, Response]) -> None:
    stop = Event()
    found = []
    for response in workers.generate(requests, stop):
        found.append(response)
        stop.set()
    assert 0 < len(found) < len(requests)
    assert len({r.id for r in found}) == len(found)
    assert all(replace(r, seconds=0) == expected[r.id] for r in found)
    stop.clear()
    for _ in workers.generate(requests):  # the iterator is dropped
        break
    assert len(list(workers.generate(requests[:20], stop))) == 20, "earlier requests are not answered"


def test_errors_are_those_of_one_process(
    workers: PoolBackend,
    requests: list[Request],
    tiny_backend: HFBackend,
    breaks: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = Request("bad", (Message("user", (ImagePart(breaks()), TextPart("What?"))),), Decoding(4))
    said = []
    for backend in (tiny_backend, workers):
        with pytest.raises(RuntimeError) as error:
            list(backend.generate([*requests[:20], bad]))
        said.append((type(error.value), str(error.value)))
    assert said[0] == said[1]

    absent = Request("absent", (Message("user", (ImagePart(PathImage("/no.png")), TextPart("What?"))),), Decoding(4))
    found = {r.id: r for r in workers.generate([*requests[:20], absent])}
    (line,) = [record.getMessage() for record in caplog.records if "sample absent" in record.getMessage()]
    assert line.startswith(("cpu#1: ", "cpu#2: "))
    (alone,) = tiny_backend.generate([absent])
    assert found["absent"] == alone
    assert [r.finish for r in found.values()].count("error") == 1

    class Local(breaks):  # type: ignore[misc]
        """A local class cannot be pickled."""

    unsent = Request("unsent", (Message("user", (ImagePart(Local()), TextPart("What?"))),), Decoding(4))
    with pytest.raises(UserError, match="give one device"):
        list(workers.generate([unsent]))
    Local.__qualname__ = Local.__name__ = "Elsewhere"  # only the sender has it
    sys.modules["own_images"].Elsewhere = Local  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"Elsewhere.*give one device"):
        list(workers.generate([unsent]))


def test_killed_worker_is_restarted(
    workers: PoolBackend, requests: list[Request], expected: dict[str, Response], caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    victim = None
    for response in workers.generate(requests):
        found.append(response)
        if victim is None:
            victim = max(workers.pool.handles, key=lambda handle: handle.outstanding)
            assert victim.outstanding > 10
            os.kill(victim.process.pid, signal.SIGKILL)
    assert victim is not None
    assert victim.restarts == 1
    assert len(found) == len(requests)
    assert {r.id: replace(r, seconds=0) for r in found} == expected
    (line,) = [record.getMessage() for record in caplog.records if "died" in record.getMessage()]
    assert line.startswith(victim.name)
    assert "killed by SIGKILL" in line
    assert "unanswered samples are requeued" in line


def test_checkpoints_share_workers_and_fail_separately(
    workers: PoolBackend, requests: list[Request], expected: dict[str, Response], tmp_path: Path
) -> None:
    halved = tmp_path / "halved"
    shutil.copytree(resolve_checkpoint("tiny").location, halved)
    (halved / "model.safetensors").write_bytes(b"no weights")
    few = requests[:60]
    batches = [_batch("tiny", requests[60:]), _batch("tiny-early", few), _batch(str(halved), few), _batch("tiny", few)]
    found: dict[int, list[Any]] = {at: [] for at in range(len(batches))}
    for batch, answer in workers.pool.answer(batches):
        found[batches.index(batch)].append(answer)
    assert {r.id: replace(r, seconds=0) for r in [*found[0], *found[3]]} == expected
    assert sorted(r.id for r in found[1]) == sorted(r.id for r in few)
    assert any(r.text != expected[r.id].text for r in found[1]), "another checkpoint gives other answers"
    (error,) = found[2]
    assert isinstance(error, UserError)
    assert "could not be loaded" in str(error)
    list(workers.generate(few))  # later tests need the first checkpoint on all workers
    workers.pool.load(workers.checkpoint)


def test_run_fails_when_all_workers_died(workers: PoolBackend, requests: list[Request]) -> None:
    killed: set[int] = set()
    left = [
        3 - handle.restarts for handle in workers.pool.handles
    ]  # each is started three times, some of it in tests before
    over = Event()

    def kill() -> None:
        while not over.wait(0.02):
            for handle in workers.pool.handles:
                if handle.failure is None and handle.process.pid not in killed:
                    killed.add(handle.process.pid)
                    handle.process.kill()

    killing = Thread(target=kill)
    killing.start()
    try:
        with pytest.raises(
            RunFailed, match=r"all 2 workers have died.*cpu#1: killed by SIGKILL.*run the same command to resume"
        ):
            list(workers.generate(requests))
    finally:
        over.set()
        killing.join()
    assert len(killed) == sum(left)
    with pytest.raises(RunFailed):
        next(workers.generate(requests))


def test_worker_exits_with_its_parent() -> None:
    code = (
        "from evalkit.checkpoint import resolve_checkpoint as of\n"
        "from evalkit.model.workers.local import LocalHandle\n"
        "from evalkit.model.workers.messages import Start\n"
        "handle = LocalHandle('cpu', 'cpu', 1)\n"
        "handle.launch(Start(of('tiny'), 'cpu', {'dtype': 'float32'}, {}))\n"
        "print(handle.process.pid, flush=True)\n"
        "handle.process.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    wait_for(partial(_all_gone, [pid]))


# --------------------------------------------------------------------------------------------------- the command line


def _lines(folder: Path) -> dict[str, list[str]]:
    """A run's journals, line by line in an order of their own, but for what depends on the clock."""
    found = {}
    for path in sorted(folder.glob("*/*.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.name] = sorted(json.dumps(_timeless(record), sort_keys=True) for record in records)
    return found


def _timeless(value: Any) -> Any:
    return {k: _timeless(v) for k, v in value.items() if k != "seconds"} if isinstance(value, dict) else value


def test_interrupted_run_of_two_workers_has_records_of_one(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    command = ("run", "--tasks", "refcoco/testA,vqav2", "--device")
    code, said = Forked(*command, "cpu", "--out", str(one), cwd=tmp_path).finish()
    assert code == 0, said

    def answered() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in two.glob("*/*.jsonl"))

    began = 0
    for how in ("Ctrl-C", "kill -9", "to its end"):
        process = Forked(*command, "cpu,cpu", "--out", str(two), cwd=tmp_path, before="os.setpgrp()")
        if how != "to its end":
            process.wait_for(lambda least=began: answered() > least, 600)
            pids = children(process.pid)
            assert len(pids) == 2
            if how == "Ctrl-C":  # a terminal sends it to all of the group
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.kill()
        code, said = process.finish()
        assert "Traceback" not in said
        if how == "to its end":
            assert code == 0, said
            assert "refcoco" in said
            break
        assert code == (1 if how == "Ctrl-C" else -signal.SIGKILL)
        wait_for(partial(_all_gone, pids))
        assert began < answered() < 462, "it was interrupted before it was complete"
        began = answered()
    assert list(_lines(one)) == list(_lines(two)) != []
    assert _lines(one) == _lines(two)


def test_checkpoint_errors_are_those_of_one_process(tmp_path: Path, tiny_backend: HFBackend) -> None:
    folder = tmp_path / "halved"
    tiny_backend.processor.save_pretrained(folder)
    state = tiny_backend.model.state_dict()
    kept = {name: value for at, (name, value) in enumerate(state.items()) if at % 2}
    tiny_backend.model.save_pretrained(folder, state_dict=kept)
    factory = registry.backends.get("hf")
    said = []
    for device in ("cpu", "cpu,cpu"):
        with pytest.raises(UserError, match="missing") as error:
            factory.open(resolve_checkpoint(str(folder)), device=device, dtype="float32")
        said.append(str(error.value))
    assert said[0] == said[1]


def test_workers_do_not_import_from_current_folder(tmp_path: Path) -> None:
    """Two workers start in a folder whose ``json.py`` would end them."""
    (tmp_path / "json.py").write_text("import os\nos._exit(3)\n")
    run = Forked("run", "--tasks", "vqav2", "--data", "tiny", "--limit", "2", "--device", "cpu,cpu", cwd=tmp_path)
    code, said = run.finish()
    assert code == 0, said
