"""A real vLLM server with the same weights, asked by evalkit's ``server`` backend: a column of ``throughput.py``.

It is given what a careful user gives it: both cores of a machine with two (by default it leaves one of them to its
processes, and is 1.5 to 2 times slower), compiled or eager execution, the best of 8, 32 and 128 requests in flight and
of the questions grouped by image or shuffled, and caches of a chosen size.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _mixes import Query
from server import FixedLimit

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint
from evalkit.errors import UserError
from evalkit.model.backends.server import ServerBackend

IN_FLIGHT = (8, 32, 128)
START_SECONDS = 1800
CONTEXT = 4096
BLOCK = 128
"""Tokens of a block of vLLM's KV cache on a CPU."""


@dataclass(frozen=True)
class Setting:
    """How a server is asked."""

    in_flight: int
    grouped: bool

    def __str__(self) -> str:
        return f"{self.in_flight} in flight, {'grouped by image' if self.grouped else 'shuffled'}"


SETTINGS = tuple(Setting(count, grouped) for count in IN_FLIGHT for grouped in (True, False))


class VLLM:
    """A server that runs.

    Args:
        checkpoint: its model, as ``connect`` found it.
        how: of its execution and caches, in words.
    """

    def __init__(self, checkpoint: Checkpoint, how: str) -> None:
        self.checkpoint = checkpoint
        self.how = how
        self.setting = SETTINGS[0]

    @property
    def version(self) -> str:
        assert self.checkpoint.served is not None
        return self.checkpoint.served.software

    def run(self, queries: Sequence[Query], setting: Setting | None = None) -> dict[str, str]:
        """The texts of all answers.  Raises ``RuntimeError`` if one failed."""
        chosen = setting or self.setting
        backend = ServerBackend(self.checkpoint, grouped=chosen.grouped)
        backend.limiter = FixedLimit(chosen.in_flight)
        requests = [one.request for one in queries]
        if not chosen.grouped:
            random.Random(0).shuffle(requests)
        texts: dict[str, str] = {}
        for response in backend.generate(requests):
            if response.error is not None:
                raise RuntimeError(f"vLLM: {response.id}: {response.error}")
            texts[response.id] = response.text
        return texts

    def tune(self, draws: Sequence[Sequence[Query]]) -> dict[Setting, float]:
        """Choose the fastest way of asking; ``draws`` has new samples for each way.  Returns samples/s of each."""
        rates: dict[Setting, float] = {}
        for setting, queries in zip(SETTINGS, draws, strict=True):
            began = time.perf_counter()
            self.run(queries, setting)
            rates[setting] = len(queries) / (time.perf_counter() - began)
        self.setting = max(rates, key=rates.__getitem__)
        return rates


@contextmanager
def serving(where: str, model: Any, processor: Any, *, eager: bool, blocks: int | None, images: int) -> Iterator[VLLM]:
    """A server with these weights; it ends with the context.

    Args:
        where: the Python interpreter of an environment with vLLM, or the URL of a server that has these weights.
        blocks: of the KV cache, of 128 tokens each; None for as many as fit into 4 GB.
        images: about as many preprocessed images are cached as one mix has, or a tenth of it.

    Raises:
        RuntimeError: it does not start; the message is its last line.
    """
    factory = registry.backends.get("server")
    if where.startswith(("http://", "https://")):
        yield VLLM(factory.connect(None, Endpoint(where)), "as it was started")
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/model")
        processor.save_pretrained(f"{folder}/model")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        gigabytes = max(0.05, images * 640 * 480 * 3 * 4 * 2 / 2**30)  # float32, two frames each
        command = [
            where, "-m", "vllm.entrypoints.cli.main", "serve", f"{folder}/model", "--served-model-name", "beside",
            "--host", "127.0.0.1", "--port", str(port), "--dtype", str(model.dtype).removeprefix("torch."),
            "--max-model-len", str(CONTEXT), "--mm-processor-cache-gb", f"{gigabytes:.2f}",
            *(("--enforce-eager",) if eager else ()),
            *(("--num-gpu-blocks-override", str(blocks)) if blocks is not None else ()),
        ]  # fmt: skip
        environment = {
            **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        }  # fmt: skip
        log = Path(folder) / "log.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        try:
            checkpoint = _ready(process, f"http://127.0.0.1:{port}/v1", log)
            caches = "all caches large enough" if blocks is None else f"a KV cache of {blocks * BLOCK:,} tokens"
            yield VLLM(checkpoint, f"{'eager' if eager else 'compiled'}, {caches}")
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> Checkpoint:
    factory = registry.backends.get("server")
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise RuntimeError(f"vLLM did not start: {(lines or ['no reason given'])[-1]}")
        try:
            return factory.connect(None, Endpoint(url))
        except (UserError, OSError):
            time.sleep(2)
    raise RuntimeError(f"vLLM was not ready after {START_SECONDS} s")
