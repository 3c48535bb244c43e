"""Simulated time of a complete report on many GPUs, using the work queue of a real run.

    python benchmarks/simulate.py                                    # no GPU needed, no torch computation
    python benchmarks/simulate.py --rates gpu.json                   # rates measured by throughput.py --device cuda
    python benchmarks/simulate.py --rate-of vqav2=85 --gpus 8,64

The report: eleven task splits of the tables in the Qwen-VL README, at their official sizes, for a 7B and a 72B
checkpoint.  Scheduling is simulated with the code of a run (``evalkit.model.workers.queue``): workers load the
checkpoint and take chunks of complete image groups until the queue is empty.

**The cost of a group is measured or derived, and each line says which.**  ``--rates`` takes a file of ``throughput.py
--device cuda --json``, whose rates are those of a 7B.  Without it, a group's seconds are *derived, not measured*: from
two lower bounds, the FLOPs of encoding and prefilling over the matrix rate, and the weights' bytes over the memory's
bandwidth for each decoding step, at a stated utilization of both.  Those of the 72B are always derived: from the 7B's
measured ones, if there are any, by the ratio of the lower bounds. A 72B is spread over several GPUs by layers
(``device_map``), of which one works at a time.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit import registry
from evalkit.images import PathImage
from evalkit.model.workers.queue import RequestQueue
from evalkit.types import Decoding, ImagePart, Message, Request


@dataclass(frozen=True)
class Split:
    """A task split in numbers.

    Attributes:
        each: questions per image (VQAv2, GQA, DocVQA and TextVQA counted in the official files; others about).
        visual: tokens of an image of usual size, as Qwen2.5-VL sees it; ``text`` those of a question.
        answer: tokens of an answer.
        like: the mix of ``throughput.py`` whose measured rate it has.
    """

    task: str
    split: str
    each: float
    visual: int
    text: int
    answer: int
    like: str


SPLITS = (
    Split("flickr30k", "test", 1.0, 243, 25, 14, "caption"),
    Split("nocaps", "val", 1.0, 999, 25, 14, "caption"),
    Split("vqav2", "val", 5.3, 391, 35, 2, "vqav2"),
    Split("okvqa", "val", 1.0, 391, 35, 2, "textvqa"),
    Split("gqa", "testdev_balanced", 31.6, 243, 35, 2, "vqav2"),
    Split("scienceqa_img", "test", 1.0, 243, 90, 2, "textvqa"),
    Split("vizwiz", "val", 1.0, 1400, 35, 4, "textvqa"),
    Split("textvqa", "val", 1.6, 999, 35, 4, "textvqa"),
    Split("docvqa", "val", 4.2, 2508, 40, 8, "docvqa"),
    Split("chartqa", "test", 1.6, 560, 45, 5, "textvqa"),
    Split("ai2d", "test", 1.5, 300, 80, 2, "textvqa"),
)


@dataclass(frozen=True)
class Model:
    """A checkpoint in numbers: parameters of language model and vision encoder, GPUs per worker."""

    name: str
    language: float
    vision: float
    gpus: int

    @property
    def bytes(self) -> float:
        """Of its weights, in bfloat16."""
        return 2 * (self.language + self.vision)


MEASURED = Model("7B", 7.6e9, 0.67e9, 1)
MODELS = (MEASURED, Model("72B", 72.7e9, 0.67e9, 4))


@dataclass(frozen=True)
class Card:
    """A GPU: its data sheet's rates, and the share of each that is reached (assumptions; see --help)."""

    flops: float
    bandwidth: float
    compute: float
    memory: float
    rows: int = 128


@dataclass(frozen=True)
class Group:
    """The requests of one image, and the seconds that they take a worker."""

    split: str
    requests: int
    seconds: float


@dataclass(frozen=True)
class Fleet:
    """Workers.

    Attributes:
        load: seconds to load the checkpoint, and ``start`` before the first can begin.
        slowest: the slowest worker's speed; the others lie evenly between that and 1.
    """

    workers: int
    load: float = 0.0
    slowest: float = 1.0


