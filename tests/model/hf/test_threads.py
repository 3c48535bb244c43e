"""Threads beside the model leave it the processor's cores."""

from __future__ import annotations

import os
import resource
import sys
from threading import Thread

import pytest
import torch

from evalkit.model.hf.threads import threads


def test_torch_uses_one_thread_inside() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads(3) as pool:
            found = [pool.submit(torch.get_num_threads) for _ in range(9)]
            assert {one.result() for one in found} == {1}
            assert torch.get_num_threads() == 2
        with threads(1) as pool:  # after work, too: what is set only counts until torch first asks
            work = pool.submit(lambda: float((torch.ones(2**20) * 2).sum()))
            assert work.result() == 2**21
            assert pool.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(before)


def test_exceptions_in_threads_are_raised() -> None:
    with threads(1) as pool, pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result()


def test_thread_limit_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = Thread.start, []

    def refused(thread: Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(Thread, "start", refused)
    with pytest.raises(RuntimeError, match="can't start"):
        threads(4)
    for thread in started:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores")
def test_model_threads_do_not_sleep_between_operations() -> None:
    """Where a thread has a team of its own, it does at each, four hundred times here; on a busy machine now and then."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    work = torch.randn(300, 300)

    def sleeps() -> int:
        began = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        for _ in range(100):
            torch.relu(work) + 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - began

    try:
        sleeps()
        with threads(1) as pool:
            pool.submit(lambda: (torch.ones(2**20) * 2).sum()).result()
            assert min(sleeps() for _ in range(10)) < 100
    finally:
        torch.set_num_threads(before)
