"""Input of models: prompts, messages, decoding, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evalkit.reasoning import Markers

from .media import ImageRef, Media
from .messages import ImagePart, Message, VideoPart
from .rules import ReadAnswer
from .samples import Kind, Sample
from .videos import TimeSpan, VideoRef, VideoSampling

if TYPE_CHECKING:
    from evalkit.detections import ReadBoxes
    from evalkit.letters import Reading
    from evalkit.points import PointRule


PLACEHOLDERS = (
    "q", "question", "options", "bracketed_options", "letters", "hint", "hints", "prompt", "preamble"
)  # fmt: skip
"""The placeholders of ``PromptTemplate.text``."""


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt's text, as a protocol has it.

    Attributes:
        text: with the placeholders ``{q}`` (the question or expression as the files have it, with its hint, if any),
            ``{question}`` (without its hint), ``{hint}`` (its hint or ``N/A``), ``{hints}`` (a line ``Hint: …`` or
            nothing), ``{options}`` (a line ``A. …`` per option), ``{bracketed_options}`` (``(A) …``), ``{letters}``
            (``A, B, C``), ``{prompt}`` (the question with its options as the benchmark's files word them) and
            ``{preamble}`` (what the benchmark's scripts put before it, for some questions).
        max_new_tokens: the protocol's token limit; None for the task's.
        capitalize: whether the question's first letter is upper-cased and *all others lower-cased*
            (``str.capitalize``).
        without: a text that is removed from the question, such as an instruction at its end that ``text`` replaces.
        without_options: the text for samples without options, where that differs.
        others: the text for samples of certain kinds, such as those of another kind than the task's (``Sample.kind``);
            what a harness has for the models of a family does not replace it.
        no_options: texts of options that the harness leaves out, since it takes them for missing values.
        images_first: whether the images of interleaved content come first, each once, and the text has the benchmark's
            marks in their places (``meta["marks"]``).
        families: the text for the models of certain families, by name, where that differs; an empty ``text`` leaves the
            other families their own prompts.
    """

    text: str
    max_new_tokens: int | None = None
    capitalize: bool = False
    without: str = ""
    without_options: str | None = None
    others: Mapping[Kind, str] = field(default_factory=dict, hash=False)
    no_options: frozenset[str] = frozenset()
    images_first: bool = False
    families: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class PromptSpec:
    """Which prompt a task gets, and how its answers are parsed.

    Attributes:
        task: its name.
        protocol: whose prompts and limits: ``official`` (the family's own), ``lmms-eval`` or ``vlmevalkit``.
        choice: how multiple-choice questions are answered: by writing a letter (``generate``), or by the letter with
            the highest likelihood (``loglikelihood``).
        prompts: other harnesses' prompts for the task, by protocol.
        reading: the name of the rule that reads option letters, yes and no, points, labelled boxes, or spans of time in
            generated answers; empty for evalkit's own.
        verbatim: whether an answer that is a text keeps its markers (``evalkit.types.ScoringRule``).
        read: that rule (``evalkit.types.ScoringRule``); None for the one that evalkit has under this name.
        given: the user's text for the task's prompts (``PromptTemplate.text``), in place of the protocol's; empty for
            the protocol's.
    """

    task: str
    kind: Kind
    protocol: str = "official"
    choice: str = "generate"
    prompts: Mapping[str, PromptTemplate] = field(default_factory=dict, hash=False)
    reading: str = ""
    read: ReadAnswer | None = None
    verbatim: bool = False
    given: str = ""

    def of(self, sample: Sample) -> PromptSpec:
        """The specification for ``sample``, which may be of another kind than the task."""
        return self if sample.kind is None or sample.kind == self.kind else replace(self, kind=sample.kind)

    def letter(self, text: str, options: Sequence[str | None]) -> Reading:
        """The option letter that a final answer states.

        Args:
            text: the answer without reasoning and special tokens.
            options: the texts of the sample's options; None for one that is an image.
        """
        from evalkit.letters import GRAMMAR, Options, read_letter  # compiling their patterns takes 0.1 s

        if self.read is None:
            return read_letter(text, options, self.reading or GRAMMAR)
        return self.read(text, Options(tuple(options)))

    def yes_no(self, text: str) -> str | None:
        """``yes`` or ``no``, as a final answer says; None if it says neither."""
        from evalkit import yes_no
        from evalkit.letters import Options

        if self.read is None:
            return yes_no.read_yes_no(text, self.reading or yes_no.DEFAULT)
        return self.read(text, Options(())).letter

    @property
    def point_rule(self) -> PointRule:
        """The rule that reads points."""
        from evalkit import points

        return points.point_rule(self.reading or points.DEFAULT)

    @property
    def box_rule(self) -> ReadBoxes:
        """The rule that reads labelled boxes."""
        from evalkit import detections

        return detections.box_rule(self.reading or detections.DEFAULT)

    def span(self, text: str) -> TimeSpan | None:
        """The span of time that a final answer states, in seconds from the beginning of the video; None if none."""
        from evalkit import time_spans

        return time_spans.read_span(text, self.reading or time_spans.DEFAULT)


@dataclass(frozen=True)
class Shot:
    """A few-shot example: a sample with its answer as the family would write it."""

    sample: Sample
    answer: str


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
        presence_penalty: subtracted from the logit of each token that the answer already has (0: none), as OpenAI's
            API and vLLM define it.
        repetition_penalty: divides the positive logits of the tokens that the prompt or the answer already has, and
            multiplies their negative ones (1: none), as transformers and vLLM define it (Keskar et al., 2019, CTRL).
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    num_beams: int = 1
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def has_penalties(self) -> bool:
        """Whether the next token depends on which tokens there were, beyond the model's logits."""
        return self.presence_penalty != 0 or self.repetition_penalty != 1

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
class SamplingPreset:
    """The decoding with which a model is evaluated by its makers, or by a harness.

    Attributes:
        values: of fields of ``Decoding``, by their names.
        source: where they are from.
    """

    values: Mapping[str, float | int]
    source: str


@dataclass(frozen=True)
class Request:
    """A conversation for a backend to continue.

    With ``continuations``, nothing is generated: the response is the one with the lowest mean cross-entropy per token.

    Attributes:
        markers: the markers of the reasoning in answers (``Family.reasoning``); empty for those that are known
            (``evalkit.reasoning.REASONING``).
        thinking: what the chat template is told of thinking; None for nothing.
        video_sampling: the rule by which frames of its videos are chosen; None if it has no video.
        times: whether the answer states times of a video, so that the model has to be told those of frames.
    """

    id: str
    messages: tuple[Message, ...]
    decoding: Decoding
    continuations: tuple[str, ...] = ()
    markers: tuple[Markers, ...] = ()
    thinking: bool | None = None
    video_sampling: VideoSampling | None = None
    times: bool = False

    @property
    def videos(self) -> tuple[VideoRef, ...]:
        """The videos of all messages, in order."""
        return tuple(p.video for m in self.messages for p in m.content if isinstance(p, VideoPart))

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """The images of all messages, in order."""
        return tuple(p.image for m in self.messages for p in m.content if isinstance(p, ImagePart))

    @property
    def media(self) -> tuple[Media, ...]:
        """The images of all messages, then the videos."""
        return (*self.images, *self.videos)
