"""A worker as a Ray actor: what ``process`` does, with Ray in the place of the pair of sockets.

Imported where Ray is.  Messages come in by one method and go out by one that never ends, each with a thread of its own,
so that they stay in order.
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

from .messages import Chunk, Lost, Start

# How long a worker that is lost waits for that to be heard.
SECONDS = 5.0


class Ports:
    """One end of what goes back and forth; takes the place of ``Link``."""

    def __init__(self) -> None:
        self.incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def send(self, message: object) -> bool:
        """Raises whatever pickling does."""
        self.outgoing.put(pickle.dumps(message))
        if isinstance(message, Lost):  # the process ends after saying so
            time.sleep(SECONDS)
        return True

    def receive(self) -> Any:
        """The next message, once there is one.

        Raises:
            UserError: it speaks of files that are not on this node.
        """
        message = pickle.loads(self.incoming.get())
        if isinstance(message, Start):
            _look_for_checkpoint(message)
        elif isinstance(message, Chunk):
            _look_for_images(message)
        return message


def _look_for_checkpoint(start: Start) -> None:
    if start.version != __version__:
        raise UserError(
            f"--executor ray: {_node()} has evalkit {__version__}, and this is {start.version}; install the same one "
            "on every node."
        )
    for path in (start.checkpoint.location, start.checkpoint.adapter):
        if path is not None and not Path(path).is_dir():
            raise UserError(
                f"--executor ray: {_node()} has no folder {path}; put checkpoints on a file system that all nodes "
                "share (for hub ids: HF_HOME), under the same path."
            )


def _look_for_images(chunk: Chunk) -> None:
    for image in chunk.requests[0].images:
        folder = Path(image.path).parent if isinstance(image, PathImage) else None
        if folder is not None and not folder.is_dir():
            raise UserError(
                f"--executor ray: {_node()} has no folder {folder}; put the data on a file system that all nodes "
                "share, under the same path."
            )


def _node() -> str:
    return f"the node {socket.gethostname()}"


remote: Any = ray.remote  # its annotations do not know of concurrency groups


@remote(max_restarts=0, concurrency_groups={"in": 1, "out": 1})
class Actor:
    """One worker.

    Args:
        threads: of its CPU work; None to leave it to torch.
        folder: where the run was begun, from which paths may be meant; it need not be there.
    """

    def __init__(self, threads: int | None, folder: str) -> None:
        with suppress(OSError):
            os.chdir(folder)
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        else:
            os.environ.pop("OMP_NUM_THREADS", None)  # Ray's own guess is the CPUs that the actor has reserved
        self._ports = Ports()
        threading.Thread(target=_work, args=(self._ports,), name="worker", daemon=True).start()

    @ray.method(concurrency_group="in")
    def tell(self, message: bytes) -> None:
        """Take a message."""
        self._ports.incoming.put(message)

    @ray.method(concurrency_group="out", num_returns="streaming")
    def messages(self) -> Iterator[list[bytes]]:
        """What the worker says, for ever: all that there is at a time."""
        outgoing = self._ports.outgoing
        while True:
            found = [outgoing.get()]
            while not outgoing.empty():
                found.append(outgoing.get())
            yield found


def _work(ports: Ports) -> None:
    from .process import work

    work(ports)
    time.sleep(SECONDS)
    os._exit(1)  # a worker that could not be opened has said why
