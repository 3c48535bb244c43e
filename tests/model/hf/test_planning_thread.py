"""Windows planned ahead: in order, one at a time, and never asked for where nobody may wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from evalkit.model.hf.planning_thread import PlanningThread, WindowPlan
from evalkit.types import Decoding, Request

ONE = (Request("1", (), Decoding(1)),)


class Windows:
    """Gives windows one by one; counts how many were asked for."""

    def __init__(self, *windows: Sequence[Request]) -> None:
        self.windows = windows
        self.asked = 0

    def __iter__(self) -> Iterator[Sequence[Request]]:
        for window in self.windows:
            self.asked += 1
            yield window
        self.asked += 1


def _rows(requests: Sequence[Request]) -> WindowPlan:
    return WindowPlan(for_engine=list(requests))  # type: ignore[arg-type]


def _ahead(windows: Windows, plan: Callable[[Sequence[Request]], WindowPlan] = _rows) -> PlanningThread:
    return PlanningThread(iter(windows), plan)


def _soon(plans: PlanningThread) -> WindowPlan | None:
    """What is ready, as soon as it has been planned."""
    while not plans.done:
        time.sleep(0.001)
    return plans.poll()


def test_windows_come_in_order_and_the_next_is_asked_for_before_one_is_given() -> None:
    windows = Windows(*[(Request(str(n), (), Decoding(1)),) for n in range(4)])
    with _ahead(windows) as plans:
        found: list[Any] = []
        while (plan := (_soon(plans) if len(found) % 2 else plans.wait())) is not None:
            found += plan.for_engine
            assert windows.asked == len(found) + 1
    assert [row.id for row in found] == list("0123")
    assert _soon(plans) is None


def test_after_an_empty_window_none_is_asked_for_until_somebody_waits() -> None:
    windows = Windows(ONE, (), ONE)
    with _ahead(windows) as plans:
        assert plans.wait() is not None
        assert _soon(plans) is None
        assert windows.asked == 2
        assert plans.wait() == WindowPlan()
        assert windows.asked == 3
        assert _soon(plans) is not None


@pytest.mark.parametrize(
    "odd", [WindowPlan(for_engine=[1], for_generate=[1]), WindowPlan(for_engine=[1], failed=[(ONE[0], OSError())])], ids=["generate's", "failed"]  # type: ignore[list-item]
)  # fmt: skip
def test_what_is_not_wholly_the_engines_is_waited_for(odd: WindowPlan) -> None:
    with _ahead(Windows(ONE), lambda _: odd) as plans:
        assert _soon(plans) is None
        assert plans.wait() is odd


def test_what_cannot_be_planned_is_told_to_those_who_wait() -> None:
    """Not to the engine, which has rows in work."""

    def fail(_: Sequence[Request]) -> WindowPlan:
        raise RuntimeError("no")

    with _ahead(Windows(ONE), fail) as plans:
        assert _soon(plans) is None
        with pytest.raises(RuntimeError, match="no"):
            plans.wait()
