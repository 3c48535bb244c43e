"""Long answers of very different lengths: the engine's paged cache against ``generate``.

    python benchmarks/long_answers.py                                # CPU, 30 million parameters; about five minutes
    python benchmarks/long_answers.py --prompts 64 --longest 2048 --rows 64    # much longer
    python benchmarks/long_answers.py --only flight --only repeats

Weights are random (``_random_qwen.py``), each prompt has four images, and answers are forced to end: their lengths are
drawn from a bounded Pareto distribution (exponent 0.5) between 16 and ``--longest`` tokens, which nobody knows
beforehand: the limit is 32,768.

speed    answers per second: (a) ``generate`` one at a time, (b) ``generate`` in fixed batches, each of which runs until
         its longest answer has ended, (d) the engine; for prefixes of the queue, the time of (d)
         divided by that of (a); tokens must be equal.  And the memory of (d): the largest sum of pages, prefilled
         tensors and shared prefixes, divided by what the running sequences' keys and values need then.
memory   the same queue with room for a fraction of it: preemptions; tokens must be equal.
flight   sequences in flight in a fixed memory, in the contiguous cache (rows of prompt + limit) and in pages.
repeats  a prompt asked once, three times (three different prompts), and eight times (the same prompt).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _long import LIMIT, SHORTEST, Engine, Generate, Query, Tokens, draw
from _random_qwen import make_model, make_processor

from evalkit.model.engine import admission
from evalkit.model.engine.options import EngineOptions

PARTS = ("speed", "memory", "flight", "repeats")
clock = time.perf_counter


def seconds(work: Callable[[], Tokens]) -> tuple[float, Tokens]:
    """The seconds that ``work`` takes, and its result; with ``--cpu-time``, those of the process's threads."""
    began = clock()
    found = work()
    return clock() - began, found


def _same(one: Tokens, other: Tokens) -> str:
    differing = sum(one[key] != tokens for key, tokens in other.items())
    return f"{differing} of {len(other)} answers differ"


def speed(model: Any, processor: Any, queries: list[Query], settings: argparse.Namespace) -> dict[str, Any]:
    """Compare rates, prefixes of the queue, and memory."""
    lengths = [one.length for one in queries]
    print(f"{len(queries)} prompts, answers of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all")
    ours, alone = Engine(model, processor, settings.rows), Generate(model, processor, 1, clock)
    warm = [replace(one, length=4) for one in queries[:4]]
    ours.run(warm)
    alone.run(warm[:1])
    alone.seconds.clear()
    engine_seconds, engine_tokens = seconds(lambda: ours.run(queries))
    peak, needed = max(held for held, _ in ours.held), max(need for _, need in ours.held)
    print(
        f"(d) engine: {engine_seconds:.1f} s; KV memory {peak / 2**20:.0f} MiB at most, {peak / needed:.2f} × the need"
    )
    alone_seconds, alone_tokens = seconds(lambda: alone.run(queries))
    print(
        f"(a) generate, one at a time: {alone_seconds:.1f} s, {alone_seconds / engine_seconds:.2f} × (d); "
        f"{_same(engine_tokens, alone_tokens)}"
    )
    batches = {}
    for size in settings.batches:
        batches[size], tokens = seconds(lambda size=size: Generate(model, processor, size, clock).run(queries))  # type: ignore[misc]
        print(
            f"(b) generate, batches of {size}: {batches[size]:.1f} s, {batches[size] / engine_seconds:.2f} × (d); "
            f"{_same(engine_tokens, tokens)}"
        )
    prefixes = {}
    count = 1
    while count < len(queries):
        took, _ = seconds(lambda count=count: ours.run(queries[:count]))  # type: ignore[misc]
        prefixes[count] = took / sum(alone.seconds[:count])
        count *= 2
    prefixes[len(queries)] = engine_seconds / alone_seconds
    print("time of (d) / (a) for the first N prompts: " + ", ".join(f"{n}: {r:.2f}" for n, r in prefixes.items()))
    return {
        "engine": engine_seconds, "alone": alone_seconds, "batches": batches, "prefixes": prefixes,
        "memory": peak / needed,
    }  # fmt: skip


