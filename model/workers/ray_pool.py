"""``--executor ray``: workers as actors of a Ray cluster, on one queue in the main process.

Ray places each worker and carries messages; ``pool`` dispatches requests as it does for the devices of one machine.  A
worker that died is requested from Ray again, which places it wherever there is room.  Messages refer to checkpoints and
images by path, on a file system that all nodes share.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.installation import install_command
from evalkit.types import Cluster

from .backend import HFWorkerPool
from .handle import WorkerHandle
from .messages import Start
from .supervisor import Advice

log = logging.getLogger(__name__)

LOCAL = "local"
# Seconds after which a message says that a worker is not ready yet.
SECONDS_TO_PLACE = 60.0


def connect(cluster: Cluster) -> tuple[Any, bool]:
    """Connect to Ray; returns the module, and whether this call connected it.

    Raises:
        UserError: Ray is not installed, or no cluster runs at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--executor ray: needs Ray; install it with: {install_command('ray')}") from error
    address = cluster.address or os.environ.get("RAY_ADDRESS") or LOCAL
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: Ray's client protocol is not supported; run evalkit on a node of the cluster "
            "('ray job submit -- evalkit run …') with --address auto."
        )
    if ray.is_initialized():
        return ray, False
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        cores = os.cpu_count() or 1
        quiet |= {"include_dashboard": False, "num_cpus": max(cores, cluster.workers or 1)}
    try:
        # Ray puts the working directory first on the workers' import path, and it may contain a folder named evalkit.
        with chdir("/"):
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({reason}); start one with 'ray start --head', or "
            "leave out --address to use this machine alone."
        ) from error
    return ray, True


class RayHandle(WorkerHandle):
    """Handle of a worker that runs as a Ray actor.

    Args:
        ray: the module, connected.
        resources: reserved by Ray for it.
        threads: of its CPU work; None for torch's default.
    """

    def __init__(self, name: str, device: str, ray: Any, resources: Mapping[str, float], threads: int | None) -> None:
        super().__init__(name, device)
        self._ray = ray
        self._resources = dict(resources)
        self._threads = threads
        self._actor: Any = None
        self.stream: Any = None
        self.received: deque[bytes] = deque()

    def _launch(self, start: Start) -> None:
        from .ray_actor import WorkerActor

        actor: Any = WorkerActor
        self._actor = actor.options(**self._resources).remote(self._threads, str(Path.cwd()))
        self.stream = self._actor.messages.remote()
        self.received.clear()
        self._requested, self._delay_reported = time.monotonic(), False
        self.send(start)

    def send(self, message: object) -> bool:
        self._actor.send.remote(pickle.dumps(message))
        return True

    def receive(self) -> Any:
        if not self.received:
            try:
                self.received.extend(self._ray.get(next(self.stream)))
            except (StopIteration, self._ray.exceptions.RayError) as error:
                self.exit_reason = _death_reason(error)
                raise EOFError from error
        return pickle.loads(self.received.popleft())

    def end(self) -> str:
        if self._actor is not None and self._ray.is_initialized():
            self._ray.kill(self._actor)
        self._actor = self.stream = None
        return self.exit_reason or "it was ended"

    def report_delay(self) -> None:
        """Log once if the worker is not ready after a minute."""
        if not self.ready and not self._delay_reported and time.monotonic() - self._requested > SECONDS_TO_PLACE:
            self._delay_reported = True
            resources = ", ".join(
                f"{amount:g} {name.removeprefix('num_').upper()}" for name, amount in self._resources.items()
            )
            log.warning(
                "%s is not ready yet: it is loading, or waiting for free resources in the cluster (%s)",
                self.name,
                resources,
            )


_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def _death_reason(error: BaseException) -> str:
    """Ray's reason for a worker's death, shortened."""
    text = str(error)
    match = re.search(r"The actor (?:is dead|died) because (.*?)(?:\. |\.?\n|\.?$)", text)
    exit_type = re.search(r"Worker exit type: (\w+)", text)
    if match is None:
        return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if "creation task" in match.group(1):  # the exception is in the last line
        return _ESCAPES.sub("", text.strip().splitlines()[-1].strip())
    return match.group(1) + (f" ({exit_type.group(1)})" if exit_type else "")


def wait_for_messages(handles: Sequence[WorkerHandle], seconds: float) -> list[WorkerHandle]:
    """The workers that have sent a message or died; waits up to ``seconds`` for the first."""
    ours = [handle for handle in handles if isinstance(handle, RayHandle)]
    if received := [handle for handle in ours if handle.received]:
        return list(received)
    if not ours:
        time.sleep(seconds)
        return []
    import ray

    for handle in ours:
        handle.report_delay()
    streams = [handle.stream for handle in ours]
    ready, _ = ray.wait(streams, num_returns=1, timeout=seconds)
    if ready:
        ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
    return [handle for handle in ours if any(stream is handle.stream for stream in ready)]


def close(handles: Sequence[WorkerHandle], *, disconnect: bool) -> None:
    """End all workers, and the connection to Ray if it was made for them."""
    import ray

    for handle in handles:
        handle.end()
    if disconnect:
        ray.shutdown()


def ray_pool(cluster: Cluster, device: str, options: Mapping[str, Any]) -> HFWorkerPool:
    """A pool of workers in a cluster.

    Raises:
        UserError: the cluster cannot be reached, or has no room for such workers.
    """
    ray, connected_here = connect(cluster)
    this_machine_only = (cluster.address or os.environ.get("RAY_ADDRESS") or LOCAL) == LOCAL
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(float(node.get("GPU", 0)) for node in nodes)
    cpus = sum(float(node.get("CPU", 0)) for node in nodes)
    each = cluster.gpus_per_worker
    if each is None:
        each = 1.0 if gpus and not device.startswith("cpu") else 0.0
    if each and this_machine_only and gpus < each:
        raise UserError(
            f"--gpus-per-worker {each:g}: Ray has {gpus:g} GPUs on this machine; give 0 for workers on the CPU, or "
            "--address for a cluster."
        )
    count = cluster.workers or (int(gpus // each) if each else len(nodes)) or 1
    resources: dict[str, float]
    threads: int | None
    if each:
        resources, threads = {"num_gpus": each, "num_cpus": 1}, None
        device = "cuda" if each <= 1 else "+".join(f"cuda:{index}" for index in range(math.ceil(each)))
    else:
        largest = max((float(node.get("CPU", 0)) for node in nodes), default=1.0)
        threads = int(max(1, min(largest, cpus // count)))
        resources, device = {"num_cpus": threads}, "cpu"
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    return HFWorkerPool(
        [RayHandle(f"worker {number}", device, ray, resources, threads) for number in range(1, count + 1)],
        wait_for_messages=wait_for_messages,
        close=partial(close, disconnect=connected_here),
        options=options,
        advice=Advice(
            option="--executor ray",
            instead="leave out --executor",
            less_memory="fewer --workers, or more --gpus-per-worker, take less memory on a GPU",
        ),
        recorded={"executor": f"ray {ray.__version__}", "gpus_per_worker": each},
        device=device,
    )
