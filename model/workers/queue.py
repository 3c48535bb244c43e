"""The queue of requests that are not yet dispatched to workers, taken in chunks of image groups.

A chunk is a share of the remaining requests (guided self-scheduling): large at first, so that a worker's engine can
share and sort much, and small towards the end, so that workers finish at about the same time, whatever their speeds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

from evalkit.model.grouping import group_by_images
from evalkit.types import Request

# Larger groups of requests with the same images are split: one more prefill of the shared images is cheap by then.
MAX_GROUP = 64
# Requests in a chunk. Each worker's first chunk is small, so that the first answers arrive early.
FIRST_CHUNK = 512
MAX_CHUNK = 4096
# A chunk is the remaining requests per worker divided by this. A worker has up to three chunks, so enough is left to
# balance the load.
CHUNK_DIVISOR = 4
# A chunk has at least a worker's batch size divided by this.
MIN_CHUNK_DIVISOR = 4
# A crashed worker's requests are requeued in small chunks to isolate the one that crashed it.
RETRY_CHUNK = 16


class RequestQueue:
    """The requests of one batch.

    Args:
        workers: the number of workers that answer them.
        worker_batch_size: how many requests a worker answers together.

    Attributes:
        unanswered: the number of requests without a response, queued or dispatched.
        worker_batch_size: as given; set again when a worker reports its own.
    """

    def __init__(self, requests: Sequence[Request], *, workers: int, worker_batch_size: int) -> None:
        self.unanswered = len(requests)
        self.worker_batch_size = worker_batch_size
        self._workers = workers
        self._groups: deque[tuple[Request, ...]] = deque(split_into_groups(requests))
        self._count = len(requests)  # requests in _groups
        self._first_share = math.ceil(len(requests) / (CHUNK_DIVISOR * workers))
        self._chunks_taken = 0
        self._retries: deque[tuple[Request, ...]] = deque()
        self._survivors: set[str] = set()  # ids of requests that were in progress when a worker died

    def __bool__(self) -> bool:
        """Whether any request is queued."""
        return bool(self._retries or self._groups)

    def __len__(self) -> int:
        return self._count + sum(map(len, self._retries))

    def take_chunk(self) -> tuple[Request, ...]:
        """The next chunk."""
        if self._retries:
            return self._retries.popleft()
        most = FIRST_CHUNK if self._chunks_taken < self._workers else MAX_CHUNK
        least = max(1, min(self.worker_batch_size // MIN_CHUNK_DIVISOR, self._first_share))
        size = max(least, min(most, math.ceil(self._count / (CHUNK_DIVISOR * self._workers))))
        chunk: list[Request] = []
        while self._groups and (not chunk or len(chunk) + len(self._groups[0]) <= size):
            chunk += self._groups.popleft()
        self._chunks_taken += 1
        self._count -= len(chunk)
        return tuple(chunk)

    def requeue(self, in_progress: Iterable[Request], untouched: Iterable[Request]) -> list[Request]:
        """Take back the unanswered requests of a dead worker.

        Args:
            in_progress: the rest of the chunk that it was working on.
            untouched: the chunks after it.

        Returns:
            the requests that are not queued again, because they were in progress when another worker died, too.
        """
        given_up: list[Request] = []
        retried: list[Request] = []
        for request in in_progress:
            (given_up if request.id in self._survivors else retried).append(request)
            self._survivors.add(request.id)
        chunks: list[list[Request]] = []
        for group in split_into_groups(retried):
            if not chunks or len(chunks[-1]) + len(group) > RETRY_CHUNK:
                chunks.append([])
            chunks[-1] += group
        self._retries.extend(map(tuple, chunks))
        groups = split_into_groups(untouched)
        self._groups.extendleft(reversed(groups))
        self._count += sum(map(len, groups))
        return given_up


def split_into_groups(requests: Iterable[Request]) -> list[tuple[Request, ...]]:
    """Groups of requests with the same images; groups larger than ``MAX_GROUP`` are split."""
    return [
        tuple(group[start : start + MAX_GROUP])
        for group in group_by_images(requests)
        for start in range(0, len(group), MAX_GROUP)
    ]