def memory(model: Any, processor: Any, queries: list[Query], settings: argparse.Namespace) -> dict[str, Any]:
    """Answer with room for a third of the longest need."""
    ours = Engine(model, processor, settings.rows)
    plenty, expected = seconds(lambda: ours.run(queries))
    needed = max(need for _, need in ours.held)
    engine = ours.engine
    room = max(needed // 3, engine.scheduler.running.paged.page_bytes * (settings.longest // 64 + 12))
    engine.scheduler.limits = replace(engine.limits, bytes=int(room / 0.75))
    short, tokens = seconds(lambda: ours.run(queries))
    print(
        f"room for {room / needed:.0%} of {needed / 2**20:.0f} MiB: {short:.1f} s instead of {plenty:.1f} s, "
        f"{engine.scheduler.admission.preemptions} preemptions; {_same(expected, tokens)}"
    )
    return {"preemptions": engine.scheduler.admission.preemptions, "seconds": short, "with all memory": plenty}


def flight(model: Any, processor: Any, queries: list[Query], settings: argparse.Namespace) -> dict[str, Any]:
    """Count sequences in flight in the memory of two contiguous rows; answers have about 500 tokens on average."""
    rng = random.Random(settings.seed)
    lengths = [rng.randint(SHORTEST, 984) for _ in queries]
    asked = [replace(one, length=length) for one, length in zip(queries, lengths, strict=True)]
    found: dict[str, int] = {}
    for name, options in (("contiguous", EngineOptions(paged_cache=False)), ("paged", EngineOptions())):
        ours = Engine(model, processor, settings.rows, options)
        ours.run([replace(one, length=4) for one in asked[:2]])
        each = ours.engine.language.shape.bytes(model.dtype)
        room = 2 * 2 * (LIMIT + 600) * each
        ours.engine.scheduler.limits = replace(ours.engine.limits, bytes=room)
        ours.run(asked if name == "paged" else [replace(one, length=4) for one in asked[:8]])
        # The contiguous cache's memory limit holds for the first prefill only: later ones add a row each beyond it.
        found[name] = max(ours.in_flight) if name == "paged" else ours.admitted[0]
        print(
            f"{name}: {found[name]} sequences in flight in {room / 2**30:.2f} GiB, with a limit of {LIMIT} tokens; "
            f"{ours.engine.scheduler.admission.preemptions} preemptions"
        )
    print(
        f"{found['paged'] / found['contiguous']:.1f} × as many; "
        f"answers have {statistics.fmean(lengths):.0f} tokens on average"
    )
    return found


def repeats(model: Any, processor: Any, queries: list[Query], settings: argparse.Namespace) -> dict[str, Any]:
    """Time one prompt eight times against three different ones."""
    ours = Engine(model, processor, settings.rows)
    ours.run([replace(one, length=2) for one in queries[:2]])
    found = {}
    for length in (1, 64):
        single, eight = [], []
        for number in range(5):
            one = replace(queries[number % len(queries)], length=length)
            single.append(seconds(lambda one=one: ours.run([one]))[0])  # type: ignore[misc]
            eight.append(
                seconds(lambda one=one: ours.run([replace(one, id=f"{one.id}-{n}") for n in range(8)]))[0]  # type: ignore[misc]
            )
        found[length] = {"one": statistics.median(single), "eight": statistics.median(eight)}
        ratio = statistics.median(b / a for a, b in zip(single, eight, strict=True))
        print(f"8 repeats of a prompt cost {ratio:.2f} single ones, with answers of {length} tokens")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=24, metavar="N", help="default: 24")
    parser.add_argument("--longest", type=int, default=512, metavar="TOKENS", help="longest answer (default: 512)")
    parser.add_argument("--rows", type=int, default=64, metavar="N", help="sequences decoded together (default: 64)")
    parser.add_argument("--batches", type=int, nargs="+", default=[8], metavar="N", help="of (b) (default: 8)")
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; default: all")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU seconds, for a machine that others use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there")
    settings = parser.parse_args()
    if settings.cpu_time:
        global clock
        clock = time.process_time
    large = settings.device != "cpu"
    processor = make_processor()
    dtype = torch.bfloat16 if large else torch.float32
    model = make_model("7b" if large else "small", processor, torch.device(settings.device), dtype, seed=0)
    with torch.no_grad():
        model.lm_head.weight[processor.tokenizer.eos_token_id] = 0  # answers end where they are forced to
    print(f"pages for answers above {admission.LONG_ANSWER} tokens; {torch.get_num_threads()} threads")
    found: dict[str, Any] = {"settings": {name: str(value) for name, value in vars(settings).items()}}
    with tempfile.TemporaryDirectory() as folder:
        queries = draw(settings.prompts, settings.longest, Path(folder), f"s{settings.seed}")
        for part, work in zip(PARTS, (speed, memory, flight, repeats), strict=True):
            if not settings.only or part in settings.only:
                print(f"\n{part}")
                found[part] = work(model, processor, queries, settings)
    if settings.json:
        settings.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
