"""Threads beside the model: they read images and make tensors of them, and leave it the processor's cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def threads(count: int) -> ThreadPoolExecutor:
    """Threads in each of which torch works alone.

    Otherwise each would have a team of OpenMP threads of its own, which wait by spinning; and GNU's OpenMP, once it has
    more threads than there are cores, puts those of all teams to sleep after every operation: with one such thread, a
    model on two cores took 1.15 times as long.

    Raises:
        RuntimeError: the system has no more threads to give.
    """
    mine = torch.get_num_threads()
    there = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # takes over the number for all; later, that would replace the one set here
        torch.set_num_threads(1)
        there.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    try:
        for _ in range(count):
            pool.submit(int)
    except RuntimeError:  # no more threads may be started: those that were would wait for ever
        there.abort()
        raise
    there.wait()
    torch.set_num_threads(mine)  # what is set counts for threads to come, too
    return pool
