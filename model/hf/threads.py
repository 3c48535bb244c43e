"""Helper threads that load and preprocess images without taking CPU cores from the model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def threads(count: int) -> ThreadPoolExecutor:
    """A pool of threads in which torch uses one core each.

    Otherwise each thread would have its own team of spinning OpenMP threads.  With more threads than cores, GNU's
    OpenMP puts those of all teams to sleep after every operation: one such thread made a model on two cores 1.15 times
    slower.

    Raises:
        RuntimeError: the system cannot start more threads.
    """
    count_here = torch.get_num_threads()
    started = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # initialises the global count, which would otherwise replace the one set here later
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    try:
        for _ in range(count):
            pool.submit(int)
    except RuntimeError:  # a thread could not be started: release the others
        started.abort()
        raise
    started.wait()
    torch.set_num_threads(count_here)  # the setting applies to new threads, too
    return pool
