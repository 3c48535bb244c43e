"""A thread that plans the next window of requests while the current one is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from evalkit.model.grouping import group_by_images
from evalkit.types import Request

from .planned import PlannedRequest

# Requests per window: they are sorted and their shared prefixes are found together. The first window is small, so that
# the first answers come early.
FIRST_WINDOW = 512
WINDOW = 4096
# A request with a video counts as so many: its packets are read in planning, and its elements kept with the window.
VIDEO_REQUEST = 16


@dataclass
class WindowPlan:
    """A window of requests, ready to be answered.

    Attributes:
        for_engine: planned requests for the engine.
        for_generate: planned requests for the model's own ``generate``.
        failed: the requests that cannot be planned, each with its error.
    """

    for_engine: list[PlannedRequest] = field(default_factory=list)
    for_generate: list[PlannedRequest] = field(default_factory=list)
    failed: list[tuple[Request, BaseException]] = field(default_factory=list)


class PlanningThread:
    """Takes a window while the previous one is answered, and plans it.

    An empty window means that no requests are available yet: the following window is only taken in ``wait``.

    Args:
        windows: the windows; an element is taken in the caller's thread.
        plan: plans a window, in the planning thread.
    """

    def __init__(self, windows: Iterator[Sequence[Request]], plan: Callable[[Sequence[Request]], WindowPlan]) -> None:
        self._windows = windows
        self._plan = plan
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._next: Future[WindowPlan] | None = None

    def __enter__(self) -> PlanningThread:
        self._submit()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def _submit(self) -> None:
        window = next(self._windows, None)
        self._next = None if window is None else self._thread.submit(self._plan, window)

    @property
    def done(self) -> bool:
        """Whether the next window is planned (or there is none)."""
        return self._next is None or self._next.done()

    def wait(self) -> WindowPlan | None:
        """The next window's plan; None after the last window.  Raises what planning it raised."""
        if self._next is None:
            return None
        plan = self._next.result()
        self._submit()
        return plan

    def poll(self) -> WindowPlan | None:
        """The next window's plan, if it is done and all of it is for the engine; else None."""
        if self._next is None or not self._next.done() or self._next.exception() is not None:
            return None
        plan = self._next.result()
        if not plan.for_engine or plan.for_generate or plan.failed:
            return None
        self._submit()
        return plan


def split_into_windows(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Split requests into windows.

    Requests with the same images share a window as far as it has room; those with the same videos always do, so that
    each is decoded once.
    """
    window: list[Request] = []
    size, used = FIRST_WINDOW, 0
    for group in group_by_images(requests):
        videos = bool(group[0].videos)
        needed = len(group) * (VIDEO_REQUEST if videos else 1)
        if videos and window and used + needed > size:
            yield window
            window, size, used = [], WINDOW, 0
        window, used = window + group, used + needed
        while used >= size:
            kept = 0 if videos else used - size
            yield window[: len(window) - kept]
            window, size, used = window[len(window) - kept :], WINDOW, kept
    if window:
        yield window