@dataclass(frozen=True)
class Simulated:
    """The result of a simulation; ``busy`` is the total of seconds that workers spent on groups."""

    seconds: float
    busy: float
    first_idle: float


class Lots:
    """The task splits in order, with one queue each, as the workers of one checkpoint see them."""

    def __init__(self, groups: Sequence[Group], workers: int) -> None:
        self.cost: dict[str, float] = {}
        found: dict[str, list[Request]] = {}
        for at, group in enumerate(groups):
            messages = (Message("user", (ImagePart(PathImage(str(at))),)),)
            for number in range(group.requests):
                name = f"{at}/{number}"
                self.cost[name] = group.seconds / group.requests
                found.setdefault(group.split, []).append(Request(name, messages, Decoding(1)))
        self._queues = [RequestQueue(requests, workers=workers, worker_batch_size=128) for requests in found.values()]

    def next(self, at: RequestQueue | None) -> RequestQueue | None:
        """The queue of the next chunk for a worker that has finished those of ``at``."""
        return next((queue for queue in self._queues if queue), None) if at is None else at if at else None


def simulate(groups: Sequence[Group], fleet: Fleet) -> Simulated:
    """Dispatch groups as a run does.

    A worker gets its next chunk when it begins the last that it has; one of another split once it is through.
    """
    lots = Lots(groups, fleet.workers)
    span = max(1, fleet.workers - 1)
    speeds = [fleet.slowest + (1 - fleet.slowest) * (1 - at / span) for at in range(fleet.workers)]
    # (when it asks for a chunk, its number, when it is through with all that it has, the split that it is at)
    asking: list[tuple[float, int, float, RequestQueue | None]]
    asking = [(fleet.load, at, fleet.load, None) for at in range(fleet.workers)]
    ends = [fleet.load] * fleet.workers
    busy = 0.0
    while asking:
        _, worker, through, at = heapq.heappop(asking)
        queue = lots.next(at)
        if queue is None:
            if at is not None:  # nothing of this split is left to be taken
                heapq.heappush(asking, (through, worker, through, None))
            continue
        took = sum(lots.cost[request.id] for request in queue.take_chunk()) / speeds[worker]
        busy += took
        ends[worker] = through + took
        heapq.heappush(asking, (through, worker, ends[worker], queue))
    return Simulated(max(ends), busy, min(ends))


def derived(split: Split, model: Model, card: Card, questions: float) -> float:
    """Seconds for an image with its questions: what is the same for all of them is computed once."""
    patches = 4 * split.visual
    flops = 2 * model.vision * patches + 2 * model.language * (split.visual + questions * split.text)
    steps = questions * split.answer
    step = max(
        2 * model.language / card.rows / card.bandwidth / card.memory, 2 * model.language / card.flops / card.compute
    )
    return flops / card.flops / card.compute + steps * step


def groups_of(split: Split, model: Model, card: Card, rates: Mapping[str, float]) -> list[Group]:
    """A split's images, of which every one has the same number of questions, give or take one."""
    task = registry.tasks.get(split.task)
    size = task.splits[split.split].size
    assert size is not None
    images = max(1, round(size / split.each))
    found = []
    for at in range(images):
        count = size * (at + 1) // images - size * at // images
        if not count:
            continue
        seconds = derived(split, model, card, count)
        if split.like in rates:  # of a 7B; another model takes as much longer as the floors say
            seconds *= count / rates[split.like] / derived(split, MEASURED, card, count)
        found.append(Group(split.task, count, seconds))
    return found


def rates_in(path: Path | None, given: Sequence[str]) -> dict[str, float]:
    """Samples a second by mix, measured on one GPU."""
    rates = {}
    if path is not None:
        content = json.loads(path.read_text())
        for mix in content["mixes"]:
            rates[str(mix["mix"])] = statistics.median(mix["rates"]["d"])
    for one in given:
        name, _, value = one.partition("=")
        rates[name] = float(value)
    return rates


