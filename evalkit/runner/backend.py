"""The backend of a run: its workers, its part of the run identity, and the model that it loads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import Backend, BackendFactory, WorkerPool
from evalkit.launching import Launch
from evalkit.options import RunSettings


def open_worker_pool(factory: BackendFactory, settings: RunSettings) -> WorkerPool | None:
    """The worker pool that the settings ask for; None if one backend in this process answers everything.

    Raises:
        UserError: the backend has no workers, or they cannot be started.
    """
    return factory.worker_pool(
        device=settings.device, dtype=settings.dtype, batching=settings.batching, cluster=settings.cluster
    )


def backend_identity(
    factory: BackendFactory, pool: WorkerPool | None, checkpoint: Checkpoint, settings: RunSettings
) -> Mapping[str, Any]:
    """The backend's part of a run's identity."""
    if pool is not None:
        return pool.identity(checkpoint, dtype=settings.dtype)
    return factory.identity(checkpoint, device=settings.device, dtype=settings.dtype)


def launched_backend(
    factory: BackendFactory, checkpoint: Checkpoint, launch: Launch, announce: Callable[[str], None], console: Console
) -> Backend:
    """The backend of servers that are started for this run; shows how far their start has got.

    Raises:
        UserError: the engine does not know an argument.
        RunFailed: a server did not start.
    """
    began = time.monotonic()
    served = checkpoint.served
    assert served is not None
    assert served.engine is not None
    count = len(served.engine.places)
    announce(
        f"starting {served.software} for {checkpoint.name}: {count} server{'s' if count > 1 else ''}; output in "
        f"{launch.folder}/engine{'-N' if count > 1 else ''}.log"
    )
    with console.status("starting") as status:
        backend = factory.launch(checkpoint, replace(launch, report=lambda line: status.update(Text(line))))
    about = backend.describe()
    announce(f"{checkpoint.name} on {about['device_name']}, ready after {time.monotonic() - began:.1f} s")
    return backend


def opened_backend(
    factory: BackendFactory, pool: WorkerPool | None, checkpoint: Checkpoint, settings: RunSettings, console: Console
) -> Backend:
    """The checkpoint's backend, loaded here, by the pool's workers, or on a server that runs already."""
    began = time.monotonic()
    with console.status(f"loading {checkpoint.name}"):
        if pool is not None:
            backend = pool.open(checkpoint)
        else:
            backend = factory.open(checkpoint, device=settings.device, dtype=settings.dtype, batching=settings.batching)
    about = backend.describe()
    size = about.get("batch_size")
    batches = "one sample at a time, " if settings.exact else f"batches of up to {size}, " if size is not None else ""
    if checkpoint.served is not None:
        return backend  # nothing was loaded, and the server has been reported
    console.print(
        Text.assemble(
            (checkpoint.name, "bold"),
            f" on {about.get('device_name', about.get('device'))}, {about.get('dtype')}, {batches}loaded in "
            f"{time.monotonic() - began:.1f} s",
        ),
        soft_wrap=not console.is_terminal,
    )
    return backend
