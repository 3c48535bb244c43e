"""What is still to be handed to workers, in chunks of whole groups of requests with the same images.

Chunks are a share of what is left (guided self-scheduling): large at first, so that a worker's engine has much to share
and to sort, small towards the end, so that all workers are through at about the same time, whatever their speeds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

from evalkit.model.grouping import group_by_images
from evalkit.types import Request

# Requests of one group that stay together: from here on, one more prefill of what they share does not matter.
MAX_GROUP = 64
# Requests in a chunk: the first ones of each worker are small, so that answers come soon.
FIRST = 512
LARGEST = 4096
# A worker holds up to three chunks; this share of what is left leaves enough over for balance.
SHARE = 4
# Of the rows that a worker answers together, what the last chunks should fill.
LEAST = 4
# Those that a dead worker was at come back in small chunks: one of them may be what it died of.
AFTER_DEATH = 16


class Queue:
    """The requests of one run.

    Args:
        workers: how many answer them.
        rows: how many requests a worker answers together.

    Attributes:
        unanswered: requests that have no response yet, wherever they are.
        rows: as given, until it is known better.
    """

    def __init__(self, requests: Sequence[Request], *, workers: int, rows: int) -> None:
        self.unanswered = len(requests)
        self._workers = workers
        self._waiting: deque[tuple[Request, ...]] = deque(split_into_groups(requests))
        self._count = len(requests)
        self.rows = rows
        self._share = math.ceil(len(requests) / (SHARE * workers))
        self._taken = 0
        self._again: deque[tuple[Request, ...]] = deque()
        self._survived: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there is something to hand out."""
        return bool(self._again or self._waiting)

    def __len__(self) -> int:
        return self._count + sum(map(len, self._again))

    def take(self) -> tuple[Request, ...]:
        """The next chunk."""
        if self._again:
            return self._again.popleft()
        largest = FIRST if self._taken < self._workers else LARGEST
        least = max(1, min(self.rows // LEAST, self._share))
        wanted = max(least, min(largest, math.ceil(self._count / (SHARE * self._workers))))
        chunk: list[Request] = []
        while self._waiting and (not chunk or len(chunk) + len(self._waiting[0]) <= wanted):
            chunk += self._waiting.popleft()
        self._taken += 1
        self._count -= len(chunk)
        return tuple(chunk)

    def give_back(self, begun: Iterable[Request], untouched: Iterable[Request]) -> list[Request]:
        """Take back what a dead worker has not answered; gives those that it was not the first to die of."""
        lost: list[Request] = []
        again: list[Request] = []
        for request in begun:
            (lost if request.id in self._survived else again).append(request)
            self._survived.add(request.id)
        pieces: list[list[Request]] = []
        for group in split_into_groups(again):
            if not pieces or len(pieces[-1]) + len(group) > AFTER_DEATH:
                pieces.append([])
            pieces[-1] += group
        self._again.extend(map(tuple, pieces))
        groups = split_into_groups(untouched)
        self._waiting.extendleft(reversed(groups))
        self._count += sum(map(len, groups))
        return lost


def split_into_groups(requests: Iterable[Request]) -> list[tuple[Request, ...]]:
    """Groups of requests with the same images; groups larger than ``MAX_GROUP`` are split."""
    return [
        tuple(group[start : start + MAX_GROUP])
        for group in group_by_images(requests)
        for start in range(0, len(group), MAX_GROUP)
    ]
