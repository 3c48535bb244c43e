from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import Backend
from evalkit.jobs import build_requests, load_job, prompt_digest
from evalkit.run import ImageDigests, Stopped, run_job
from evalkit.subset import choose
from evalkit.task_names import parse_tasks
from evalkit.types import ImagePart, Message, Request, Response, Sample, TextPart


def _samples(ids: list[int]) -> list[Sample]:
    return [Sample(str(i), (), "", (), str(i)) for i in ids]


IDS = st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=60)


@given(IDS, st.integers(1, 70), st.integers(0, 5))
def test_larger_limit_keeps_samples_of_smaller_one(ids: list[int], limit: int, seed: int) -> None:
    samples = _samples(ids)
    small, large = choose(samples, limit, seed), choose(samples, limit + 3, seed)
    assert len(small) == min(limit, len(ids))
    assert {s.id for s in small} <= {s.id for s in large}
    order = [s.id for s in samples]
    assert [s.id for s in small] == sorted((s.id for s in small), key=order.index), "official order is kept"


@given(IDS, st.integers(1, 30))
def test_draw_does_not_depend_on_order_of_files(ids: list[int], limit: int) -> None:
    assert {s.id for s in choose(_samples(ids), limit, 0)} == {s.id for s in choose(_samples(ids[::-1]), limit, 0)}


def test_seed_changes_draw() -> None:
    samples = _samples(list(range(200)))
    assert {s.id for s in choose(samples, 20, 0)} != {s.id for s in choose(samples, 20, 1)}
    assert len(choose(samples, None, 0)) == 200


def test_task_names_become_splits() -> None:
    def names(*args: object) -> list[str]:
        return [f"{t.name}/{s}" for t, s in parse_tasks(*args)]  # type: ignore[arg-type]

    assert names(["refcoco"]) == ["refcoco/val", "refcoco/testA", "refcoco/testB"]
    assert names(["refcoco/testA", "vqav2"]) == ["refcoco/testA", "vqav2/val"]
    assert names(["refcoco", "vqav2"], ["val"]) == ["refcoco/val", "vqav2/val"]
    assert names(["refcoco/testB", "refcoco"]) == ["refcoco/testB", "refcoco/val", "refcoco/testA"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["refcco"], "unknown task 'refcco': did you mean refcoco"),
        (["12345"], "unknown task '12345': 'evalkit tasks' lists the benchmarks"),
        (["refcoco/test"], "task refcoco has no split 'test': there are val, testA, testB, train"),
        ([], "no task was named"),
    ],
)
def test_wrong_tasks_are_reported(tasks: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_tasks(tasks)


def test_digest_covers_text_role_and_place_of_images() -> None:
    class Ref:
        name = "x"

    image = ImagePart(Ref())  # type: ignore[arg-type]
    base = (Message("user", (image, TextPart("what?"))),)
    others = [
        (Message("user", (TextPart("what?"), image)),),
        (Message("user", (image, TextPart("what"))),),
        (Message("system", (image, TextPart("what?"))),),
        (Message("user", (image,)), Message("user", (TextPart("what?"),))),
    ]
    digests = [prompt_digest(m) for m in (base, *others)]
    assert len(set(digests)) == len(digests)
    assert prompt_digest(base) == digests[0]


class _Failing(Backend):
    """A backend that answers ``good`` requests and then does what it is told to."""

    name = "failing"

    def __init__(self, good: int, then: Exception | None) -> None:
        self.good, self.then = good, then

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        for request in requests[: self.good]:
            yield Response(request.id, "yes")
        if self.then is not None:
            raise self.then

    def describe(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        (
            RuntimeError("CUDA error: device-side assert\nmore lines"),
            "failed: RuntimeError: CUDA error: device-side assert. Answers so far are saved",
        ),
        (
            ConnectionError(),
            "failed: ConnectionError: no reason given. Answers so far are saved; run the same command to resume",
        ),
        (None, "the backend failing answered no request"),
    ],
)
def test_failing_backend_is_reported_and_loses_no_answers(then: Exception | None, sentence: str) -> None:
    ((task, split),) = parse_tasks(["vqav2/val"])
    job = load_job(task, split, open_data("tiny"), limit=8, seed=0)
    family = registry.families.get("qwen2.5-vl")
    seen: list[str] = []
    questions = build_requests(job, family)
    with (
        ImageDigests(q.request for q in questions.values()) as digests,
        pytest.raises(RunFailed, match=re.escape(sentence)) as failed,
    ):
        run_job(job, questions, family, _Failing(3, then), lambda r: seen.append(r.sample.id), digests=digests)
    assert "\n" not in str(failed.value)
    assert seen == [s.id for s in job.samples][:3]


def test_stopping_is_not_failure() -> None:
    ((task, split),) = parse_tasks(["vqav2/val"])
    job = load_job(task, split, open_data("tiny"), limit=8, seed=0)
    stop = Event()
    stop.set()
    family = registry.families.get("qwen2.5-vl")
    questions = build_requests(job, family)
    with ImageDigests(q.request for q in questions.values()) as digests, pytest.raises(Stopped):
        run_job(job, questions, family, _Failing(3, None), lambda record: None, digests=digests, stop=stop)
