"""What the client of servers costs: requests a second against a server that answers at once, and CPU time per request.

    python benchmarks/overhead.py                       # 100,000 requests of 100 kB images
    python benchmarks/overhead.py --requests 3000 --profile

Each request carries a JPEG of about 100 kB; ``--per-image`` questions share one, as in VQAv2.  The server is a process
of its own (``_instant_server.py``).  Reported are, for each tenth of the requests: the rate, the CPU time per request
of both processes, and this process's memory.  CPU times mean something on a busy machine, too, though they are higher
there; rates only on an idle one.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pstats
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from evalkit import registry
from evalkit.endpoint import Endpoint
from evalkit.images import PathImage
from evalkit.model.backends.server import ServerBackend
from evalkit.types import Decoding, ImagePart, Message, Request, TextPart

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def make_images(folder: Path, count: int, size: int) -> list[PathImage]:
    """JPEGs of 640 × 480 pixels with about ``size`` bytes each, all different."""
    base = Image.effect_noise((640, 480), 60).convert("RGB")
    encoded = b""
    for quality in range(30, 96, 3):  # noise compresses badly
        out = io.BytesIO()
        base.save(out, "JPEG", quality=quality)
        encoded = out.getvalue()
        if len(encoded) >= size:
            break
    draw = random.Random(0)
    images = []
    for number in range(count):
        # A comment makes the file another one, without encoding it again.
        comment = draw.randbytes(16).hex().encode()
        content = encoded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + encoded[2:]
        path = folder / f"{number:06d}.jpg"
        path.write_bytes(content)
        images.append(PathImage(str(path)))
    return images


def requests_of(images: list[PathImage], count: int, per_image: int) -> list[Request]:
    """Questions about the images, ``per_image`` about each in a row; images repeat if there are too few."""
    found = []
    for number in range(count):
        image = images[number // per_image % len(images)]
        text = TextPart(f"Is the number of this question {number}?\nAnswer the question using a single word or phrase.")
        messages = (Message("user", (ImagePart(image), text)),)
        found.append(Request(str(number), messages, Decoding(max_new_tokens=16)))
    return found


def profiled(
    answer: Callable[..., Coroutine[Any, Any, None]], profile: cProfile.Profile
) -> Callable[..., Coroutine[Any, Any, None]]:
    """``answer`` with a profile of its thread, which is that of the event loop."""

    async def wrapped(*arguments: Any) -> None:
        profile.enable()
        try:
            await answer(*arguments)
        finally:
            profile.disable()

    return wrapped


def cpu_of(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory() -> int:
    """This process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def measure(backend: ServerBackend, requests: list[Request], pid: int) -> Iterator[dict[str, float]]:
    """Answer all requests; yields figures of each tenth."""
    step = max(1, len(requests) // 10)
    since, own, other = time.monotonic(), time.process_time(), cpu_of(pid)
    for number, response in enumerate(backend.generate(requests), start=1):
        assert response.error is None, response.error
        if number % step == 0:
            now = time.monotonic(), time.process_time(), cpu_of(pid)
            yield {
                "requests": number,
                "per_second": step / (now[0] - since),
                "client_ms": 1000 * (now[1] - own) / step,
                "server_ms": 1000 * (now[2] - other) / step,
                "memory": memory() / 2**20,
            }
            since, own, other = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=4000, help="different ones; more than the client's cache holds")
    parser.add_argument("--per-image", type=int, default=5, help="questions about an image")
    parser.add_argument("--size", type=int, default=100_000, help="bytes of an image")
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--profile", action="store_true", help="print where the event loop's thread spends its time")
    parser.add_argument("--out", help="write the figures as JSON")
    settings = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_instant_server.py"))], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    profile = cProfile.Profile(time.thread_time)
    try:
        endpoint = Endpoint(f"http://127.0.0.1:{int(server.stdout.readline())}/v1", settings.concurrency)
        backend = ServerBackend(registry.backends.get("server").connect(None, endpoint))
        with tempfile.TemporaryDirectory() as folder:
            images = make_images(Path(folder), min(settings.images, settings.requests), settings.size)
            print(f"images of {Path(images[0].path).stat().st_size:,} bytes, {len(os.sched_getaffinity(0))} cores")
            requests = requests_of(images, settings.requests, settings.per_image)
            if settings.profile:
                backend._answer = profiled(backend._answer, profile)  # type: ignore[method-assign]
            print(f"{'requests':>9} {'per s':>8} {'client ms':>10} {'server ms':>10} {'memory MiB':>11}")
            found = []
            for row in measure(backend, requests, server.pid):
                found.append(row)
                print(
                    f"{row['requests']:>9,} {row['per_second']:>8.0f} {row['client_ms']:>10.3f} "
                    f"{row['server_ms']:>10.3f} {row['memory']:>11.0f}", flush=True,
                )  # fmt: skip
    finally:
        server.kill()
    count = len(found)
    print(
        f"mean: client {sum(row['client_ms'] for row in found) / count:.3f} ms and server "
        f"{sum(row['server_ms'] for row in found) / count:.3f} ms of CPU time per request; peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )
    if settings.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    if settings.out:
        Path(settings.out).write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
