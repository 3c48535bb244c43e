"""``--executor ray``: workers as actors of a Ray cluster, on one queue that lies with the run's own process.

Ray finds a place for each worker and takes messages there and back; who answers what is said in ``pool``, as
for the devices of one machine.  A worker that died is asked for anew, so that Ray puts it wherever there is room.  What
is sent are references: checkpoints and images lie on a file system that all nodes share.
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
from .handle import Hand
from .messages import Start

log = logging.getLogger(__name__)

LOCAL = "local"
# After so long it is said that a worker has no place yet.
SECONDS_TO_PLACE = 60.0


def connect(cluster: Cluster) -> tuple[Any, bool]:
    """Ray, connected, and whether it was not so before.

    Raises:
        UserError: there is no Ray here, or no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a run
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--executor ray: needs Ray; install it with: {install_command('ray')}") from error
    address = cluster.address or os.environ.get("RAY_ADDRESS") or LOCAL
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: answers do not come back through Ray's client; run evalkit on a node of the cluster "
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
        # Ray lets workers import from where it was begun, before anything that is installed; there may be a folder of
        # evalkit's name.
        with chdir("/"):
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({said}); start one with 'ray start --head', or leave "
            "--address out for one of this machine alone."
        ) from error
    return ray, True


class RayHand(Hand):
    """One worker, wherever it is.

    Args:
        ray: the module, connected.
        needs: what Ray is to reserve for it.
        threads: of its CPU work; None to leave it to torch.
    """

    def __init__(self, name: str, device: str, ray: Any, needs: Mapping[str, float], threads: int | None) -> None:
        super().__init__(name, device)
        self._ray = ray
        self._needs = dict(needs)
        self._threads = threads
        self._actor: Any = None
        self._placed = False
        self.stream: Any = None
        self.received: deque[bytes] = deque()

    def _begin(self, start: Start) -> None:
        from .ray_actor import Actor

        kind: Any = Actor
        self._actor = kind.options(**self._needs).remote(self._threads, str(Path.cwd()))
        self.stream = self._actor.messages.remote()
        self.received.clear()
        self._asked, self._told = time.monotonic(), False
        self.send(start)

    def send(self, message: object) -> bool:
        self._actor.tell.remote(pickle.dumps(message))
        return True

    def receive(self) -> Any:
        if not self.received:
            try:
                self.received.extend(self._ray.get(next(self.stream)))
            except (StopIteration, self._ray.exceptions.RayError) as error:
                self.lost = _why(error)
                raise EOFError from error
        return pickle.loads(self.received.popleft())

    def end(self) -> str:
        if self._actor is not None and self._ray.is_initialized():
            self._ray.kill(self._actor)
        self._actor = self.stream = None
        return self.lost or "it was ended"

    def look_for_place(self) -> None:
        """Say once that there is no room for it, if that is so."""
        if not self.ready and not self._told and time.monotonic() - self._asked > SECONDS_TO_PLACE:
            self._told = True
            needs = ", ".join(f"{amount:g} {what.removeprefix('num_').upper()}" for what, amount in self._needs.items())
            log.warning(
                "%s is not ready yet: it loads, or waits until the cluster has room for it (%s)", self.name, needs
            )


_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def _why(error: BaseException) -> str:
    """What Ray says of a worker's death, in a few words."""
    said = str(error)
    found = re.search(r"The actor (?:is dead|died) because (.*?)(?:\. |\.?\n|\.?$)", said)
    kind = re.search(r"Worker exit type: (\w+)", said)
    if found is None:
        return (said.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if "creation task" in found.group(1):  # what is raised there is told at the end
        return _ESCAPES.sub("", said.strip().splitlines()[-1].strip())
    return found.group(1) + (f" ({kind.group(1)})" if kind else "")


def those_with_messages(hands: Sequence[Hand], seconds: float) -> list[Hand]:
    """The workers that have sent something, or died, within so many seconds."""
    mine = [hand for hand in hands if isinstance(hand, RayHand)]
    if waiting := [hand for hand in mine if hand.received]:
        return list(waiting)
    if not mine:
        time.sleep(seconds)
        return []
    import ray

    for hand in mine:
        hand.look_for_place()
    streams = [hand.stream for hand in mine]
    ready, _ = ray.wait(streams, num_returns=1, timeout=seconds)
    if ready:
        ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
    return [hand for hand in mine if any(stream is hand.stream for stream in ready)]


def close(hands: Sequence[Hand], *, disconnect: bool) -> None:
    """End all of them, and the connection, where it was made for them."""
    import ray

    for hand in hands:
        hand.end()
    if disconnect:
        ray.shutdown()


def ray_pool(cluster: Cluster, device: str, options: Mapping[str, Any]) -> HFWorkerPool:
    """Workers of a cluster.

    Raises:
        UserError: there is no such cluster, or it cannot have such workers.
    """
    ray, ours = connect(cluster)
    alone = (cluster.address or os.environ.get("RAY_ADDRESS") or LOCAL) == LOCAL
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(float(node.get("GPU", 0)) for node in resources)
    cpus = sum(float(node.get("CPU", 0)) for node in resources)
    each = cluster.gpus_per_worker
    if each is None:
        each = 1.0 if gpus and not device.startswith("cpu") else 0.0
    if each and alone and gpus < each:
        raise UserError(
            f"--gpus-per-worker {each:g}: this machine has {gpus:g} GPUs for Ray; give 0 for workers on the CPU, or "
            "--address for a cluster."
        )
    count = cluster.workers or (int(gpus // each) if each else len(resources)) or 1
    needs: dict[str, float]
    threads: int | None
    if each:
        needs, threads = {"num_gpus": each, "num_cpus": 1}, None
        where = "cuda" if each <= 1 else "+".join(f"cuda:{index}" for index in range(math.ceil(each)))
    else:
        largest = max((float(node.get("CPU", 0)) for node in resources), default=1.0)
        threads = int(max(1, min(largest, cpus // count)))
        needs, where = {"num_cpus": threads}, "cpu"
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    hands = [RayHand(f"worker {at + 1}", where, ray, needs, threads) for at in range(count)]
    return HFWorkerPool(
        hands,
        those_with_messages=those_with_messages,
        close=partial(close, disconnect=ours),
        options=options,
        asked="--executor ray",
        instead="leave --executor out",
        less="fewer --workers, or more GPUs in --gpus-per-worker, take less memory on a GPU",
        recorded={"executor": f"ray {ray.__version__}", "gpus_per_worker": each},
        device=where,
    )
