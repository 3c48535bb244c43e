"""The base classes of backends: what generates answers, on one device or many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.endpoint import Endpoint
from evalkit.errors import UserError
from evalkit.launching import EngineOptions, Launch
from evalkit.types import Batching, Check, Cluster, ImageRef, ImageSize, Preview, Request, Response, Size


class Backend(ABC):
    """Generates answers; owns batching, memory and devices."""

    name: str

    @abstractmethod
    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, in any order, as they finish; a request that fails gets an error response.

        After ``stop`` is set, no request is started: those in progress are finished, and the iteration ends early.
        """

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """What the record of a run needs: device, dtype, library versions."""

    def estimate_tokens(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int] | None:
        """About how many tokens are to be computed per request, for the estimated time remaining; None if unknown.

        Nothing is read or tokenized.  A shared prefix counts for the first request only.

        Args:
            sizes: (width, height) of images by name, as far as known.
        """
        return None

    def memory(self) -> int | None:
        """Peak memory of the device for this process in bytes (on a CPU, memory in use now); None if unknown."""
        return None

    def close(self) -> None:
        """Free what it holds; it answers nothing after that."""
        return

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """A unit vector per image from the model's vision encoder, in order, independent of the other images.

        Raises:
            OSError: an image cannot be read.
            UserError: the backend or the model cannot embed images.
        """
        raise UserError(
            f"--shots-by similar: the backend {self.name} cannot compare images; use --shots-by random or fixed."
        )

    def image_size(self, size: Size) -> ImageSize | None:
        """The size of an image in the file and as the processor resizes it; None if the backend does not know.

        Raises:
            ValueError: the processor refuses such an image.
        """
        return None


@dataclass(frozen=True, eq=False)
class RequestBatch:
    """The requests of one job, for a pool of workers that answers those of several checkpoints.

    Attributes:
        size: about how many requests there are.
        requests: returns them; called when the first is needed.
        begin: called when the first of them is sent to a worker that is ready.
    """

    checkpoint: Checkpoint
    size: int
    requests: Callable[[], Sequence[Request]]
    begin: Callable[[], None] = lambda: None


class WorkerPool(ABC):
    """Workers that answer requests for several checkpoints, each with the one that it has loaded at the time."""

    @abstractmethod
    def identity(self, checkpoint: Checkpoint, *, dtype: str) -> Mapping[str, Any]:
        """As ``BackendFactory.identity``, on the workers' devices."""

    @abstractmethod
    def backend(self, checkpoint: Checkpoint) -> Backend:
        """All workers as a backend of one checkpoint; nothing is loaded yet."""

    @abstractmethod
    def open(self, checkpoint: Checkpoint) -> Backend:
        """All workers as a backend of one checkpoint, which they have loaded.

        Raises:
            UserError: the checkpoint cannot be opened with these options.
        """

    @abstractmethod
    def answer(
        self, batches: Sequence[RequestBatch], stop: Event | None = None
    ) -> Iterator[tuple[RequestBatch, Response | Exception]]:
        """A response to every request, or one exception for a batch that cannot be answered.

        After ``stop`` is set, no request is started: those in progress are finished, and the iteration ends early.
        """

    @abstractmethod
    def drop(self, batch: RequestBatch) -> None:
        """Stop answering ``batch``."""

    @abstractmethod
    def close(self) -> object:
        """End the workers."""


class BackendFactory(ABC):
    """Opens checkpoints; what a backend plugin provides.

    Attributes:
        remote: whether models are not loaded here but served elsewhere: ``connect`` then finds them.
        launches: whether it starts a server for each model: ``launchable`` prepares that, and ``launch`` does it.
    """

    name: str
    remote: bool = False
    launches: bool = False

    @abstractmethod
    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """What answers depend on (the backend's name, the dtype in effect), without loading weights.

        Raises:
            UserError: there is no such checkpoint, device or dtype.
        """

    @abstractmethod
    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """Load the checkpoint.

        Raises:
            UserError: the checkpoint, device or dtype is not available.
        """

    def resizer(self, checkpoint: Checkpoint) -> Callable[[Size], ImageSize] | None:
        """``Backend.image_size`` without loading weights; None if the backend does not know.

        Raises:
            UserError: the processor cannot be loaded.
        """
        return None

    def check(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> None:
        """Check without loading weights that the checkpoint can answer requests such as these.

        Args:
            requests: one for each kind of prompt; their images are not read.

        Raises:
            UserError: it cannot answer them.
        """
        return

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview] | None:
        """What the model would be given for each request, in order, without loading weights; None if unknown."""
        return None

    def verify(self, checkpoint: Checkpoint, *, device: str, dtype: str, forward: bool) -> Iterator[Check]:
        """Check whether a checkpoint is complete and works.

        Args:
            forward: load the model and run it once.

        Raises:
            UserError: the device, dtype or architecture is not available, or the backend checks no checkpoints.
        """
        raise UserError(f"evalkit verify: the backend {self.name} cannot check checkpoints.")

    def wrap(self, model: Any, processor: Any, *, batching: Batching = Batching()) -> AbstractContextManager[Backend]:
        """A backend over a model in memory; model, processor and random states are restored at the end.

        Raises:
            UserError: the model cannot be used.
        """
        raise UserError(f"the backend {self.name} cannot use a model that is in memory.")

    def connect(self, model: str | None, endpoint: Endpoint) -> Checkpoint:
        """The model that a server offers as ``model``; without a name, its only model.

        Raises:
            UserError: no server answers, it refuses the key, or it has no such model.
        """
        raise UserError(f"--base-url: the backend {self.name} uses no server; leave it out.")

    def launchable(self, checkpoint: Checkpoint, options: EngineOptions) -> Checkpoint:
        """A checkpoint whose files are here, as a model that a server will offer; nothing is started yet.

        Raises:
            UserError: the engine is not installed, or cannot be used with these options.
        """
        raise UserError(f"the backend {self.name} starts no server.")

    def launch(self, checkpoint: Checkpoint, launch: Launch) -> Backend:
        """Start servers for a checkpoint from ``launchable``, and wait until they are ready.

        Raises:
            UserError: the engine does not know an argument.
            RunFailed: a server did not start.
        """
        raise UserError(f"the backend {self.name} starts no server.")

    def worker_pool(
        self, *, device: str, dtype: str, batching: Batching = Batching(), cluster: Cluster | None = None
    ) -> WorkerPool | None:
        """Workers on several devices or in a cluster; None for a single device.

        Raises:
            UserError: the devices, dtype or cluster are not available, or the backend has no workers.
        """
        if cluster is not None:
            raise UserError(f"--executor ray: the backend {self.name} does not support it; use --executor local.")
        return None
