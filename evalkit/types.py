"""The values that travel through evalkit: frozen dataclasses (see ``evalkit.interfaces`` for what plugins provide).

Boxes are ``(x1, y1, x2, y2)`` in pixels of the original image everywhere; a model family converts at its own edge.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from evalkit.aggregation import Aggregation, Corpus, Mean

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


Kind = Literal["caption", "vqa", "document", "choice", "grounding"]
"""What is asked for; a family renders a prompt and reads an answer per kind."""

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2), pixels of the original image, x to the right, y down."""

Size = tuple[int, int]
"""(width, height) in pixels."""

FinishReason = Literal["stop", "length", "error"]


class Media(ABC):
    """A reference to something that is not text, such as an image; read late, cheap to hold by the hundred thousand."""

    if TYPE_CHECKING:  # a field or a property of the subclass

        @property
        def name(self) -> str:
            """Where it comes from (a path, or a data set's row), for messages and records."""

    @property
    def key(self) -> str:
        """Cache key: equal for references to the same content.

        Its name by default.  Data sets with a row per question hold an image as often as it is asked about.
        """
        return self.name

    @abstractmethod
    def digest(self) -> str:
        """A digest of the content, independent of its location.  Raises ``OSError`` if it cannot be read."""


class ImageRef(Media):
    """A reference to an image."""

    @abstractmethod
    def size(self) -> Size:
        """(width, height) in pixels, from the header alone.  Raises ``OSError`` if it cannot be read."""

    @abstractmethod
    def load(self) -> PILImage:
        """Decode it to RGB.  Raises ``OSError`` or ``ValueError`` if it cannot be read."""

    def content(self) -> bytes | None:
        """The bytes of its file; None if there is no such file.  Raises ``OSError`` if it cannot be read."""
        return None


def image_key(image: ImageRef) -> str:
    """The image's cache key: equal for references to the same content."""
    return image.key


Part = str | ImageRef
"""A piece of a sample's content: text or an image."""


