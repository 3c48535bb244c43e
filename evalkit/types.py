"""The values that travel through evalkit, and the contracts of its plugins.

Values are frozen dataclasses.  Contracts are Protocols: a plugin needs no base class, only the right attributes.
Boxes are ``(x1, y1, x2, y2)`` in pixels of the original image everywhere; a model family converts at its own edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from threading import Event

    from PIL.Image import Image as PILImage

    from evalkit.checkpoint import Checkpoint
    from evalkit.data import Data
    from evalkit.endpoint import Endpoint

Kind = Literal["caption", "vqa", "document", "choice", "grounding"]
"""What is asked for; a family renders a prompt and reads an answer per kind."""

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2), pixels of the original image, x to the right, y down."""

Size = tuple[int, int]
"""(width, height) in pixels."""

FinishReason = Literal["stop", "length", "error"]


class ImageRef(Protocol):
    """A picture that is decoded late; cheap to hold by the hundred thousand."""

    @property
    def name(self) -> str:
        """Where the picture comes from (a path, or a data set's row), for messages and records."""
        ...

    def size(self) -> Size:
        """(width, height) in pixels, from the header alone.  Raises ``OSError`` when it cannot be read."""
        ...

    def load(self) -> PILImage:
        """Decode it to RGB.  Raises ``OSError`` or ``ValueError`` when it cannot be read."""
        ...

    def digest(self) -> str:
        """A digest of its content, wherever it lies.  Raises ``OSError`` when it cannot be read."""
        ...


def picture_key(image: ImageRef) -> str:
    """What two references to one picture have in common, so that it is computed once.

    Its name, unless it has a ``key``: data sets with a row for each question hold a picture as often as it is asked
    about.
    """
    return str(getattr(image, "key", None) or image.name)


@dataclass(frozen=True)
class Sample:
    """One question of one benchmark.

    Attributes:
        id: unique within the task's split, and stable: the official id where there is one.
        images: the pictures asked about, usually one.
        text: the question or referring expression as the files have it; empty for captioning.
        references: what an answer is scored against (ten answers, five captions, one box): the metric knows the type.
        cluster: the unit that is resampled together, usually the image, since its questions are not independent.
        options: the texts of a multiple-choice question, in order.
        meta: what breakdowns need (answer type, question type).  Never used to score.
    """

    id: str
    images: tuple[ImageRef, ...]
    text: str
    references: tuple[Any, ...]
    cluster: str
    options: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A picture inside a message."""

    image: ImageRef


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: its pieces in the order the model sees them.

    The role ``plain`` is running text outside any chat template, which the model goes on writing; it stands alone.
    """

    role: Literal["system", "user", "assistant", "plain"]
    content: tuple[Text | Picture, ...]


