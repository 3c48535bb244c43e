"""What a backend needs to start servers: the user's options of the engine, and the run that they are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from evalkit.endpoint import Endpoint
from evalkit.types import Request, Size


@dataclass(frozen=True)
class EngineOptions:
    """What the user says about an engine.

    Attributes:
        endpoint: how requests are sent; its address is not used.
        family: the name of the model family.
        python: the interpreter of the environment that has the engine; None to look for it.
        command: what starts the engine, such as a container, before its arguments; None to look for it.
        arguments: further arguments, each ``name`` or ``name=value``.
        device: as ``--device``.
        dtype: as ``--dtype``.
        gpus_per_worker: the GPUs that a model is spread over; None for as few as hold it.
    """

    endpoint: Endpoint
    family: str
    python: str | None = None
    command: str | None = None
    arguments: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    gpus_per_worker: int | None = None


@dataclass(frozen=True)
class Launch:
    """What servers are started for.

    Attributes:
        requests: yields the requests that they have to answer.
        sizes: (width, height) of images by name, as far as known.
        folder: where their logs are written.
        report: shows their progress in a line.
        chat_template: the file with the user's; None for the checkpoint's own.
        stop: once set, the start is abandoned.
    """

    requests: Callable[[], Iterator[Request]]
    sizes: Mapping[str, Size]
    folder: Path
    report: Callable[[str], None]
    chat_template: Path | None = None
    stop: Event | None = None
