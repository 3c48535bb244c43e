"""What plugins provide: tasks, metrics, model families and backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol, runtime_checkable

from evalkit.checkpoint import Checkpoint
from evalkit.data import Data
from evalkit.endpoint import Endpoint
from evalkit.types import (
    Answered,
    Batching,
    Check,
    Cluster,
    Decoding,
    ImageRef,
    ImageSize,
    Kind,
    Message,
    Prediction,
    Preview,
    PromptSpec,
    Request,
    Response,
    Sample,
    Scores,
    Shot,
    Size,
    Split,
)


@runtime_checkable
class Task(Protocol):
    """A benchmark: where its rows are, how a row becomes a sample, which metric scores it.

    ``version`` is raised whenever a score could change.  ``splits`` names what can be asked for; ``default_splits``
    is what the bare task name means.  ``layout`` are the official files below a data root, ``hub`` the data set's id.
    """

    name: str
    version: int
    kind: Kind
    splits: Mapping[str, Split]
    default_splits: Sequence[str]
    metric: str
    decoding: Decoding
    layout: Sequence[str]
    hub: str

    def load(self, data: Data, split: str) -> Iterable[Sample]:
        """The samples of a split, in the official order.  Raises ``UserError`` when the files are not as expected."""
        ...


@runtime_checkable
class Submits(Protocol):
    """A task with splits whose answers are not public: it writes the file that the official server scores."""

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(the file's name, its content).

        Every sample of the split is there in the official order, those without an answer with the reading None:
        servers refuse a file that leaves questions out.
        """
        ...


@runtime_checkable
class HasResults(Protocol):
    """A task whose official scorer reads answers from a file, also where the references are public."""

    def results(self, answers: Sequence[Answered]) -> str:
        """The file's content: every answer in the official order, "" where nothing could be read."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A scorer of a whole split; no torch."""

    name: str

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; an unread one counts as wrong.  ``answers`` may be empty: values are then NaN."""
        ...


@runtime_checkable
class Immediate(Protocol):
    """A metric that says whether a sample is scored by itself; a run can then show a score while it goes on."""

    immediate: bool


@runtime_checkable
class Family(Protocol):
    """How a family of models is asked and how its answers are read.

    ``model_types`` are the ``model_type`` values of the checkpoints' ``config.json`` that belong to it.
    ``coordinates`` declares the convention of its boxes under its own protocol; it is never guessed from an answer.
    ``several_images`` says whether exemplars' images can stand before the question's.

    A protocol that does not say how a task is asked is not made up for: ``prompt``, ``decoding``, ``parse`` and
    ``answer`` then raise ``UserError``.
    """

    name: str
    model_types: Sequence[str]
    coordinates: str
    several_images: bool

    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """The conversation that asks ``sample``, after the exemplars, whose images stand with their questions."""
        ...

    def decoding(self, spec: PromptSpec, default: Decoding) -> Decoding:
        """The task's decoding, with the limits of the protocol and what this family's way of answering needs."""
        ...

    def parse(self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize]) -> Prediction:
        """What the raw answer says; boxes in pixels of the original image."""
        ...

    def answer(self, spec: PromptSpec, sample: Sample, image_size: ImageSize) -> str:
        """What the family would say were it right (``parse`` gives it back): the answer of an exemplar."""
        ...

    def continuations(self, spec: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """The letters of a lettered question, in the order of its options, as they would follow the prompt."""
        ...

    def image_size(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageSize:
        """An image's size and that at which the encoder sees it; None stands for the released processor's limit."""
        ...


@runtime_checkable
class Ranks(Protocol):
    """A family whose models' own evaluation ranks the letters of lettered questions (``loglikelihood``)."""

    ranks_letters: bool


@runtime_checkable
class Encoded(Protocol):
    """An image whose file can be had as it is."""

    def content(self) -> bytes:
        """The file's bytes.  Raises ``OSError`` when it cannot be read."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Where answers come from; it owns batching, memory and devices."""

    name: str

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        """One response per request, in any order, as they finish.  A request that fails is answered with an error.

        Once ``stop`` is set, nothing new is begun: what is in work is answered, and the iteration ends early.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """What a record of the run needs: device, dtype, library versions."""
        ...


@runtime_checkable
class Costs(Protocol):
    """A backend that can say beforehand how much there is to compute, so that the time left can be told."""

    def costs(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """About how many tokens are to be computed for each request, in order; nothing is read or tokenized.

        What requests share counts for the first of them only.  ``sizes`` are those of images, by their names, as far
        as they are known.
        """
        ...


@runtime_checkable
class Occupies(Protocol):
    """A backend that can say how much memory it has taken."""

    def memory(self) -> int:
        """Bytes: the most that the device has held for this process; where there is no device, what it holds now."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A backend that can say where an image lies among others, by the model's own vision encoder."""

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """A unit vector per image, in order; the same whatever other images are asked for with it.

        Raises ``OSError`` for an image that cannot be read, ``UserError`` where the model has no such encoder.
        """
        ...