def format_duration(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def line(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def report(model: Model, gpus: int, groups: Sequence[Group], load: float, slowest: float, kind: str) -> None:
    """One line of the table, with its bottleneck."""
    workers = max(1, gpus // model.gpus)
    found = simulate(groups, Fleet(workers, load, slowest))
    ideal = sum(group.seconds for group in groups) / workers
    tail = found.seconds - load - found.busy / workers
    parts = {"answering": ideal, "loading the checkpoint": load, "waiting for the last ones": tail}
    line(
        model.name, gpus, workers, format_duration(found.seconds), f"{found.seconds * workers * model.gpus / 3600:.1f}",
        f"{ideal / found.seconds:.0%}", f"{load:.0f} s", f"{tail:.1f} s",
        f"{max(group.seconds for group in groups):.2f} s", max(parts, key=lambda name: parts[name]), kind,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", default="8,64,512", help="numbers of GPUs, with commas")
    parser.add_argument("--rates", type=Path, help="the file of throughput.py --device cuda --json, of a 7B")
    parser.add_argument("--rate-of", action="append", default=[], metavar="MIX=SAMPLES/S", help="one rate")
    parser.add_argument("--flops", type=float, default=989e12, help="of the GPU, bf16 (H100 SXM's data sheet: 989e12)")
    parser.add_argument("--bandwidth", type=float, default=3.35e12, help="of its memory, bytes/s (3.35e12)")
    parser.add_argument("--compute", type=float, default=0.4, help="share of the FLOPs reached (an assumption)")
    parser.add_argument("--memory", type=float, default=0.5, help="share of the bandwidth reached (an assumption)")
    parser.add_argument("--load-rate", type=float, default=1e9, help="bytes/s at which a worker loads (an assumption)")
    parser.add_argument("--start", type=float, default=20.0, help="seconds before it begins to (an assumption)")
    parser.add_argument("--slowest", type=float, default=1.0, help="speed of the slowest worker, the fastest's being 1")
    settings = parser.parse_args()
    card = Card(settings.flops, settings.bandwidth, settings.compute, settings.memory)
    rates = rates_in(settings.rates, settings.rate_of)
    samples = sum(registry.tasks.get(s.task).splits[s.split].size or 0 for s in SPLITS)
    print(f"{len(SPLITS)} task splits, {samples:,} samples, greedy, no few-shot examples, images at their usual size\n")
    print(
        "| model | GPUs | workers | time | GPU h | of the ideal | load | tail | largest group | most time is | rates |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    enough = []
    for model in MODELS:
        groups = [group for split in SPLITS for group in groups_of(split, model, card, rates)]
        have = sum(split.like in rates for split in SPLITS)
        how = "measured" if model is MEASURED else "DERIVED from the 7B's measured ones"
        kind = f"{have} of {len(SPLITS)} {how}" if have else "DERIVED, NOT MEASURED"
        load = settings.start + model.bytes / settings.load_rate
        for gpus in map(int, settings.gpus.split(",")):
            report(model, gpus, groups, load, settings.slowest, kind)
        enough.append(f"{model.name}: {math.floor(sum(group.seconds for group in groups) / load):,} workers")
    print(f"\nLoading takes longer than answering from this number of workers: {'; '.join(enough)}.")
    print(
        f"\nDerived from {card.flops:.3g} FLOP/s × {card.compute} and {card.bandwidth:.3g} B/s × {card.memory} "
        f"(bf16, {card.rows} rows per step), where no rate was measured: lower "
        "bounds with assumed efficiencies, not measurements of evalkit. "
        f"Loading: {settings.start:g} s and {settings.load_rate:.3g} B/s per worker, also assumed."
    )


if __name__ == "__main__":
    main()
