"""The work queue of several workers, and what is sent to them; no worker is started."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.checkpoint import Checkpoint, resolve_checkpoint
from evalkit.errors import UserError
from evalkit.images import PathImage, RowImage
from evalkit.interfaces import RequestBatch
from evalkit.model.hf.devices import pick_devices
from evalkit.model.workers.messages import sendable
from evalkit.model.workers.process import lost_device
from evalkit.model.workers.queue import MAX_CHUNK, MAX_GROUP, RETRY_CHUNK, RequestQueue
from evalkit.model.workers.schedule import Schedule
from evalkit.types import Decoding, ImagePart, Message, Request, Response, TextPart


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


def test_requests_of_dead_worker_are_requeued_once() -> None:
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


def test_free_worker_switches_to_checkpoint_with_most_requests() -> None:
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


def test_only_cuda_errors_lose_device() -> None:
    assert lost_device(RuntimeError("CUDA error: device-of_checkpoint assert triggered\nmore")).startswith("CUDA error")
    assert not lost_device(RuntimeError("the size of tensor a (3) must match"))