@dataclass(frozen=True)
class Decoding:
    """How an answer is generated: up to ``max_new_tokens`` tokens, and greedily unless something else is asked for.

    Attributes:
        temperature: above 0, tokens are drawn from the distribution that it sharpens or flattens; 0 is greedy.
        top_p: they are drawn from the likeliest tokens that make up this share (1: from all).
        top_k: and from at most so many (0: from all).
        seed: of what is drawn; each request has a stream of its own, from the seed and its id.
        num_beams: above 1, beam search of that width, which cannot be combined with a temperature.
        stop: strings that end an answer; what an answer says ends before the first of them.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    num_beams: int = 1
    stop: tuple[str, ...] = ()

    def named(self) -> str:
        """In words, for a signature and for readers: ``greedy``, or what is done otherwise."""
        found = {name: value for name, value in self.recorded().items() if not name.endswith("new_tokens")}
        if isinstance(found.get("stop"), tuple):
            found["stop"] = ",".join(map(repr, self.stop))
        return ",".join(f"{name}={value}" for name, value in found.items()) or "greedy"

    def recorded(self) -> dict[str, Any]:
        """What tells it from others: the limits, and whatever is not the default."""
        every = asdict(self)
        plain = asdict(Decoding(self.max_new_tokens))
        if self.temperature == 0:
            every["seed"] = plain["seed"]  # nothing is drawn
        limits = ("max_new_tokens", "min_new_tokens")
        return {name: value for name, value in every.items() if name in limits or value != plain[name]}


@dataclass(frozen=True)
class Ask:
    """How a task is asked.

    Attributes:
        task: its name; other people's protocols word their prompts by benchmark.
        protocol: whose wording and limits: ``official`` (the family's own), ``lmms-eval`` or ``vlmevalkit``.
        choice: how lettered options are answered: the model writes a letter (``generate``), or the option whose letter
            it finds likeliest counts (``loglikelihood``).
    """

    task: str
    kind: Kind
    protocol: str = "official"
    choice: str = "generate"


@dataclass(frozen=True)
class Shot:
    """An exemplar: a sample with its answer as the family would write it."""

    sample: Sample
    answer: str


@dataclass(frozen=True)
class Request:
    """What a backend is asked to answer.

    Where there are ``continuations``, nothing is generated: the response is the one with the lowest mean cross-entropy
    per token, as it stands there.
    """

    id: str
    messages: tuple[Message, ...]
    decoding: Decoding
    continuations: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """The pictures of all messages, in order."""
        return tuple(p.image for m in self.messages for p in m.content if isinstance(p, Picture))


@dataclass(frozen=True)
class Frame:
    """One picture's size in the file and as the vision encoder saw it, both (width, height) in pixels."""

    original: Size
    resized: Size


@dataclass(frozen=True)
class Response:
    """A backend's answer to the request of the same id.

    Attributes:
        text: the generated text, special tokens kept, the end-of-turn token not.
        tokens: the generated token ids, the end-of-turn token not included.
        finish: ``stop`` (the model ended), ``length`` (cut off by ``max_new_tokens``) or ``error``.
        prompt_tokens: length of the prompt in tokens, visual tokens included.
        frames: the sizes of the request's pictures, in order.
        error: what went wrong, when ``finish`` is ``error``.
        seconds: its share of the time its batch took.
    """

    id: str
    text: str = ""
    tokens: tuple[int, ...] = ()
    finish: FinishReason = "stop"
    prompt_tokens: int = 0
    frames: tuple[Frame, ...] = ()
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What a family read from a raw answer: a text, a letter or a box; ``value`` is None when nothing could be read."""

    value: str | Box | None

    @property
    def parsed(self) -> bool:
        return self.value is not None


@dataclass(frozen=True)
class Answered:
    """A sample with what was read from its answer; what metrics score."""

    sample: Sample
    reading: Reading


@dataclass(frozen=True)
class Scores:
    """A metric's verdict on a whole split.

    Attributes:
        headline: the key of ``values`` that stands in the leaderboard.
        values: named aggregates, in the unit the field prints (percent for accuracies).
        per_sample: sample id to its own values; a column's mean is the aggregate, unless the metric says otherwise.
        signature: what two numbers must share to be comparable, ``name|key:value|…``.
    """

    headline: str
    values: Mapping[str, float]
    per_sample: Mapping[str, Mapping[str, float]]
    signature: str


@dataclass(frozen=True)
class Split:
    """A task's split: the official number of samples (None where it varies), and what it is.

    ``answers`` is False where the references are not public: answers are then written as a submission, not scored.
    """

    size: int | None
    about: str = ""
    answers: bool = True


# ----------------------------------------------------------------------------------------------------------- contracts


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
    ``several_images`` says whether exemplars' pictures can stand before the question's.

    A protocol that does not say how a task is asked is not made up for: ``prompt``, ``decoding``, ``read`` and
    ``answer`` then raise ``UserError``.
    """

    name: str
    model_types: Sequence[str]
    coordinates: str
    several_images: bool

    def prompt(self, ask: Ask, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """The conversation that asks ``sample``, after the exemplars, whose pictures stand with their questions."""
        ...

    def decoding(self, ask: Ask, default: Decoding) -> Decoding:
        """The task's decoding, with the limits of the protocol and what this family's way of answering needs."""
        ...

    def read(self, ask: Ask, text: str, frames: Sequence[Frame]) -> Reading:
        """What the raw answer says; boxes in pixels of the original image."""
        ...

    def answer(self, ask: Ask, sample: Sample, frame: Frame) -> str:
        """What the family would say were it right (``read`` gives it back): the answer of an exemplar."""
        ...

    def continuations(self, ask: Ask, sample: Sample) -> tuple[str, ...]:
        """The letters of a lettered question, in the order of its options, as they would follow the prompt."""
        ...

    def frame(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> Frame:
        """A picture's size and that at which the encoder sees it; None stands for the released processor's limit."""
        ...


@runtime_checkable
class Ranks(Protocol):
    """A family whose models' own evaluation ranks the letters of lettered questions (``loglikelihood``)."""

    ranks_letters: bool


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


@dataclass(frozen=True)
class Batching:
    """How a backend puts requests together; answers do not depend on it.

    Attributes:
        size: how many are answered at one time; None for what suits the device.
        tokens: how many tokens of prompts are computed at one time; None for what suits the device.
        exact: one request at a time, nothing shared, by the plainest way there is: the reference for all others.
    """

    size: int | None = None
    tokens: int | None = None
    exact: bool = False


@runtime_checkable
class Encoded(Protocol):
    """A picture whose file can be had as it is."""

    def content(self) -> bytes:
        """The file's bytes.  Raises ``OSError`` when it cannot be read."""
        ...


@runtime_checkable
class Costs(Protocol):
    """A backend that can say beforehand how much there is to compute, so that the time left can be told."""

    def costs(self, requests: Sequence[Request], sizes: Mapping[str, Size]) -> Sequence[int]:
        """About how many tokens are to be computed for each request, in order; nothing is read or tokenized.

        What requests share counts for the first of them only.  ``sizes`` are those of pictures, by their names, as far
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
    """A backend that can say where a picture lies among others, by the model's own vision encoder."""

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """A unit vector per picture, in order; the same whatever other pictures are asked for with it.

        Raises ``OSError`` for a picture that cannot be read, ``UserError`` where the model has no such encoder.
        """
        ...


@dataclass(frozen=True)
class Preview:
    """What the model would be given for a request: the text as it is tokenized, its length, the pictures' sizes.

    ``tokens`` is None where the text is tokenized elsewhere; ``prompt`` is then what is sent there.
    """

    prompt: str
    tokens: int | None
    frames: tuple[Frame, ...]


@runtime_checkable
class Sees(Protocol):
    """A backend that can say at which size its processor has a picture seen."""

    def frame(self, size: Size) -> Frame:
        """A picture's size, and the encoder's.  Raises ``ValueError`` for a picture that the processor refuses."""
        ...


@runtime_checkable
class Frames(Protocol):
    """A backend factory that can say the same of a checkpoint, without loading weights."""

    def frames(self, checkpoint: Checkpoint) -> Callable[[Size], Frame]:
        """What ``Sees.frame`` is of the opened checkpoint.  Raises ``UserError`` where its processor does not load."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A backend factory that can show requests without loading weights."""

    def preview(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Preview]:
        """A preview per request, in order."""
        ...


@dataclass(frozen=True)
class Check:
    """One thing that was looked at in a checkpoint.

    Attributes:
        ok: None where it was not looked at, and ``said`` is why.
        said: what was found, in a line.
        details: what that line has no room for.
    """

    name: str
    ok: bool | None
    said: str
    details: tuple[str, ...] = ()


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


@dataclass(frozen=True, eq=False)
class Lot:
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


@dataclass(frozen=True)
class Cluster:
    """Where Ray finds workers, and how many.

    Attributes:
        address: of the cluster; None for the one that the environment names, else for one of this machine alone.
        workers: how many; None for as many as there is room for.
        gpus_per_worker: None for 1 where the cluster has GPUs, else 0.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None


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

    def answer(self, lots: Sequence[Lot], stop: Event | None = None) -> Iterator[tuple[Lot, Response | Exception]]:
        """A response to every request of every lot, or one exception for a lot that cannot be answered.

        Once ``stop`` is set, nothing new is begun: what is in work is answered, and the iteration ends early.
        """
        ...

    def drop(self, lot: Lot) -> None:
        """Nothing of ``lot`` is wanted any more."""
        ...

    def close(self) -> object:
        """End the workers."""
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
