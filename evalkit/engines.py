"""Engines that evalkit starts itself, as servers on this machine: what a run says about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.errors import UserError

ENGINES = ("vllm", "sglang")
"""The backends that start an engine."""
RESERVED = ("model", "model-path", "host", "port", "served-model-name", "api-key", "uds")
"""Arguments of the engines by which evalkit finds its servers."""
NEUTRAL = (
    "gpu-memory-utilization", "mem-fraction-static", "kv-cache-memory-bytes", "max-num-seqs", "max-running-requests",
    "max-num-batched-tokens", "chunked-prefill-size", "max-model-len", "context-length", "swap-space", "log-level",
    "mm-processor-cache-gb", "api-server-count", "enforce-eager", "disable-cuda-graph",
)  # fmt: skip
"""Arguments that answers do not depend on, but for near-ties in half precision: no part of the run identity."""


@dataclass(frozen=True)
class Engine:
    """An engine that was found, and where its servers run.

    Attributes:
        name: ``vLLM``.
        version: None if it is only known once the engine runs.
        command: what starts it, before its arguments.
        arguments: the user's, by name; None for a flag without a value.
        places: the devices of each server.
        dtype: as ``--dtype``.
    """

    name: str
    version: str | None
    command: tuple[str, ...]
    arguments: Mapping[str, str | None]
    places: tuple[tuple[str, ...], ...]
    dtype: str

    @property
    def label(self) -> str:
        """Its name with its version: ``vLLM 0.32.0``."""
        return self.name if self.version is None else f"{self.name} {self.version}"

    def to_dict(self) -> dict[str, Any]:
        """The entry in the manifest."""
        return {
            "name": self.name,
            "version": self.version,
            "command": list(self.command),
            "arguments": dict(self.arguments),
            "devices": ["+".join(place) for place in self.places],
        }

    def identity(self) -> dict[str, Any]:
        """The user's arguments that answers may depend on, as a part of the run identity."""
        found = {name: value for name, value in self.arguments.items() if name not in NEUTRAL}
        return {"engine arguments": found} if found else {}


def engine_arguments(given: tuple[str, ...]) -> dict[str, str | None]:
    """The engine's arguments by name; ``name`` is a flag, ``name=value`` has a value.

    Raises:
        UserError: one has no name, or is one that evalkit sets.
    """
    found: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.strip().lstrip("-").partition("=")
        name = name.strip().replace("_", "-")
        if not name or " " in name or not name.isprintable():
            raise UserError(f"--engine-arg {text!r}: give NAME or NAME=VALUE, such as gpu-memory-utilization=0.8.")
        if name in RESERVED:
            raise UserError(f"--engine-arg {name}: evalkit sets it itself; leave it out.")
        if name in ("tensor-parallel-size", "tp-size", "tp", "data-parallel-size", "dp-size", "dp"):
            raise UserError(
                f"--engine-arg {name}: give --gpus-per-worker N to spread the model over N GPUs; each further "
                "group of devices in --device runs another server."
            )
        found[name] = value if equals else None
    return found


def check_engine(backend: str, python: str | None, command: str | None, arguments: tuple[str, ...]) -> None:
    """Check that options of engines are given with one, and do not contradict each other.

    Raises:
        UserError: they are not, or they do.
    """
    for option, value in (("python", python), ("command", command), ("arg", arguments)):
        if value and backend not in ENGINES:
            raise UserError(f"--engine-{option}: only for {' and '.join(ENGINES)}; add --backend {ENGINES[0]}.")
    if python is not None and command is not None:
        raise UserError("--engine-python: --engine-command starts the engine; drop one of the two.")
    engine_arguments(arguments)
