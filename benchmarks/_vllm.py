"""vLLM with the same weights, as columns of ``throughput.py``.

A server, asked by evalkit's ``server`` backend, is given what a careful user gives it: compiled or eager execution, the
best of 8, 32 and 128 requests in flight and of the questions grouped by image or shuffled, and caches of a chosen size.
By default vLLM leaves one core to its processes; a careful user of a machine with two gives it both.  ``LLM.chat`` is
called in one process, with all questions at once, grouped or shuffled.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from _mixes import Query
from _paths import conversation
from server import FixedLimit

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint
from evalkit.errors import UserError
from evalkit.model.backends.server import ServerBackend

IN_FLIGHT = (8, 32, 128)
START_SECONDS = 1800
BLOCK = 128
"""Tokens of a block of vLLM's KV cache on a CPU."""
CHILD = Path(__file__).parent / "_vllm_chat.py"


@dataclass(frozen=True)
class Setting:
    """How vLLM is asked; ``in_flight`` is None for all at once."""

    in_flight: int | None
    grouped: bool

    def __str__(self) -> str:
        count = "all" if self.in_flight is None else self.in_flight
        return f"{count} in flight, {'grouped by image' if self.grouped else 'shuffled'}"


class VLLM(ABC):
    """vLLM, as it was started.

    Attributes:
        how: its execution and caches, in words.
        settings: the ways in which it can be asked.
        setting: the one that is used.
        version: vLLM's.
    """

    settings: tuple[Setting, ...]

    def __init__(self, how: str, version: str) -> None:
        self.how, self.version = how, version
        self.setting = self.settings[0]

    def run(self, queries: Sequence[Query], setting: Setting | None = None) -> dict[str, str]:
        """The texts of all answers.  Raises ``RuntimeError`` if one failed."""
        chosen = setting or self.setting
        ordered = list(queries)
        if not chosen.grouped:
            random.Random(0).shuffle(ordered)
        return self.ask(ordered, chosen)

    @abstractmethod
    def ask(self, queries: Sequence[Query], setting: Setting) -> dict[str, str]:
        """The texts of all answers, asked for in this order."""

    def tune(self, draws: Sequence[Sequence[Query]]) -> dict[Setting, float]:
        """Choose the fastest way of asking; ``draws`` has new samples for each way.  Returns samples/s of each."""
        rates: dict[Setting, float] = {}
        for setting, queries in zip(self.settings, draws, strict=False):
            began = time.perf_counter()
            self.run(queries, setting)
            rates[setting] = len(queries) / (time.perf_counter() - began)
        self.setting = max(rates, key=rates.__getitem__)
        return rates


class Server(VLLM):
    """A server that runs.

    Args:
        checkpoint: its model, as ``connect`` found it.
        how: of its execution and caches, in words.
    """

    settings = tuple(Setting(count, grouped) for count in IN_FLIGHT for grouped in (True, False))

    def __init__(self, checkpoint: Checkpoint, how: str) -> None:
        assert checkpoint.served is not None
        super().__init__(how, checkpoint.served.software)
        self.checkpoint = checkpoint

    def ask(self, queries: Sequence[Query], setting: Setting) -> dict[str, str]:
        backend = ServerBackend(self.checkpoint, grouped=setting.grouped)
        assert setting.in_flight is not None
        backend.limiter = FixedLimit(setting.in_flight)
        texts: dict[str, str] = {}
        for response in backend.generate([one.request for one in queries]):
            if response.error is not None:
                raise RuntimeError(f"vLLM: {response.id}: {response.error}")
            texts[response.id] = response.text
        return texts


class Chat(VLLM):
    """``LLM.chat`` in a process that runs."""

    settings = (Setting(None, True), Setting(None, False))

    def __init__(self, process: subprocess.Popen[str], replies: TextIO, how: str) -> None:
        super().__init__(how, f"vLLM {json.loads(replies.readline() or '0')}")
        self.process, self.replies = process, replies

    def ask(self, queries: Sequence[Query], setting: Setting) -> dict[str, str]:
        samples = [{"messages": _messages(one), "limit": one.limit} for one in queries]
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(samples) + "\n")
        self.process.stdin.flush()
        if not (reply := self.replies.readline()):
            raise RuntimeError("vLLM: LLM.chat ended without an answer")
        return {one.id: text for one, text in zip(queries, json.loads(reply), strict=True)}


def _messages(one: Query) -> list[dict[str, Any]]:
    """A question as ``LLM.chat`` takes it, with images as files."""
    turns = conversation(one)
    paths = iter(shown.path for shown in one.shown)
    for turn in turns:
        if isinstance(turn["content"], list):
            turn["content"] = [
                part if part["type"] == "text" else {"type": "image_url", "image_url": {"url": next(paths).as_uri()}}
                for part in turn["content"]
            ]
    return turns


