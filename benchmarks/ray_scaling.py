"""Speedup of two Ray workers over one, with one thread each, on the same samples.

    OMP_NUM_THREADS=1 python benchmarks/ray_scaling.py                 # two cores: under two minutes
    OMP_NUM_THREADS=1 python benchmarks/ray_scaling.py --local         # worker processes without Ray
    OMP_NUM_THREADS=1 python benchmarks/ray_scaling.py --json rates.json

The bundled tiny checkpoint answers its VQAv2 and RefCOCO samples, with ``--copies`` of every image, so that
sharing is as in a real run.  Loading the checkpoint is timed separately.  The rate of one worker is the input of the
queue simulation (``simulate.py``), whose prediction for two is printed next to the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulate import Fleet, Group, simulate

from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.data import open_data
from evalkit.images import PathImage
from evalkit.interfaces import RequestBatch
from evalkit.types import Batching, Cluster, Decoding, ImagePart, Message, PromptSpec, Request

TASKS = (("vqav2", "val"), ("refcoco", "testA"))


def copied(request: Request, number: int, folder: Path) -> Request:
    """The same request with a copy of its image."""

    def message(one: Message) -> Message:
        return replace(one, content=tuple(part(p) for p in one.content))

    def part(one: Any) -> Any:
        if not isinstance(one, ImagePart) or not isinstance(one.image, PathImage):
            return one
        target = folder / f"{number}-{Path(one.image.path).name}"
        if not target.exists():
            shutil.copy(one.image.path, target)
        return ImagePart(PathImage(str(target)))

    return replace(request, id=f"{request.id}-{number}", messages=tuple(map(message, request.messages)))


def drawn(copies: int, folder: Path) -> list[Request]:
    """All requests."""
    found = []
    for name, split in TASKS:
        task, family = registry.tasks.get(name), registry.families.get("qwen2.5-vl")
        for sample in task.load(open_data("tiny"), split):
            request = Request(f"{name}-{sample.id}", family.prompt(PromptSpec(name, task.kind), sample), Decoding(32))
            found += [copied(request, number, folder) for number in range(copies)]
    return found


def measured(workers: int, requests: Sequence[Request], *, local: bool) -> tuple[float, float]:
    """Seconds to load the checkpoint everywhere, and then to answer."""
    factory: Any = registry.backends.get("hf")
    checkpoint = resolve_checkpoint("tiny")
    options: dict[str, Any] = {"dtype": "float32", "batching": Batching()}
    if local and workers == 1:
        began = time.perf_counter()
        backend = factory.open(checkpoint, device="cpu", **options)
        loaded = time.perf_counter()
        count = sum(1 for _ in backend.generate(requests))
        assert count == len(requests)
        return loaded - began, time.perf_counter() - loaded
    if local:
        pool = factory.worker_pool(device=",".join(["cpu"] * workers), **options)
    else:
        pool = factory.worker_pool(device="cpu", cluster=Cluster("local", workers, 0), **options)
    began = time.perf_counter()
    pool.open(checkpoint)
    loaded = time.perf_counter()
    answers = sum(1 for _ in pool.answer([RequestBatch(checkpoint, len(requests), lambda: requests)]))
    ended = time.perf_counter()
    pool.close()
    assert answers == len(requests)
    return loaded - began, ended - loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=4, help="of every image with its questions")
    parser.add_argument("--rounds", type=int, default=1, help="number of rounds; the fastest counts")
    parser.add_argument("--local", action="store_true", help="worker processes of this machine, without Ray")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    settings = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: with more threads, one worker would use both cores")
    with tempfile.TemporaryDirectory() as folder:
        requests = drawn(settings.copies, Path(folder))
        seconds = {}
        for workers in (1, 2):
            rounds = [measured(workers, requests, local=settings.local) for _ in range(settings.rounds)]
            load, answer = min(rounds, key=lambda one: one[1])
            seconds[workers] = answer
            print(f"{workers} worker{'s' if workers > 1 else ''}: loaded in {load:.1f} s, {len(requests):,} samples in "
                  f"{answer:.1f} s, {len(requests) / answer:.1f} samples/s", flush=True)  # fmt: skip
        each = seconds[1] / len(requests)
        groups: dict[str, int] = {}
        for request in requests:
            groups[request.images[0].name] = groups.get(request.images[0].name, 0) + 1
        predicted = simulate([Group("", count, count * each) for count in groups.values()], Fleet(2))
    speedup = seconds[1] / seconds[2]
    print(
        f"two workers are {speedup:.2f} times as fast as one; "
        f"the queue simulation predicts {seconds[1] / predicted.seconds:.2f}"
    )
    if settings.json is not None:
        figures = {"samples": len(requests), "seconds": seconds, "speedup": speedup, "simulated": predicted.seconds}
        settings.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
