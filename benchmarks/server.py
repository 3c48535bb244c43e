"""Throughput of the ``server`` backend by requests in flight (1, 8, 32), with and without grouping by image.

    python benchmarks/server.py --make small             # a model of 30 million random parameters, to be served
    vllm serve small --dtype float32 --num-gpu-blocks-override 24 --max-model-len 2048 --port 8123  # or any other
    python benchmarks/server.py --base-url http://localhost:8123/v1

Orders: ``apart`` interleaves the questions of different images, so that those of one image are far apart; ``together``
sends them one after another, as evalkit does.  ``adaptive`` is the default limit of a run, which adapts the number of
requests in flight.

A real benchmark has far more images than a server's cache holds.  So give the server a smaller cache than the images of
a case need, or every order hits it: vLLM's --num-gpu-blocks-override 24 (of 128 tokens) for the 88 samples here.

Each measurement uses new images (640 × 480, with five or six short questions each, as in VQAv2), which the server has
not cached.  Rounds are paired; medians over rounds are printed with their range, and the prefix cache hit rate if the
server reports it (vLLM).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from _mixes import MIXES, Query, draw

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint
from evalkit.model.backends.server import ServerBackend
from evalkit.model.server.concurrency import ConcurrencyLimiter
from evalkit.types import Request

CASES = (
    *((order, count) for count in (1, 8, 32) for order in ("apart", "together")),
    ("together", None),
)  # fmt: skip


class FixedLimit(ConcurrencyLimiter):
    """A limit that does not adapt."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.limit = count

    def record_answer(self, seconds: float = 0.0) -> None:
        pass

    def record_overload(self, sent: float, pause: float = 0.0, *, refused: bool = False) -> None:
        limit = self.limit
        super().record_overload(sent, pause, refused=refused)
        self.limit = limit  # only the pause counts


def make(folder: str) -> None:
    """Write a model with random weights, and its processor, for a server to load."""
    import torch
    from _random_qwen import make_model, make_processor

    processor = make_processor()
    model = make_model("small", processor, torch.device("cpu"), torch.float32, seed=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def requests_of(queries: Sequence[Query], order: str, tokens: int) -> list[Request]:
    """The questions, with answers of at most ``tokens`` tokens; under ``apart``, those of an image are far apart."""
    found = [replace(one.request, decoding=replace(one.request.decoding, max_new_tokens=tokens)) for one in queries]
    if order == "apart":
        random.Random(0).shuffle(found)
        turns: dict[str, int] = {}
        place = {}
        for request in found:
            name = request.images[0].name
            turns[name] = turns.get(name, -1) + 1
            place[request.id] = turns[name]
        found.sort(key=lambda request: place[request.id])
    return found


def cached(base_url: str) -> tuple[float, float]:
    """Tokens of prompts looked up in the prefix cache, and found there, by now; NaN where the server does not say."""
    parts = urlsplit(base_url)
    try:
        with urllib.request.urlopen(f"{parts.scheme}://{parts.netloc}/metrics", timeout=5) as reply:
            text = reply.read().decode()
    except OSError:
        return float("nan"), float("nan")
    found = [
        sum(float(value) for value in re.findall(rf"^vllm:prefix_cache_{what}_total\S* (\S+)$", text, re.MULTILINE))
        for what in ("queries", "hits")
    ]
    return found[0], found[1]


def measure(
    checkpoint: Checkpoint, queries: Sequence[Query], order: str, count: int | None, tokens: int
) -> dict[str, float]:
    """One case on new images."""
    backend = ServerBackend(checkpoint, grouped=order == "together")
    if count is not None:
        backend.limiter = FixedLimit(count)
    assert checkpoint.served is not None
    url = checkpoint.served.endpoint.base_url
    before = cached(url)
    began = time.perf_counter()
    answers = list(backend.generate(requests_of(queries, order, tokens)))
    seconds = time.perf_counter() - began
    wrong = [one.error for one in answers if one.error is not None]
    assert not wrong, wrong[0]
    assert len(answers) == len(queries)
    after = cached(url)
    looked, hit = after[0] - before[0], after[1] - before[1]
    return {
        "rate": len(queries) / seconds,
        "hit": hit / looked if looked else float("nan"),
        "reached": backend.limiter.highest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", metavar="FOLDER", help="only write a model to be served")
    parser.add_argument("--base-url", default="http://localhost:8000/v1")
    parser.add_argument("--model", help="default: the only one that is served")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=88, help="in each case and round")
    parser.add_argument("--tokens", type=int, default=4, help="limit of an answer")
    parser.add_argument("--out", help="write the figures as JSON")
    settings = parser.parse_args()
    if settings.make:
        make(settings.make)
        return
    factory = registry.backends.get("server")
    checkpoint = factory.connect(settings.model, Endpoint(settings.base_url))
    assert checkpoint.served is not None
    print(f"{checkpoint.name} on {checkpoint.served.software}; {settings.samples} samples, {settings.rounds} rounds")
    mix = next(mix for mix in MIXES if mix.name == "vqav2")
    found: dict[str, list[dict[str, float]]] = {}
    run = time.time_ns()  # other images than the last time: the server may remember those
    with tempfile.TemporaryDirectory() as folder:
        first = draw(mix, 16, Path(folder), seed=f"{run}-warm", large=False)
        measure(checkpoint, first, "together", 4, settings.tokens)
        for round_ in range(settings.rounds):
            for order, count in CASES:
                name = f"{'adaptive' if count is None else count} {order}"
                queries = draw(mix, settings.samples, Path(folder), seed=f"{run}-{round_}-{name}", large=False)
                found.setdefault(name, []).append(measure(checkpoint, queries, order, count, settings.tokens))
    print(f"{'in flight':<10}{'order':<10}{'samples/s':>10}   {'range':<14}{'prefix cache hit rate':<28}")
    for name, rounds in found.items():
        rates = [one["rate"] for one in rounds]
        hit = statistics.median(one["hit"] for one in rounds)
        count, order = name.split()
        reached = f"  (up to {max(one['reached'] for one in rounds):.0f} in flight)" if count == "adaptive" else ""
        print(
            f"{count:<10}{order:<10}{statistics.median(rates):>10.2f}   {f'{min(rates):.2f}–{max(rates):.2f}':<14}"
            f"{f'{hit:.0%} of prompt tokens' if hit == hit else 'it does not say':<28}{reached}"
        )
    if settings.out:
        Path(settings.out).write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
