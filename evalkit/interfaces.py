"""Base classes of everything a plugin provides: tasks, metrics, model families and backends.

A class that is missing something required is refused when it is loaded (``evalkit.registry``).  Optional abilities
have defaults here; a plugin overrides those that it has.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from types import MappingProxyType
from typing import Any

from evalkit.aggregation import Aggregation
from evalkit.checkpoint import Checkpoint
from evalkit.data import Data, HubData, OfficialData
from evalkit.endpoint import Endpoint
from evalkit.errors import UserError
from evalkit.reasoning import REASONING, Markers
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
    PromptTemplate,
    Request,
    Response,
    Sample,
    Scores,
    Shot,
    Size,
    Split,
)


class Task(ABC):
    """A benchmark: where its rows are, how a row becomes a sample, and which metric scores it.

    A task defines ``from_files``, ``from_hub`` or both (or ``load`` itself, if its data are of neither kind).

    Attributes:
        version: raised whenever a score could change.
        splits: every split that can be evaluated.
        default_splits: the splits that the bare task name stands for.
        metric: the name of the metric that scores it.
        decoding: how answers are generated unless a protocol says otherwise.
        layout: the official files below a data root, for ``evalkit tasks``.
        hub: the id of the data set on the hub.
        prompts: its prompts under other harnesses' protocols, by protocol (``lmms-eval``, ``vlmevalkit``).
    """

    name: str
    version: int
    kind: Kind
    splits: Mapping[str, Split]
    default_splits: Sequence[str]
    metric: str
    decoding: Decoding
    layout: Sequence[str] = ()
    hub: str = ""
    prompts: Mapping[str, PromptTemplate] = {}

    def load(self, data: Data, split: str) -> Iterable[Sample]:
        """The samples of ``split`` in the official order.

        Raises:
            UserError: the files are missing or in another format, or the task cannot be read from such data.
        """
        if isinstance(data, HubData):
            return self.from_hub(data, split)
        if isinstance(data, OfficialData):
            return self.from_files(data, split)
        raise UserError(
            f"{self.name}: cannot be read from {data.name} ({type(data).__name__}); "
            "give --data ROOT with the official downloads, or --data hub."
        )

    def from_files(self, data: OfficialData, split: str) -> Iterable[Sample]:
        """The samples of ``split`` from the official downloads."""
        raise UserError(f"{self.name}: it is not read from official downloads; use --data hub.")

    def from_hub(self, data: HubData, split: str) -> Iterable[Sample]:
        """The samples of ``split`` from the hub's data set."""
        raise UserError(f"{self.name}: it is not on the hub; give --data ROOT with the official downloads.")

    def prompt_spec(self, protocol: str = "official", choice: str = "generate") -> PromptSpec:
        """What a family needs to know of the task to write its prompts under ``protocol``."""
        return PromptSpec(self.name, self.kind, protocol, choice, self.prompts)

    @property
    def has_submission(self) -> bool:
        """Whether ``submission`` is defined."""
        return type(self).submission is not Task.submission

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) of the file that the official server scores, for splits without public answers.

        Args:
            answers: every sample of the split in the official order.  The prediction is None for those without an
                answer: servers refuse a file that leaves questions out.
        """
        raise UserError(f"{self.name}: there is no file for an official server.")

    @property
    def has_results(self) -> bool:
        """Whether ``results`` is defined."""
        return type(self).results is not Task.results

    def results(self, answers: Sequence[Answered]) -> str:
        """The content of the file that the official scorer reads; an answer without a prediction is ""."""
        raise UserError(f"{self.name}: its official scorer reads no file of answers.")


class Metric(ABC):
    """Scores the answers of a split; needs no torch.

    Attributes:
        running_score: whether a sample's score depends on no other sample, so that a run can show the score so far.
        aggregation: how values come from the per-sample scores, by name; ``Scores.aggregation`` adds to it what depends
            on the samples.  Default: the mean of the column named like the value, on a scale from 0 to 100.
    """

    name: str
    running_score: bool = False
    aggregation: Mapping[str, Aggregation] = MappingProxyType({})

    @property
    def signature(self) -> str:
        """The signature of its scores; empty if it depends on the samples.  Shows which stored scores are outdated."""
        return ""

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that ``samples`` can be scored and that everything needed is there; called before a model is loaded.

        By default, made-up answers to the first samples are scored.  Override it if that is slow, or to check every
        sample's references.

        Raises:
            UserError: they cannot be scored.
        """
        from evalkit.metric_contract import try_out

        try_out(self, samples, kind)

    @abstractmethod
    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score all answers; one without a prediction counts as wrong.  Without answers, the values are NaN."""


class Family(ABC):
    """How a family of models is prompted and how its answers are parsed.

    If a protocol does not define a prompt for a task, no prompt is made up: ``prompt``, ``decoding``, ``parse`` and
    ``answer`` raise ``UserError``.

    Attributes:
        model_types: the ``model_type`` values (``config.json``) of the checkpoints that belong to it.
        coordinates: the convention of its boxes under its own protocol, in words; never guessed from an answer.
        several_images: whether a prompt can hold more than one image, few-shot examples' included.
        ranks_letters: whether its models' own evaluation ranks the letters of multiple-choice questions.
        reasoning: the markers of the reasoning before its models' answers, in prompts and in answers.
    """

    name: str
    coordinates: str
    model_types: Sequence[str] = ()
    several_images: bool = True
    ranks_letters: bool = False
    reasoning: Sequence[Markers] = REASONING

    def claims(self, model_type: str, name: str, chat_format: object = None) -> bool:
        """Whether a checkpoint belongs to this family; at most one family may claim it.

        Args:
            model_type: of its ``config.json``.
            name: what the user calls it: a hub id or a folder.
            chat_format: of its ``generation_config.json``, where there is one.
        """
        return model_type in self.model_types

    def matches_name(self, name: str) -> bool:
        """Whether ``name`` sounds like one of its models; all that is known of a model behind some servers."""
        return _plain(self.name) in _plain(name)

    def prompt_end(self, name: str) -> str:
        """The marker with which the chat template of the checkpoint ``name`` opens reasoning; empty if it opens none.

        Used for models behind servers that do not show their prompts.
        """
        return ""

    @abstractmethod
    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """The conversation that asks ``sample``, after the few-shot examples with their images and answers."""

    @abstractmethod
    def decoding(self, spec: PromptSpec, default: Decoding) -> Decoding:
        """The task's decoding with the limits of the protocol and of this family."""

    @abstractmethod
    def parse(self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize]) -> Prediction:
        """The prediction in a raw answer; boxes in pixels of the original image."""

    @abstractmethod
    def answer(self, spec: PromptSpec, sample: Sample, image_size: ImageSize) -> str:
        """The right answer as the family would write it (``parse`` returns it), for a few-shot example."""

    @abstractmethod
    def continuations(self, spec: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """The option letters as they would follow the prompt, in the order of the options."""

    @abstractmethod
    def image_size(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageSize:
        """The size of an image in the file and as the encoder sees it.

        Args:
            min_pixels, max_pixels: limits of the processor; None for those of the released one.
        """


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


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
        begin: called when the first of them goes to a worker that is ready.
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
    """

    name: str
    remote: bool = False

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
