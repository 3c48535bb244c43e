"""Several workers give the answers of one, whichever worker answers and whichever dies.

Two workers on the CPU stand for two GPUs; they are real processes, and most tests share a pair.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from PIL import Image

from evalkit import registry
from evalkit.checkpoint import Checkpoint, resolve_checkpoint
from evalkit.data import open_data
from evalkit.errors import RunFailed, UserError
from evalkit.images import PathImage, RowImage
from evalkit.interfaces import RequestBatch
from evalkit.model.backends.hf import HFBackend
from evalkit.model.hf.loading import pick_devices
from evalkit.model.workers.backend import PoolBackend
from evalkit.model.workers.messages import sendable
from evalkit.model.workers.process import lost_device
from evalkit.model.workers.queue import MAX_CHUNK, MAX_GROUP, RETRY_CHUNK, RequestQueue
from evalkit.model.workers.schedule import Schedule
from evalkit.types import Batching, Decoding, ImagePart, Message, PromptSpec, Request, Response, TextPart

from ...cli.forked import Forked


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


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _all_gone(pids: list[int]) -> bool:
    return not any(map(_alive, pids))


def _wait_for(what: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------- the queue


def _requests(count: int, each: int) -> list[Request]:
    def one(at: int) -> Request:
        content = (ImagePart(PathImage(f"{at % (count // each)}.png")), TextPart("What is it?"))
        return Request(str(at), (Message("user", content),), Decoding(8))

    return [one(at) for at in range(count)]


def test_chunks_are_complete_groups_and_get_smaller() -> None:
    queue = RequestQueue(_requests(6_000, 6), workers=2, worker_batch_size=32)
    chunks = []
    while queue:
        chunks.append(queue.take_chunk())
    assert sorted(r.id for chunk in chunks for r in chunk) == sorted(map(str, range(6_000)))
    for chunk in chunks:
        images = [r.images[0].name for r in chunk]
        assert all(images.count(name) == 6 for name in images), "an image's questions stay together"
    sizes = [len(chunk) for chunk in chunks]
    assert sizes == sorted(sizes[:2], reverse=True) + sorted(sizes[2:], reverse=True)
    assert sizes[0] <= 512, "the first answers arrive early"
    assert sizes[-2] <= 12, "workers finish at about the same time"
    assert len(sizes) < 60


def test_few_requests_are_shared_by_all_workers() -> None:
    queue = RequestQueue(_requests(8, 1), workers=4, worker_batch_size=256)
    assert [len(queue.take_chunk()) for _ in range(4)] == [1, 1, 1, 1]


def test_large_groups_are_split() -> None:
    queue = RequestQueue(_requests(10_000, 10_000), workers=2, worker_batch_size=32)
    sizes = []
    while queue:
        sizes.append(len(queue.take_chunk()))
    assert sum(sizes) == 10_000
    assert max(sizes) <= MAX_CHUNK
    assert sizes[-1] <= MAX_GROUP


def test_requests_of_a_dead_worker_are_requeued_once() -> None:
    queue = RequestQueue(_requests(60, 1), workers=1, worker_batch_size=256)
    begun, untouched = queue.take_chunk(), queue.take_chunk()
    assert queue.requeue(begun, untouched) == []
    again = [queue.take_chunk()]
    assert len(again[0]) <= RETRY_CHUNK, "retried chunks are small"
    lost = queue.requeue(again[0], [])
    assert [r.id for r in lost] == [r.id for r in again[0]]
    left = []
    while queue:
        left += queue.take_chunk()
    assert sorted(r.id for r in [*left, *lost]) == sorted(r.id for r in _requests(60, 1)), (
        "the others are still there, once"
    )


def _batch(model: str, requests: list[Request]) -> RequestBatch:
    return RequestBatch(resolve_checkpoint(model), len(requests), lambda: requests)


def test_free_worker_switches_to_the_checkpoint_with_most_requests() -> None:
    large, small = _batch("tiny", _requests(400, 1)), _batch("tiny-early", _requests(120, 1))
    schedule = Schedule([large, small], 4)
    chosen: list[Checkpoint | None] = []
    for _ in range(4):
        of_checkpoint = schedule.next_checkpoint(chosen, 10.0)
        assert of_checkpoint is not None
        chosen.append(of_checkpoint.checkpoint)
    assert [c.name for c in chosen if c] == ["tiny", "tiny", "tiny", "tiny-early"], "in proportion to their requests"

    of_checkpoint = schedule.of(large.checkpoint)
    assert of_checkpoint is not None
    opened = of_checkpoint.next_batch()
    assert opened is not None
    while len(opened.queue) > 40:
        opened.queue.take_chunk()
    of_checkpoint.record_time(Response("a", seconds=2.0))
    assert of_checkpoint.seconds_left(2) == len(opened.queue)
    of_small = schedule.of(small.checkpoint)
    assert of_small is not None
    assert of_small.cancel() == [small]
    others = [large.checkpoint, large.checkpoint]
    assert schedule.next_checkpoint(others, 10.0) is of_checkpoint
    assert schedule.next_checkpoint(others, 1_000.0) is None, "loading takes longer than answering what is left"
    assert schedule.next_checkpoint([small.checkpoint], 1_000.0) is of_checkpoint, "no other worker has loaded it"


def test_failing_batch_does_not_affect_others() -> None:
    def broken() -> list[Request]:
        raise UserError("no")

    asked, empty = _batch("tiny", _requests(3, 1)), _batch("tiny", [])
    bad = RequestBatch(asked.checkpoint, 5, broken)
    schedule = Schedule([empty, bad, asked], 1)
    of_checkpoint = schedule.of(asked.checkpoint)
    assert of_checkpoint is not None
    opened = of_checkpoint.next_batch()
    assert opened is not None
    assert opened.batch is asked
    assert [(batch, str(error)) for batch, error in schedule.take_failures()] == [(bad, "no")]
    opened.queue.take_chunk()
    assert schedule
    opened.queue.unanswered = 0
    assert not schedule


# -------------------------------------------------------------------------------------------------- devices, pickling


@pytest.mark.parametrize("given", ["cpu,", "cpu,auto", "cuda:*,cuda:0", "cpu,meta", "cpu,nonsense"])
def test_invalid_device_lists_are_refused(given: str) -> None:
    with pytest.raises(UserError, match="--device"):
        pick_devices(given)


def test_devices_of_several_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="several kinds"):
        pick_devices("cpu,cuda:0")
    assert [str(d) for d in pick_devices("cuda, cuda:0,cuda:1")] == ["cuda:0", "cuda:0", "cuda:1"]
    assert [str(d) for d in pick_devices("cuda:*")] == ["cuda:0", "cuda:1"]


def _encoded(number: int) -> dict[str, Any]:
    content = io.BytesIO()
    Image.effect_noise((64, 40 + number), 80).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


@pytest.mark.parametrize("stored", [False, True])
def test_row_image_is_pickled_without_its_dataset(tmp_path: Path, stored: bool) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"image": [_encoded(n) for n in range(50)]})
    if stored:
        rows.save_to_disk(tmp_path / "rows")
        rows = datasets.load_from_disk(tmp_path / "rows")
    image = RowImage("row 7", rows, 7)
    sent = pickle.dumps(image)
    assert len(sent) < len(_encoded(7)["bytes"]) + 3_000
    copy = pickle.loads(sent)
    assert copy == image
    assert (copy.size(), copy.digest()) == (image.size(), image.digest()) == ((64, 47), image.digest())


class _TwoArguments(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def test_exceptions_survive_pickling() -> None:
    copy = pickle.loads(pickle.dumps(sendable(UserError("--model x: no"))))
    assert (type(copy), str(copy)) == (UserError, "--model x: no")
    assert str(sendable(_TwoArguments("a", "b"))) == "_TwoArguments: a b"


def test_only_cuda_errors_lose_the_device() -> None:
    assert lost_device(RuntimeError("CUDA error: device-of_checkpoint assert triggered\nmore")).startswith("CUDA error")
    assert not lost_device(RuntimeError("the size of tensor a (3) must match"))


# ------------------------------------------------------------------------------------------------------- real workers


def test_two_workers_give_the_answers_of_one(
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
        assert _alive(pid)
        parent.kill()
    _wait_for(partial(_all_gone, [pid]))


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


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_interrupted_run_of_two_workers_has_the_records_of_one(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    command = ("run", "--tasks", "refcoco/testA,vqav2", "--device")
    code, said = Forked(*command, "cpu", "--out", str(one), cwd=tmp_path).finish(timeout=600)
    assert code == 0, said

    def answered() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in two.glob("*/*.jsonl"))

    began = 0
    for how in ("Ctrl-C", "kill -9", "to its end"):
        process = Forked(*command, "cpu,cpu", "--out", str(two), cwd=tmp_path, before="os.setpgrp()")
        if how != "to its end":
            _wait_for(lambda least=began: answered() > least, 600)
            children = _children(process.pid)
            assert len(children) == 2
            if how == "Ctrl-C":  # a terminal sends it to all of the group
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.kill()
        code, said = process.finish(timeout=600)
        assert "Traceback" not in said
        if how == "to its end":
            assert code == 0, said
            assert "refcoco" in said
            break
        assert code == (1 if how == "Ctrl-C" else -signal.SIGKILL)
        _wait_for(partial(_all_gone, children))
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
