"""Several workers as one backend: ``--device cuda:0,cuda:1`` runs a worker process on each device, all on one queue.

Requests with the same images go to the same worker, so that the shared part is still computed once.  Each worker is a
complete ``hf`` backend, so the answers are those of a single one.

Modules: ``pool`` dispatches requests; ``supervisor`` starts workers and restarts those that die; ``schedule`` decides
which checkpoint a free worker loads; ``queue`` has a batch's remaining requests.  ``handle`` is a worker as the main
process sees it; ``local`` and ``ray_pool`` say where it runs; ``process`` and ``ray_actor`` are the code that runs
there; ``messages`` is what both sides exchange.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from threading import Event
from typing import Any

import torch

from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import Backend, RequestBatch
from evalkit.model.hf.devices import Place, named
from evalkit.model.hf.loading import identity
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.processor_loading import load_processor
from evalkit.model.token_estimate import estimate_tokens
from evalkit.types import ImageRef, Request, Response, Size

from . import local
from .pool import QueuePool
from .supervisor import Advice


class HFWorkerPool(QueuePool):
    """A pool of workers that are ``hf`` backends."""

    def identity(self, checkpoint: Checkpoint, *, dtype: str) -> Mapping[str, Any]:
        """The ``hf`` backend's identity on the workers' device.  Raises ``UserError`` as that does."""
        return identity(checkpoint, torch.device(self.device.partition(":")[0]), dtype)

    def backend(self, checkpoint: Checkpoint) -> PoolBackend:
        """All workers as a backend of one checkpoint, which is not loaded yet."""
        return PoolBackend(self, checkpoint)

    def open(self, checkpoint: Checkpoint) -> PoolBackend:
        """All workers as a backend of one checkpoint, which all of them have loaded.

        Raises:
            UserError: the checkpoint cannot be opened with these options.
            RunFailed: all workers died while loading it.
        """
        backend = self.backend(checkpoint)
        try:
            backend.prepare()
            self.load(checkpoint)
        except BaseException:
            self.close()
            raise
        return backend


class PoolBackend(Backend):
    """A backend of one checkpoint, made of all workers of a pool."""

    name = "hf"

    def __init__(self, pool: HFWorkerPool, checkpoint: Checkpoint) -> None:
        self.pool = pool
        self.checkpoint = checkpoint

    def close(self) -> None:
        """End the workers."""
        self.pool.close()

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(load_processor(self.checkpoint))

    def prepare(self) -> None:
        """Load the processor.  Raises ``UserError`` if that fails."""
        _ = self._inputs

    def describe(self) -> Mapping[str, Any]:
        """The description of one worker, with the devices of all that have loaded the checkpoint."""
        workers = list(self.pool.descriptions(self.checkpoint).values())
        counts = Counter(str(worker.get("device_name")) for worker in workers)
        names = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())
        devices = {"device": ",".join(str(worker.get("device")) for worker in workers), "device_name": names}
        return {**(workers[0] if workers else {}), **devices, "workers": len(workers), **self.pool.recorded}

    def estimate_tokens(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """The estimated number of tokens to compute for each request."""
        workers = self.pool.descriptions(self.checkpoint).values()
        shared = all(worker.get("engine") == "shared prefixes" for worker in workers)
        return estimate_tokens(requests, sizes, visual=self._inputs.visual, shared=shared)

    def memory(self) -> int:
        """Bytes that all workers use: device memory, or host memory on the CPU."""
        return sum(handle.memory for handle in self.pool.handles)

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, in the order in which workers finish them.

        Raises:
            RunFailed: all workers died.
            Exception: raised by a worker's backend, as a backend in this process would have raised it.
        """
        for _, response in self.pool.answer([RequestBatch(self.checkpoint, len(requests), lambda: requests)], stop):
            if isinstance(response, Exception):
                raise response
            yield response

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """One vector per image, from one of the workers, as the ``hf`` backend computes it."""
        return self.pool.embed(self.checkpoint, images)


def local_pool(places: Sequence[Place], options: Mapping[str, Any]) -> HFWorkerPool:
    """A pool with one worker process for each device given; a device given twice gets two workers.

    Args:
        places: devices of one kind.
        options: arguments of the workers' ``open``, without checkpoint and device.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = [named(place) for place in places]
    threads = max(1, cores // len(places))
    return HFWorkerPool(
        [local.LocalHandle(name, device, threads) for name, device in zip(_numbered(devices), devices, strict=True)],
        wait_for_messages=local.wait_for_messages,
        close=local.close,
        options=options,
        advice=Advice(
            option=f"--device {','.join(devices)}",
            instead="give one device",
            less_memory="fewer devices in --device take less memory",
        ),
        device=devices[0],
    )


def _numbered(devices: Sequence[str]) -> list[str]:
    """Workers' names: their devices, numbered where several workers share one."""
    return [
        device if devices.count(device) == 1 else f"{device}#{devices[: index + 1].count(device)}"
        for index, device in enumerate(devices)
    ]
