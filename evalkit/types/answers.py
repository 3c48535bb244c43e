"""What comes back: responses, predictions, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalkit.aggregation import Aggregation, Corpus, Mean

from .media import Size
from .samples import Box, LabelledBoxes, Point, Sample
from .videos import TimeSpan, VideoInput

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The size of an image in its file and as resized for the vision encoder, (width, height) in pixels each."""

    original: Size
    resized: Size


@dataclass(frozen=True, slots=True)
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
        counted: the number of generated tokens, where their ids are not known.
        reasoning_tokens: how many of the generated tokens are reasoning, markers included; None if unknown.
        video_inputs: how the request's videos were shown to the model, in order.
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
    counted: int = 0
    reasoning_tokens: int | None = None
    video_inputs: tuple[VideoInput, ...] = ()

    @property
    def new_tokens(self) -> int:
        """The number of generated tokens; 0 if unknown."""
        return len(self.tokens) or self.counted


@dataclass(frozen=True, slots=True)
class Prediction:
    """A parsed answer: a text, an option letter, a box, a point, labelled boxes or a time span.

    Its value is None if the answer could not be parsed.
    """

    value: str | Box | Point | LabelledBoxes | TimeSpan | None

    @property
    def parsed(self) -> bool:
        return self.value is not None


@dataclass(frozen=True, slots=True)
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
        aggregation: how values come from ``per_sample``, in addition to the metric's own declaration; default: a value
            is the mean of the column of its name.
        notes: sentences that a reader of the scores needs, such as why one is 0.
    """

    headline: str
    values: Mapping[str, float]
    per_sample: Mapping[str, Mapping[str, float]]
    signature: str
    aggregation: Mapping[str, Aggregation] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def aggregation_of(self, name: str) -> Aggregation:
        """How the value ``name`` comes from the samples: as declared, else the mean of its column, if there is one."""
        if name in self.aggregation:
            return self.aggregation[name]
        columns = next(iter(self.per_sample.values()), {})
        return Mean() if name in columns else Corpus("no per-sample score is declared for it")