@runtime_checkable
class Sees(Protocol):
    """A backend that can say at which size its processor has an image seen."""

    def image_size(self, size: Size) -> ImageSize:
        """An image's size, and the encoder's.  Raises ``ValueError`` for an image that the processor refuses."""
        ...


@dataclass(frozen=True, eq=False)
class RequestBatch:
    """Requests for one checkpoint, of many that are answered together.

    Attributes:
        size: about how many there are.
        requests: gives them, when they are first needed.
        begin: is called when the first of them goes to a worker that is ready.
    """

    checkpoint: Checkpoint
    size: int
    requests: Callable[[], Sequence[Request]]
    begin: Callable[[], None] = lambda: None


@runtime_checkable
class Pool(Protocol):
    """Workers that answer requests for several checkpoints, each with the one that it has loaded at the time."""

    def identity(self, checkpoint: Checkpoint, *, dtype: str) -> Mapping[str, Any]:
        """As ``BackendFactory.identity``, on the devices of the workers."""
        ...

    def backend(self, checkpoint: Checkpoint) -> Backend:
        """All workers as a backend of one checkpoint; nothing is loaded yet."""
        ...

    def open(self, checkpoint: Checkpoint) -> Backend:
        """The same, once they have all loaded it.  Raises ``UserError`` where it cannot be opened as asked for."""
        ...

    def answer(
        self, lots: Sequence[RequestBatch], stop: Event | None = None
    ) -> Iterator[tuple[RequestBatch, Response | Exception]]:
        """A response to every request of every lot, or one exception for a lot that cannot be answered.

        Once ``stop`` is set, nothing new is begun: what is in work is answered, and the iteration ends early.
        """
        ...

    def drop(self, lot: RequestBatch) -> None:
        """Nothing of ``lot`` is wanted any more."""
        ...

    def close(self) -> object:
        """End the workers."""
        ...


class BackendFactory(Protocol):
    """What a backend plugin provides: it opens a checkpoint.

    Both methods raise ``UserError`` when the checkpoint, device or dtype cannot be had; that comes before the first
    sample.
    """

    name: str

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """What of the backend its answers depend on (its name, the dtype in effect), without loading weights."""
        ...

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """Load the checkpoint."""
        ...


@runtime_checkable
class Frames(Protocol):
    """A backend factory that can say the same of a checkpoint, without loading weights."""

    def resizer(self, checkpoint: Checkpoint) -> Callable[[Size], ImageSize]:
        """``Backend.image_size`` of the opened checkpoint.  Raises ``UserError`` where its processor does not load."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A backend factory that can show requests without loading weights."""

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview]:
        """A preview per request, in order."""
        ...


@runtime_checkable
class Verifies(Protocol):
    """A backend factory that can say whether a checkpoint is whole and works."""

    def verify(self, checkpoint: Checkpoint, *, device: str, dtype: str, forward: bool) -> Iterator[Check]:
        """What was found, check by check; with ``forward``, the model is loaded and run once.

        Raises:
            UserError: there is no such device or dtype, or the backend does not know the architecture.
        """
        ...


@runtime_checkable
class Wraps(Protocol):
    """A backend factory that can use a model that is in memory already."""

    def wrap(self, model: Any, processor: Any, *, batching: Batching = Batching()) -> AbstractContextManager[Backend]:
        """A backend for as long as the context lasts; then model, processor and random states are as they were.

        Raises:
            UserError: the model cannot be used as it is.
        """
        ...


@runtime_checkable
class Serves(Protocol):
    """A backend factory whose models are not loaded here but asked on a server."""

    def reach(self, model: str | None, endpoint: Endpoint) -> Checkpoint:
        """What the server offers under the name ``model``; without a name, the only model it has.

        Raises:
            UserError: nothing answers there, it does not take the key, or has no such model.
        """
        ...


@runtime_checkable
class Pools(Protocol):
    """A backend factory that can have several workers."""

    def pool(
        self, *, device: str, dtype: str, batching: Batching = Batching(), cluster: Cluster | None = None
    ) -> Pool | None:
        """Workers on ``device``, or of a cluster; None where that is one device.

        Raises:
            UserError: there is no such device, dtype or cluster.
        """
        ...
