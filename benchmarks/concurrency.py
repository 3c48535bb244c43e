"""Throughput of the ``server`` backend's adaptive limit beside fixed numbers of requests, on modelled servers.

    python benchmarks/concurrency.py [--samples 200] [--models batches,capped] [--out FILE]

The server is a process that speaks HTTP and answers after as long as its model says (``_latency_server.py``), so that
servers of several kinds can be compared, whatever hardware there is.  Rounds are interleaved; the median is printed.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _latency_server import MODELS
from server import FixedLimit

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint
from evalkit.model.backends.server import ServerBackend
from evalkit.types import Decoding, Message, Request, TextPart

FIXED = (4, 8, 16, 32, 64, 128)


def measure(checkpoint: Checkpoint, count: int | None, samples: int, seed: str) -> tuple[float, int, int]:
    """(samples a second, the highest limit, refused requests) with ``count`` in flight; None adapts."""
    backend = ServerBackend(checkpoint)
    if count is not None:
        backend.limiter = FixedLimit(count)
    requests = [
        Request(str(n), (Message("user", (TextPart(f"{seed}: question {n}?"),)),), Decoding(4)) for n in range(samples)
    ]
    began = time.perf_counter()
    answers = list(backend.generate(requests))
    seconds = time.perf_counter() - began
    assert all(answer.error is None for answer in answers), next(a.error for a in answers if a.error)
    refused = backend.counts["rate_limited"] + backend.counts["unavailable"]
    return samples / seconds, backend.limiter.highest, refused


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def compare(name: str, samples: int, rounds: int) -> dict[str, list[tuple[float, int, int]]]:
    """The figures of each case on a new server of the model ``name``."""
    port = free_port()
    server = [sys.executable, str(Path(__file__).with_name("_latency_server.py")), name, str(port)]
    process = subprocess.Popen(server, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        checkpoint = registry.backends.get("server").connect(None, Endpoint(f"http://127.0.0.1:{port}/v1"))
        found: dict[str, list[tuple[float, int, int]]] = {}
        for round_ in range(rounds):
            for count in (*FIXED, None):
                case = "adaptive" if count is None else str(count)
                found.setdefault(case, []).append(measure(checkpoint, count, samples, str(round_)))
                time.sleep(1.5)  # a limit on requests a second has to recover
        return found
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--out", help="write the figures as JSON")
    settings = parser.parse_args()
    every = {}
    print(f"{'server':<13}" + "".join(f"{count:>7}" for count in FIXED) + "  adaptive   beside the best")
    for name in settings.models.split(","):
        every[name] = found = compare(name, settings.samples, settings.rounds)
        rates = {case: statistics.median(rate for rate, _, _ in rounds) for case, rounds in found.items()}
        best = max(rate for case, rate in rates.items() if case != "adaptive")
        _, highest, refused = found["adaptive"][-1]
        cells = "".join(f"{rates[str(count)]:>7.2f}" for count in FIXED)
        change = 100 * (rates["adaptive"] / best - 1)
        print(
            f"{name:<13}{cells}{rates['adaptive']:>10.2f}   {change:+.1f} % (up to {highest}, {refused} refused)",
            flush=True,
        )
    if settings.out:
        Path(settings.out).write_text(json.dumps(every, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
