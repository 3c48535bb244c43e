"""A worker as a Ray actor: the worker of ``process``, connected through Ray instead of a pair of sockets.

Only imported if Ray is installed.  One method takes messages, and one that never returns streams messages back; each
has a thread of its own, so that messages stay in order.
"""

from __future__ import annotations

import os
import pickle
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.version import __version__

from .messages import Chunk, DeviceLost, Start

# Seconds for which a worker stays alive after its last message, so that Ray delivers it.
SECONDS_BEFORE_EXIT = 5.0


class ActorChannel:
    """The actor's queues of incoming and outgoing messages; replaces ``Link``."""

    def __init__(self) -> None:
        self.incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def send(self, message: object) -> bool:
        """Send a message.  Raises whatever pickling raises."""
        self.outgoing.put(pickle.dumps(message))
        if isinstance(message, DeviceLost):  # the process exits after sending this
            time.sleep(SECONDS_BEFORE_EXIT)
        return True

    def receive(self) -> Any:
        """Wait for the next message and return it.

        Raises:
            UserError: it refers to files that are not on this node.
        """
        message = pickle.loads(self.incoming.get())
        if isinstance(message, Start):
            _check_checkpoint(message)
        elif isinstance(message, Chunk):
            _check_images(message)
        return message


def _check_checkpoint(start: Start) -> None:
    if start.version != __version__:
        raise UserError(
            f"--executor ray: {_node()} has evalkit {__version__}, the main process {start.version}; install the same "
            "version on every node."
        )
    for path in (start.checkpoint.location, start.checkpoint.adapter):
        if path is not None and not Path(path).is_dir():
            raise UserError(
                f"--executor ray: {_node()} has no folder {path}; put checkpoints on a file system that all nodes "
                "share (for hub ids: HF_HOME), at the same path."
            )


def _check_images(chunk: Chunk) -> None:
    for image in chunk.requests[0].images:
        folder = Path(image.path).parent if isinstance(image, PathImage) else None
        if folder is not None and not folder.is_dir():
            raise UserError(
                f"--executor ray: {_node()} has no folder {folder}; put the data on a file system that all nodes "
                "share, at the same path."
            )


def _node() -> str:
    return f"node {socket.gethostname()}"


remote: Any = ray.remote  # its annotations lack concurrency groups


@remote(max_restarts=0, concurrency_groups={"in": 1, "out": 1})
class WorkerActor:
    """One worker.

    Args:
        threads: of its CPU work; None for torch's default.
        folder: the main process's working directory, which relative paths refer to; may be missing on this node.
    """

    def __init__(self, threads: int | None, folder: str) -> None:
        with suppress(OSError):
            os.chdir(folder)
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        else:
            os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it to the CPUs that the actor has reserved
        self._channel = ActorChannel()
        threading.Thread(target=_run, args=(self._channel,), name="worker", daemon=True).start()

    @ray.method(concurrency_group="in")
    def send(self, message: bytes) -> None:
        """Pass a message to the worker."""
        self._channel.incoming.put(message)

    @ray.method(concurrency_group="out", num_returns="streaming")
    def messages(self) -> Iterator[list[bytes]]:
        """The worker's messages, in lists of those that are available at a time; never ends."""
        outgoing = self._channel.outgoing
        while True:
            batch = [outgoing.get()]
            while not outgoing.empty():
                batch.append(outgoing.get())
            yield batch


def _run(channel: ActorChannel) -> None:
    from .process import run_worker

    run_worker(channel)
    time.sleep(SECONDS_BEFORE_EXIT)
    os._exit(1)  # its backend could not be opened, and it has sent the reason
