"""Several workers as one backend: ``--device cuda:0,cuda:1`` runs a worker process on each, all on one queue.

Requests with the same images go to the same worker, so that what they share is still computed once, and each worker
is a whole ``hf`` backend; the answers are those of one.

The parts: ``pool`` (who answers what, and what if one dies), ``work`` (which checkpoint a free worker turns to),
``queue`` (what of one split is still to be handed out), ``hand`` (one worker, as seen from here), ``local`` and
``cluster`` (where it lives), ``process`` and ``actor`` (the same from within), ``wire`` (what they say to each other).
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
from evalkit.interfaces import Backend, RequestBatch, WorkerPool
from evalkit.model.hf.devices import Place, named
from evalkit.model.hf.loading import identity, load_processor
from evalkit.model.hf.processor import Inputs
from evalkit.model.token_estimate import costs
from evalkit.types import ImageRef, Request, Response, Size

from . import local as local
from .pool import Pool


class HFWorkerPool(Pool, WorkerPool):
    """Workers that are ``hf`` backends."""

    def identity(self, checkpoint: Checkpoint, *, dtype: str) -> Mapping[str, Any]:
        """As the ``hf`` backend's, where the workers are.  Raises ``UserError``: transformers has no such model."""
        return identity(checkpoint, torch.device(self.device.partition(":")[0]), dtype)

    def backend(self, checkpoint: Checkpoint) -> Workers:
        """All workers as a backend of one checkpoint; nothing is loaded yet."""
        return Workers(self, checkpoint)

    def open(self, checkpoint: Checkpoint) -> Workers:
        """The same, once they have all loaded it.

        Raises:
            UserError: it cannot be opened as it is asked for.
            RunFailed: the workers died while they loaded it.
        """
        backend = self.backend(checkpoint)
        try:
            backend.prepare()
            self.load(checkpoint)
        except BaseException:
            self.close()
            raise
        return backend


class Workers(Backend):
    """A backend of all workers of a pool, for one checkpoint."""

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
        """Read the processor.  Raises ``UserError``."""
        _ = self._inputs

    def describe(self) -> Mapping[str, Any]:
        """That of one worker, with the devices of all that have had the checkpoint."""
        abouts = list(self.pool.about(self.checkpoint).values())
        found = Counter(str(about.get("device_name")) for about in abouts)
        names = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in found.items())
        places = {"device": ",".join(str(about.get("device")) for about in abouts), "device_name": names}
        return {**(abouts[0] if abouts else {}), **places, "workers": len(abouts), **self.pool.recorded}

    def estimate_tokens(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """About how many tokens are to be computed for each request."""
        abouts = self.pool.about(self.checkpoint).values()
        shared = all(about.get("engine") == "shared prefixes" for about in abouts)
        return costs(requests, sizes, visual=self._inputs.visual, shared=shared)

    def memory(self) -> int:
        """Bytes that all workers take: of their devices, or of the host's where they are on the CPU."""
        return sum(hand.memory for hand in self.pool.hands)

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, from whichever worker has it first.

        Raises:
            RunFailed: all workers are gone.
            Exception: what came out of a worker's backend, as it would have come out of one in this process.
        """
        for _, answer in self.pool.answer([RequestBatch(self.checkpoint, len(requests), lambda: requests)], stop):
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """As the ``hf`` backend's, from one of the workers."""
        return self.pool.embed(self.checkpoint, images)


def local_pool(places: Sequence[Place], options: Mapping[str, Any]) -> HFWorkerPool:
    """A worker process at each place, which are of one kind; one that is there twice has two workers.

    Args:
        options: what ``open`` of each takes besides checkpoint and device.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [named(place) for place in places]
    threads = max(1, cores // len(places))
    return HFWorkerPool(
        [local.Local(name, device, threads) for name, device in zip(_numbered(names), names, strict=True)],
        those_with_messages=local.those_with_messages,
        close=local.close,
        options=options,
        asked=f"--device {','.join(names)}",
        instead="give one device",
        less="fewer devices in --device take less memory",
        device=names[0],
    )


def _numbered(devices: Sequence[str]) -> list[str]:
    """What messages call the workers: their devices, numbered where there are several of one."""
    names = []
    for at, device in enumerate(devices):
        names.append(device if devices.count(device) == 1 else f"{device}#{devices[: at + 1].count(device)}")
    return names