@contextmanager
def serving(
    where: str, model: Any, processor: Any, *, eager: bool, context: int, blocks: int | None, images: int,
    all_cores: bool, arguments: Sequence[str] = (),
) -> Iterator[Server]:  # fmt: skip
    """A server with these weights; it ends with the context.

    Args:
        where: the Python interpreter of an environment with vLLM, or the URL of a server that has these weights.
        context: the longest prompt with its answer, in tokens; the KV cache cannot be smaller.
        blocks: of the KV cache, of 128 tokens each; None for as many as fit into 4 GB.
        images: about as many preprocessed images are cached as one mix has, or a tenth of it.
        all_cores: whether it computes on all cores, or, as by default, on all but one.
        arguments: further ones of ``vllm serve``.

    Raises:
        RuntimeError: it does not start; the message is its last line.
    """
    factory = registry.backends.get("server")
    if where.startswith(("http://", "https://")):
        yield Server(factory.connect(None, Endpoint(where)), "as it was started")
        return
    with tempfile.TemporaryDirectory() as folder:
        _save(model, processor, folder)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        command = [
            where, "-m", "vllm.entrypoints.cli.main", "serve", f"{folder}/model", "--served-model-name", "beside",
            "--host", "127.0.0.1", "--port", str(port), "--dtype", str(model.dtype).removeprefix("torch."),
            "--max-model-len", str(context), "--mm-processor-cache-gb", f"{_gigabytes(images):.2f}",
            *(("--enforce-eager",) if eager else ()),
            *(("--num-gpu-blocks-override", str(blocks)) if blocks is not None else ()), *arguments,
        ]  # fmt: skip
        log = Path(folder) / "log.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=_environment(all_cores), start_new_session=True
            )
        with _ending(process):
            checkpoint = _ready(process, f"http://127.0.0.1:{port}/v1", log)
            cores = "all cores" if all_cores else "its default number of cores"
            yield Server(checkpoint, f"{_how(eager, blocks)}, {cores}")


@contextmanager
def chatting(
    where: str, model: Any, processor: Any, *, eager: bool, context: int, blocks: int | None, images: int
) -> Iterator[VLLM]:
    """``LLM.chat`` with these weights, on all cores; see ``serving``."""
    with tempfile.TemporaryDirectory() as folder:
        _save(model, processor, folder)
        reads, writes = os.pipe()
        arguments = {
            "model": f"{folder}/model", "dtype": str(model.dtype).removeprefix("torch."), "max_model_len": context,
            "mm_processor_cache_gb": _gigabytes(images), "enforce_eager": eager, "allowed_local_media_path": "/",
            **({"num_gpu_blocks_override": blocks} if blocks is not None else {}),
        }  # fmt: skip
        settings, log = Path(folder) / "settings.json", Path(folder) / "log.txt"
        settings.write_text(json.dumps({"output": writes, "arguments": arguments}))
        with log.open("w") as out:
            process = subprocess.Popen(
                [where, str(CHILD), str(settings)], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
                env=_environment(all_cores=True), start_new_session=True, pass_fds=(writes,), text=True,
            )  # fmt: skip
        os.close(writes)
        with _ending(process), os.fdopen(reads) as replies:
            chat = Chat(process, replies, f"{_how(eager, blocks)}, LLM.chat on all cores")
            if process.poll() is not None:
                raise RuntimeError(f"vLLM did not start: {_last_line(log)}")
            yield chat


def _save(model: Any, processor: Any, folder: str) -> None:
    model.save_pretrained(f"{folder}/model")
    processor.save_pretrained(f"{folder}/model")


def _gigabytes(images: int) -> float:
    return max(0.05, images * 640 * 480 * 3 * 4 * 2 / 2**30)  # float32, two frames each


def _how(eager: bool, blocks: int | None) -> str:
    caches = "all caches large enough" if blocks is None else f"a KV cache of {blocks * BLOCK:,} tokens"
    return f"{'eager' if eager else 'compiled'}, {caches}"


def _environment(all_cores: bool) -> dict[str, str]:
    return {
        **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "4",
        **({"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"} if all_cores else {}),
    }  # fmt: skip


@contextmanager
def _ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    """End a process, and those that it started, with the context."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(log: Path) -> str:
    """The last line that names an error, or the last one."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return ([line for line in lines if "Error" in line] or lines or ["no reason given"])[-1]


def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> Checkpoint:
    factory = registry.backends.get("server")
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM did not start: {_last_line(log)}")
        try:
            return factory.connect(None, Endpoint(url))
        except (UserError, OSError):
            time.sleep(2)
    raise RuntimeError(f"vLLM was not ready after {START_SECONDS} s")
