"""The planning thread: windows in order, planned one ahead, and none taken while none may be waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from evalkit.model.hf.planning_thread import FIRST_WINDOW, PlanningThread, WindowPlan, split_into_windows
from evalkit.model.hf.synthetic_image import SyntheticImage
from evalkit.model.synthetic_video import SyntheticVideo
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart, VideoPart

ONE = (Request("1", (), Decoding(1)),)


class Windows:
    """Yields windows, and counts how many were taken."""

    def __init__(self, *windows: Sequence[Request]) -> None:
        self.windows = windows
        self.taken = 0

    def __iter__(self) -> Iterator[Sequence[Request]]:
        for window in self.windows:
            self.taken += 1
            yield window
        self.taken += 1


def _rows(requests: Sequence[Request]) -> WindowPlan:
    return WindowPlan(for_engine=list(requests))  # type: ignore[arg-type]


def _thread(windows: Windows, plan: Callable[[Sequence[Request]], WindowPlan] = _rows) -> PlanningThread:
    return PlanningThread(iter(windows), plan)


def _poll_when_done(plans: PlanningThread) -> WindowPlan | None:
    """Poll once planning is done."""
    while not plans.done:
        time.sleep(0.001)
    return plans.poll()


def test_next_window_is_taken_before_one_is_returned() -> None:
    windows = Windows(*[(Request(str(n), (), Decoding(1)),) for n in range(4)])
    with _thread(windows) as plans:
        found: list[Any] = []
        while (plan := (_poll_when_done(plans) if len(found) % 2 else plans.wait())) is not None:
            found += plan.for_engine
            assert windows.taken == len(found) + 1
    assert [row.id for row in found] == list("0123")
    assert _poll_when_done(plans) is None


def test_no_window_is_taken_after_empty_one_until_wait() -> None:
    windows = Windows(ONE, (), ONE)
    with _thread(windows) as plans:
        assert plans.wait() is not None
        assert _poll_when_done(plans) is None
        assert windows.taken == 2
        assert plans.wait() == WindowPlan()
        assert windows.taken == 3
        assert _poll_when_done(plans) is not None


@pytest.mark.parametrize(
    "odd", [WindowPlan(for_engine=[1], for_generate=[1]), WindowPlan(for_engine=[1], failed=[(ONE[0], OSError())])], ids=["generate's", "failed"]  # type: ignore[list-item]
)  # fmt: skip
def test_poll_returns_only_plans_entirely_for_engine(odd: WindowPlan) -> None:
    with _thread(Windows(ONE), lambda _: odd) as plans:
        assert _poll_when_done(plans) is None
        assert plans.wait() is odd


def test_planning_error_is_raised_by_wait_only() -> None:
    """Not by ``poll``: the engine still has running sequences."""

    def fail(_: Sequence[Request]) -> WindowPlan:
        raise RuntimeError("no")

    with _thread(Windows(ONE), fail) as plans:
        assert _poll_when_done(plans) is None
        with pytest.raises(RuntimeError, match="no"):
            plans.wait()


def test_questions_about_a_video_share_a_window() -> None:
    """A window has fewer of them than of others; none is lost, and images fill up windows as before."""
    parts = [VideoPart(SyntheticVideo(f"{n}", 4, 56, 56)) for n in range(120)]
    images = [ImagePart(SyntheticImage(f"image {n}", 9, 9)) for n in range(300)]
    requests = [
        Request(f"{part}-{n}", (Message("user", (part, TextPart(f"{n}"))),), Decoding(1))
        for part in [*parts, *images]
        for n in range(9)
    ]
    windows = list(split_into_windows(requests))
    assert [r.id for window in windows for r in window] == [r.id for r in requests]
    seen: dict[Any, int] = {}
    for at, window in enumerate(windows):
        for request in window:
            if request.videos:
                assert seen.setdefault(request.videos[0].name, at) == at
    assert len(windows[0]) == FIRST_WINDOW // 16 // 9 * 9
    alone = list(split_into_windows(requests[len(parts) * 9 :]))
    assert [len(window) for window in alone] == [FIRST_WINDOW, 2700 - FIRST_WINDOW]
