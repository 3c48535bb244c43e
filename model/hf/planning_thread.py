"""Windows of requests, planned in a thread while those before are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from evalkit.types import Request

from .processor import Planned

# How many requests are planned together, to be sorted and to find what they share: the first few soon, so that answers
# come soon.
FIRST = 512
WINDOW = 4096


@dataclass
class Plan:
    """A window of requests, ready to be answered.

    Attributes:
        rows: for the engine; ``others`` for the model's own ``generate``.
        failed: the requests that have no rows, and why.
    """

    rows: list[Planned] = field(default_factory=list)
    others: list[Planned] = field(default_factory=list)
    failed: list[tuple[Request, BaseException]] = field(default_factory=list)


class Ahead:
    """Asks for a window while the one before is answered, and plans it.

    An empty window says that none is there yet: the one after it is not asked for before somebody waits.
    """

    def __init__(self, windows: Iterator[Sequence[Request]], plan: Callable[[Sequence[Request]], Plan]) -> None:
        self._windows = windows
        self._plan = plan
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._coming: Future[Plan] | None = None

    def __enter__(self) -> Ahead:
        self._ask()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def _ask(self) -> None:
        window = next(self._windows, None)
        self._coming = None if window is None else self._thread.submit(self._plan, window)

    def wait(self) -> Plan | None:
        """The next window's plan; None after the last."""
        if self._coming is None:
            return None
        plan = self._coming.result()
        self._ask()
        return plan

    def ready(self) -> Plan | None:
        """The next window's plan, if it is there and is wholly the engine's; else None."""
        if self._coming is None or not self._coming.done() or self._coming.exception() is not None:
            return None
        plan = self._coming.result()
        if not plan.rows or plan.others or plan.failed:
            return None
        self._ask()
        return plan


def cut_up(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Requests in windows, those of the same images in the same one (as far as it has room)."""
    groups: dict[tuple[str, ...], list[Request]] = {}
    for request in requests:
        groups.setdefault(tuple(image.name for image in request.images), []).append(request)
    window: list[Request] = []
    size = FIRST
    for group in groups.values():
        window += group
        while len(window) >= size:
            yield window[:size]
            window, size = window[size:], WINDOW
    if window:
        yield window
