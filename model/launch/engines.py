"""The engines: how each is found, and the arguments that a server of it is given.

The arguments are those of vLLM 0.32 (``vllm serve --help=all``) and SGLang's documentation
(https://docs.sglang.io/advanced_features/server_arguments.html); SGLang 0.5.23's parser accepts them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.launching import EngineOptions

from .limits import PromptLimits
from .placement import CPU, on_gpus

PROBE = "import importlib.metadata as m; print(m.version({package!r}))"
PROBE_SECONDS = 120
MEMORY_SHARE = 0.9
"""The part of a CPU's free memory that servers may take together."""


@dataclass(frozen=True)
class ServerSpec:
    """One server to start.

    Attributes:
        name: under which it offers the model.
        place: its devices.
        neighbours: how many servers there are.
        chat_template: the file with the user's; None for the checkpoint's own.
    """

    checkpoint: Checkpoint
    name: str
    port: int
    limits: PromptLimits
    place: tuple[str, ...]
    neighbours: int
    dtype: str
    arguments: Mapping[str, str | None]
    chat_template: str | None = None


def free_memory_share() -> float | None:
    """The part of this machine's memory that is free; None if the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return sizes["MemAvailable"] / sizes["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        return None


class EngineKind(ABC):
    """An engine that evalkit can start.

    Attributes:
        backend: the name of the backend.
        title: its own name.
        package: its distribution, and the module that it installs.
        owner: ``owned_by`` in its list of models.
    """

    backend: str
    title: str
    package: str
    owner: str

    @abstractmethod
    def start(self, python: str) -> tuple[str, ...]:
        """What starts a server, in an environment that has the engine."""

    @abstractmethod
    def arguments(self, spec: ServerSpec) -> dict[str, str | None]:
        """The arguments of one server by name, without those of the user."""

    def environment(self, spec: ServerSpec) -> dict[str, str]:
        """Environment variables of one server, in addition to those of this process."""
        if on_gpus(spec.place):
            return {"CUDA_VISIBLE_DEVICES": ",".join(spec.place)}
        if spec.place == (CPU,) and "OMP_NUM_THREADS" not in os.environ:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            return {"OMP_NUM_THREADS": str(max(1, cores // spec.neighbours))}
        return {}

    def command(self, start: Sequence[str], spec: ServerSpec) -> list[str]:
        """The complete command of one server; ``{devices}`` in ``start`` stands for its devices."""
        merged = {**self.arguments(spec), **spec.arguments}
        flags = [part for name, value in merged.items() for part in (f"--{name}", *(() if value is None else (value,)))]
        devices = ",".join(spec.place)
        return [*(part.replace("{devices}", devices) for part in start), *self.model(spec), *flags]

    def model(self, spec: ServerSpec) -> list[str]:
        """The arguments that name the model."""
        return ["--model-path", spec.checkpoint.location]

    def find(self, options: EngineOptions) -> tuple[tuple[str, ...], str | None]:
        """What starts it, and its version, as far as that is known before.

        Raises:
            UserError: it is not installed.
        """
        if options.command is not None:
            return _command(options.command), None
        if options.python is not None:
            return self._in_environment(options.python)
        if importlib.util.find_spec(self.package) is not None:
            return self.start(sys.executable), self._version()
        raise UserError(
            f"--backend {self.backend}: {self.title} is not installed in this environment; install it (pip install "
            f"{self.package}), give --engine-python PATH of an environment that has it, or --engine-command with a "
            "container that starts it."
        )

    def _version(self) -> str | None:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def _in_environment(self, given: str) -> tuple[tuple[str, ...], str | None]:
        python = _interpreter(given)
        try:
            found = subprocess.run(
                [python, "-c", PROBE.format(package=self.package)], capture_output=True, text=True, errors="replace",
                stdin=subprocess.DEVNULL, timeout=PROBE_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = error.strerror if isinstance(error, OSError) else f"no answer within {PROBE_SECONDS} s"
            raise UserError(f"--engine-python {given}: it cannot be run ({reason}).") from error
        version = found.stdout.strip()
        if found.returncode or not version or not version.isprintable():
            raise UserError(
                f"--engine-python {given}: {self.title} is not installed there; install it ({given} -m pip install "
                f"{self.package}), or give the interpreter of another environment."
            )
        return self.start(python), version[:40]


def _command(given: str) -> tuple[str, ...]:
    try:
        command = tuple(shlex.split(given))
    except ValueError as error:
        raise UserError(f"--engine-command: it is no command ({error}).") from error
    if not command or shutil.which(command[0]) is None:
        raise UserError(f"--engine-command: there is no program {command[0] if command else ''!r}.")
    return command


def _interpreter(given: str) -> str:
    """The interpreter that ``--engine-python`` names: a file, or the folder of an environment."""
    path = Path(given).expanduser().absolute()
    if path.is_dir():
        path = path / "bin" / "python"
    found = shutil.which(given) if os.sep not in given and not path.exists() else shutil.which(str(path))
    if found is None:
        raise UserError(f"--engine-python {given}: there is no such program; give the path of a Python interpreter.")
    return found


class VLLM(EngineKind):
    backend, title, package, owner = "vllm", "vLLM", "vllm", "vllm"

    def start(self, python: str) -> tuple[str, ...]:
        """``vllm serve``."""
        return (python, "-m", "vllm.entrypoints.cli.main", "serve")

    def model(self, spec: ServerSpec) -> list[str]:
        """The model stands first."""
        return [spec.checkpoint.location]

    def arguments(self, spec: ServerSpec) -> dict[str, str | None]:
        """Those of ``vllm serve``."""
        checkpoint, limits = spec.checkpoint, spec.limits
        tokens = "auto" if limits.tokens is None else str(limits.tokens)
        return {
            "host": "127.0.0.1",
            "port": str(spec.port),
            "served-model-name": spec.name,
            "max-model-len": tokens,
            "limit-mm-per-prompt": json.dumps({"image": limits.images, "video": limits.videos}),
            "tensor-parallel-size": str(len(spec.place)),
            # Sizes of images and the times of frames are sent with requests, which only this process sends.
            "trust-request-mm-kwargs": None,
            "disable-uvicorn-access-log": None,
            **({} if spec.dtype == "auto" else {"dtype": spec.dtype}),
            **({} if checkpoint.pickled else {"load-format": "safetensors"}),
            **({"trust-remote-code": None} if checkpoint.trust_remote_code else {}),
            **({} if spec.chat_template is None else {"chat-template": spec.chat_template}),
            **self._memory(spec),
        }

    def _memory(self, spec: ServerSpec) -> dict[str, str | None]:
        """On a CPU, each server's part of the free memory; by itself, each takes 92 % of all, or does not start."""
        chosen = {"gpu-memory-utilization", "kv-cache-memory-bytes"} & spec.arguments.keys()
        if spec.place != (CPU,) or chosen or "VLLM_CPU_KVCACHE_SPACE" in os.environ:
            return {}
        share = free_memory_share()
        return {} if share is None else {"gpu-memory-utilization": f"{MEMORY_SHARE * share / spec.neighbours:.3f}"}

    def environment(self, spec: ServerSpec) -> dict[str, str]:
        """Nothing is reported to vLLM's authors; on a CPU, servers use all cores and do not bind to the same.

        By itself, vLLM leaves one core to its other processes, which is half of a machine with two (docs/speed.md).
        """
        cores = (
            {"VLLM_CPU_OMP_THREADS_BIND": "nobind"} if spec.neighbours > 1 else {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
        )
        chosen = {"VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU"} & os.environ.keys()
        return {
            **super().environment(spec),
            "VLLM_NO_USAGE_STATS": "1",
            **(cores if spec.place == (CPU,) and not chosen else {}),
        }


class SGLang(EngineKind):
    backend, title, package, owner = "sglang", "SGLang", "sglang", "sglang"

    def start(self, python: str) -> tuple[str, ...]:
        """``python -m sglang.launch_server``."""
        return (python, "-m", "sglang.launch_server")

    def arguments(self, spec: ServerSpec) -> dict[str, str | None]:
        """Those of ``sglang.launch_server``."""
        checkpoint, limits = spec.checkpoint, spec.limits
        pixels = {"min_pixels": checkpoint.min_pixels, "max_pixels": checkpoint.max_pixels}
        given: dict[str, Any] = {name: value for name, value in pixels.items() if value is not None}
        return {
            "host": "127.0.0.1",
            "port": str(spec.port),
            "served-model-name": spec.name,
            **({} if limits.tokens is None else {"context-length": str(limits.tokens)}),
            "limit-mm-data-per-request": json.dumps({"image": limits.images, "video": limits.videos}),
            "tensor-parallel-size": str(len(spec.place)),
            "log-level-http": "warning",
            **({"device": "cpu"} if spec.place == (CPU,) else {}),
            **({} if spec.dtype == "auto" else {"dtype": spec.dtype}),
            **({} if checkpoint.pickled else {"load-format": "safetensors"}),
            **({"trust-remote-code": None} if checkpoint.trust_remote_code else {}),
            **({} if spec.chat_template is None else {"chat-template": spec.chat_template}),
            **({"mm-process-config": json.dumps({"image": given})} if given else {}),
        }
