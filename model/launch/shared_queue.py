"""The requests that several servers answer, each taking groups about the same images.

Everything happens in one event loop, so that nothing is locked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from evalkit.model.grouping import group_by_images
from evalkit.types import Request

MAX_GROUP = 64
"""Larger groups of requests with the same images are split among servers."""


class SharedQueue:
    """Requests that no server has yet, in groups with the same images.

    Attributes:
        unanswered: the number of requests without a response, those that servers have included.
        changed: set when requests come back, or all are answered.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.unanswered = len(requests)
        self.changed = asyncio.Event()
        self._groups: deque[Sequence[Request]] = deque()
        self._add(requests)

    def _add(self, requests: Sequence[Request]) -> None:
        groups = [
            group[start : start + MAX_GROUP]
            for group in group_by_images(requests)
            for start in range(0, len(group), MAX_GROUP)
        ]
        self._groups.extend(groups)

    def __len__(self) -> int:
        """The number of groups that no server has."""
        return len(self._groups)

    def take(self) -> Sequence[Request]:
        """The next group."""
        return self._groups.popleft()

    def answered(self) -> None:
        """Count an answer."""
        self.unanswered -= 1
        if not self.unanswered:
            self.changed.set()

    def give_back(self, requests: Sequence[Request]) -> None:
        """Take back what a server has not answered."""
        self._add(requests)
        self.changed.set()


class Share:
    """What one server takes from the queue; the requests of a group in order, and a group as a whole."""

    def __init__(self, queue: SharedQueue) -> None:
        self._queue = queue
        self._group: deque[Request] = deque()
        self._sent: dict[str, Request] = {}

    def __len__(self) -> int:
        """Not 0 while there is a request to take."""
        return len(self._group) + len(self._queue)

    def popleft(self) -> Request:
        """The next request."""
        if not self._group:
            self._group.extend(self._queue.take())
        request = self._group.popleft()
        self._sent[request.id] = request
        return request

    def answered(self, request_id: str) -> None:
        """Record that a request has its response."""
        if self._sent.pop(request_id, None) is not None:
            self._queue.answered()

    def give_back(self) -> None:
        """Return what is not answered to the queue."""
        self._queue.give_back([*self._sent.values(), *self._group])
        self._sent.clear()
        self._group.clear()
