"""The ``hf`` backend without importing it: torch and transformers take seconds, and a complete run needs neither.

What a command asks of the backend before the first answer (its part of the run identity, and whether several devices
answer) follows from the checkpoint's configuration, the options, the installed packages and the devices of the machine.
It is remembered from one command to the next under all of them.  When the backend is opened, it is asked itself.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.errors import RunFailed
from evalkit.interfaces import Backend, BackendFactory, WorkerPool
from evalkit.options import RunSettings
from evalkit.software import digest_of_software
from evalkit.types import Batching, Cluster
from evalkit.user_cache import Remembered

VARIABLES = ("CUDA_", "HIP_", "ROCR_", "HSA_", "NVIDIA_", "GPU_", "PYTORCH_", "TORCH_", "LD_")
"""Prefixes of environment variables by which devices or libraries can be hidden or replaced."""
DEVICE_FILES = ("nvidia*", "kfd", "dri/*", "dxg")
"""Files in ``/dev`` of GPUs and their drivers."""
DRIVER_FILES = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version")
SEVERAL_DEVICES = ",+*"
"""Characters in ``--device`` that name several devices."""


def backend_factory(name: str) -> BackendFactory:
    """The factory of the backend ``name``; that of ``hf`` is imported when it is needed."""
    return RememberedBackend() if name == RunSettings.backend else registry.backends.get(name)


def devices_of_machine() -> Mapping[str, Any]:
    """What decides which devices torch finds: the machine, its device files and drivers, and environment variables."""
    files = sorted(str(path) for pattern in DEVICE_FILES for path in Path("/dev").glob(pattern))
    drivers = [_text(Path(path)) for path in DRIVER_FILES]
    cards = sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*"))
    variables = {key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)}
    return {
        "machine": [platform.node(), platform.machine(), _text(Path("/proc/sys/kernel/random/boot_id"))],
        "user": os.getuid() if hasattr(os, "getuid") else None,
        "files": files,
        "drivers": drivers,
        "cards": cards,
        "variables": variables,
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


class RememberedBackend(BackendFactory):
    """The factory of the ``hf`` backend, which is imported at the first question that is not remembered."""

    name = RunSettings.backend

    def __init__(self) -> None:
        self._store = Remembered("backends")
        self._remembered: list[tuple[Mapping[str, Any], Any, Callable[[], Any]]] = []  # key, answer, the real question

    @cached_property
    def _factory(self) -> BackendFactory:
        return registry.backends.get(self.name)

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """As the backend's; remembered for a checkpoint with this configuration."""

        def ask() -> dict[str, Any]:
            return dict(self._factory.identity(checkpoint, device=device, dtype=dtype))

        key = {
            "config": checkpoint.config,
            "trust_remote_code": checkpoint.trust_remote_code,
            "adapter": checkpoint.adapter is not None,
            "device": device,
            "dtype": dtype,
        }
        found: Mapping[str, Any] = self._answer("identity", key, ask)
        return found

    def worker_pool(
        self, *, device: str, dtype: str, batching: Batching = Batching(), cluster: Cluster | None = None
    ) -> WorkerPool | None:
        """As the backend's; for a single device it is remembered that there are no workers."""
        if cluster is not None or any(mark in device for mark in SEVERAL_DEVICES):
            return self._factory.worker_pool(device=device, dtype=dtype, batching=batching, cluster=cluster)
        pool: WorkerPool | None = None

        def ask() -> bool:
            nonlocal pool
            pool = self._factory.worker_pool(device=device, dtype=dtype, batching=batching)
            return pool is None

        self._answer("no workers", {"device": device, "dtype": dtype}, ask)
        return pool

    def _answer(self, question: str, arguments: Mapping[str, Any], ask: Callable[[], Any]) -> Any:
        key = {
            "question": question,
            "arguments": arguments,
            "software": digest_of_software(),
            "devices": devices_of_machine(),
        }
        found = None if "_factory" in self.__dict__ else self._store.get(key)  # else it can be asked itself
        if found is not None:
            self._remembered.append((key, found, ask))
            return found
        found = ask()
        if found is not False:
            self._store.put(key, found)
        return found

    def confirm(self) -> None:
        """Ask the backend itself what was remembered in this command, since it is needed now.

        Raises:
            RunFailed: an answer differs, so the run was chosen by a wrong one.  It is forgotten.
        """
        checked, self._remembered = self._remembered, []
        for _, found, ask in checked:
            if ask() != found:
                for wrong, _, _ in checked:
                    self._store.forget(wrong)
                raise RunFailed(
                    "the devices that torch finds on this machine are not those that it found for an earlier command. "
                    "Nothing was computed; run the same command again."
                )

    # ------------------------------------------------------------------------------------- what needs the backend

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """As the backend's.  Raises ``RunFailed`` if something was remembered that does not hold."""
        self.confirm()
        return self._factory.open(checkpoint, device=device, dtype=dtype, batching=batching)


def _forwarding(name: str) -> Callable[..., Any]:
    def method(self: RememberedBackend, *args: Any, **named: Any) -> Any:
        return getattr(self._factory, name)(*args, **named)

    method.__name__, method.__doc__ = name, "As the backend's."
    return method


for _name in dir(BackendFactory):  # all others, and those that the interface gets later
    if not _name.startswith("_") and callable(getattr(BackendFactory, _name)) and _name not in vars(RememberedBackend):
        setattr(RememberedBackend, _name, _forwarding(_name))