@dataclass(frozen=True)
class Sample:
    """One question of one benchmark: its images followed by its text, or ``interleaved`` content.

    Attributes:
        id: unique within the task's split, and stable: the official id where there is one.
        images: the question's images, usually one.
        text: the question or referring expression as the files have it; empty for captioning.
        references: what an answer is scored against (ten answers, five captions, one box): the metric knows the type.
        cluster: the unit that is resampled together, usually the image, since its questions are not independent.
        options: the options of a multiple-choice question, in order; texts or images.
        meta: what breakdowns need (answer type, question type).  Never used to score.
        content: texts and images of the question in order, if they are not the images followed by the text.
    """

    id: str
    images: tuple[ImageRef, ...]
    text: str
    references: tuple[Any, ...]
    cluster: str
    options: tuple[Part, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    content: tuple[Part, ...] = ()

    @classmethod
    def interleaved(
        cls,
        id: str,
        content: Sequence[Part],
        *,
        references: tuple[Any, ...],
        cluster: str,
        options: Sequence[Part] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> Sample:
        """A sample whose question mixes texts and images in any order, several images among them.

        ``images`` and ``text`` are taken from ``content``; the text marks the images' places.
        """
        return cls(
            id,
            tuple(part for part in content if not isinstance(part, str)),
            "".join(_marked(content, 1)),
            references,
            cluster,
            tuple(options),
            meta or {},
            tuple(content),
        )

    @property
    def all_images(self) -> tuple[ImageRef, ...]:
        """The images of the question, then those of the options."""
        return (*self.images, *(option for option in self.options if not isinstance(option, str)))

    @property
    def option_texts(self) -> tuple[str, ...]:
        """The options as texts, with a mark in the place of an image: ``⟨image 2⟩`` is the second of ``all_images``."""
        return _marked(self.options, len(self.images) + 1)


def _marked(parts: Iterable[Part], first: int) -> tuple[str, ...]:
    """``parts`` as texts, with a mark in the place of each image; these are numbered from ``first``."""
    numbers = itertools.count(first)
    return tuple(part if isinstance(part, str) else f"⟨image {next(numbers)}⟩" for part in parts)


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt's text, as a protocol has it.

    Attributes:
        text: with the placeholders ``{q}`` (the question or expression as the files have it, with its hint, if any),
            ``{question}`` (without its hint), ``{hint}`` (its hint or ``N/A``), ``{hints}`` (a line ``Hint: …`` or
            nothing) and ``{options}`` (a line ``A. …`` per option).
        max_new_tokens: the protocol's token limit; None for the task's.
        capitalize: whether the question's first letter is upper-cased and *all others lower-cased*
            (``str.capitalize``).
    """

    text: str
    max_new_tokens: int | None = None
    capitalize: bool = False


@dataclass(frozen=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An image inside a message."""

    image: ImageRef


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: its parts in the order that the model sees them.

    The role ``plain`` is raw text without a chat template, for the model to continue; it must be the only message.
    """

    role: Literal["system", "user", "assistant", "plain"]
    content: tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True)
class Decoding:
    """How an answer is generated; greedily by default.

    Attributes:
        temperature: sampling temperature; 0 is greedy.
        top_p: nucleus sampling: the cumulative probability to keep (1: all tokens).
        top_k: the number of most likely tokens to sample from (0: all tokens).
        seed: seed of sampling; each request has its own random stream, derived from the seed and its id.
        num_beams: width of beam search (1: none); cannot be combined with a temperature.
        stop: stop sequences; an answer ends before the first one.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    num_beams: int = 1
    stop: tuple[str, ...] = ()

    def describe(self) -> str:
        """In words, for signatures and readers: ``greedy``, or the fields that differ from it."""
        found = {name: value for name, value in self.to_dict().items() if not name.endswith("new_tokens")}
        if isinstance(found.get("stop"), tuple):
            found["stop"] = ",".join(map(repr, self.stop))
        return ",".join(f"{name}={value}" for name, value in found.items()) or "greedy"

    def to_dict(self) -> dict[str, Any]:
        """The token limits and every field that is not the default."""
        every = asdict(self)
        plain = asdict(Decoding(self.max_new_tokens))
        if self.temperature == 0:
            every["seed"] = plain["seed"]  # has no effect
        limits = ("max_new_tokens", "min_new_tokens")
        return {name: value for name, value in every.items() if name in limits or value != plain[name]}


@dataclass(frozen=True)
class PromptSpec:
    """Which prompt a task gets.

    Attributes:
        task: its name.
        protocol: whose prompts and limits: ``official`` (the family's own), ``lmms-eval`` or ``vlmevalkit``.
        choice: how multiple-choice questions are answered: by writing a letter (``generate``), or by the letter with
            the highest likelihood (``loglikelihood``).
        prompts: other harnesses' prompts for the task, by protocol.
    """

    task: str
    kind: Kind
    protocol: str = "official"
    choice: str = "generate"
    prompts: Mapping[str, PromptTemplate] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Shot:
    """A few-shot example: a sample with its answer as the family would write it."""

    sample: Sample
    answer: str


@dataclass(frozen=True)
class Request:
    """A conversation for a backend to continue.

    With ``continuations``, nothing is generated: the response is the one with the lowest mean cross-entropy per token.
    """

    id: str
    messages: tuple[Message, ...]
    decoding: Decoding
    continuations: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """The images of all messages, in order."""
        return tuple(p.image for m in self.messages for p in m.content if isinstance(p, ImagePart))


@dataclass(frozen=True)
class ImageSize:
    """The size of an image in its file and as resized for the vision encoder, (width, height) in pixels each."""

    original: Size
    resized: Size


@dataclass(frozen=True)
class Response:
    """A backend's answer to the request of the same id.

    Attributes:
        text: the generated text, special tokens kept, the end-of-turn token not.  In records, reasoning that the prompt
            opened begins with its marker (``evalkit.run.raw_answer``).
        tokens: the generated token ids, the end-of-turn token not included.
        finish: ``stop`` (the model ended), ``length`` (truncated at ``max_new_tokens``) or ``error``.
        prompt_tokens: length of the prompt in tokens, visual tokens included.
        image_sizes: the sizes of the request's images, in order.
        error: the reason, if ``finish`` is ``error``.
        seconds: its share of its batch's time.
        prompt_end: the end of the rendered prompt, if reasoning that it may open is continued in ``text``; empty if
            unknown.
    """

    id: str
    text: str = ""
    tokens: tuple[int, ...] = ()
    finish: FinishReason = "stop"
    prompt_tokens: int = 0
    image_sizes: tuple[ImageSize, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    prompt_end: str = ""


@dataclass(frozen=True)
class Prediction:
    """A parsed answer: a text, an option letter or a box; ``value`` is None if the answer could not be parsed."""

    value: str | Box | None

    @property
    def parsed(self) -> bool:
        return self.value is not None


@dataclass(frozen=True)
class Answered:
    """A sample with its prediction; metrics score these."""

    sample: Sample
    prediction: Prediction


@dataclass(frozen=True)
class Scores:
    """A metric's result for a split.

    Attributes:
        headline: the key of ``values`` that the leaderboard shows.
        values: named aggregates, in the unit the field prints (percent for accuracies).
        per_sample: sample id to its scores by column.
        signature: equal for comparable scores, ``name|key:value|…``.
        aggregation: how values come from ``per_sample``, beside what the metric itself declares; default: a value is
            the mean of the column of its name.
    """

    headline: str
    values: Mapping[str, float]
    per_sample: Mapping[str, Mapping[str, float]]
    signature: str
    aggregation: Mapping[str, Aggregation] = field(default_factory=dict)

    def aggregation_of(self, name: str) -> Aggregation:
        """How the value ``name`` comes from the samples: as declared, else the mean of its column, if there is one."""
        if name in self.aggregation:
            return self.aggregation[name]
        columns = next(iter(self.per_sample.values()), {})
        return Mean() if name in columns else Corpus("no per-sample score is declared for it")


@dataclass(frozen=True)
class Split:
    """A split of a task.

    Attributes:
        size: the official number of samples; None if it varies.
        answers: whether references are public; if not, answers are written as a submission and not scored.
    """

    size: int | None
    about: str = ""
    answers: bool = True


@dataclass(frozen=True)
class Batching:
    """How a backend batches requests; answers do not depend on it.

    Attributes:
        size: number of requests per batch; None to choose by the device.
        tokens: number of prompt tokens per prefill batch; None to choose by the device.
        exact: reference mode: batch size 1, no prefix sharing, the model's own ``generate``.
    """

    size: int | None = None
    tokens: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Preview:
    """The input of the model for a request: the text before tokenization, its length in tokens, the images' sizes.

    ``tokens`` is None if a server tokenizes the text.
    """

    prompt: str
    tokens: int | None
    image_sizes: tuple[ImageSize, ...]


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


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster to use.

    Attributes:
        address: of the cluster; None for that of the environment, or else a local one.
        workers: number of workers; None for as many as fit.
        gpus_per_worker: None for 1 if the cluster has GPUs, else 0.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
