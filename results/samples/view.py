"""Views of single samples: a sample with the answers and scores of one or more runs.

``join.py`` makes them from run folders, which have answers and scores, and from a ``SplitContext``, which has the
questions, references and images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.reasoning import Markers
from evalkit.results.store.journal import Line
from evalkit.types import ImageRef, ImageSize, Sample, VideoInput, VideoRef

from .film_strip import FilmStrip, film_strip

Turns = Sequence[tuple[str, str]]
"""A prompt: (role, text) per message; images are ⟨image⟩ in the text."""


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as today's code renders it.

    Attributes:
        digest: compared with the digest in the journal.
        has_shots: False if its few-shot examples are no longer available.
    """

    turns: Turns
    digest: str
    has_shots: bool = True


RenderPrompt = Callable[[Sample, Sequence[str], Sequence[ImageSize]], RenderedPrompt | None]
"""(sample, ids of its few-shot examples, sizes of all images of the request) → its prompt, or None."""

ParseAnswer = Callable[[Sample, Line], Any]
"""(sample, its line in the journal) → the prediction, None if it cannot be parsed."""


@dataclass(frozen=True)
class SplitContext:
    """What run folders do not contain: a split's samples, and how prompts are rendered and answers parsed.

    Attributes:
        kind: of the task; None if the task is no longer installed.
        samples: by id; empty if the data is no longer available, and ``note`` then says why.
        render_prompt: per run; without prompts if empty.
        markers: per run, those of reasoning in its answers; the known ones if empty.
        parse_answer: per run; None for a run whose journal has the predictions that were scored.
        edit_marks: whether the report marks the differences between an answer and the nearest reference.
        folder: of the task file that the run folder names; its images elsewhere are shown only if they are those of the
            run.  None for other tasks, and for data that the command names.
    """

    kind: str | None = None
    samples: Mapping[str, Sample] = field(default_factory=dict)
    render_prompt: Sequence[RenderPrompt] = ()
    parse_answer: Sequence[ParseAnswer | None] = ()
    markers: Sequence[Sequence[Markers]] = ()
    edit_marks: bool = False
    note: str = ""
    folder: Path | None = None


@dataclass(frozen=True)
class RunAnswer:
    """One run's answer to a sample.

    Attributes:
        prediction: a text, a box (x1, y1, x2, y2) in pixels, or None if the answer could not be parsed.
        scores: all values of the sample, in the metric's unit; empty without a score.
        status: ``right`` (full score), ``partly``, ``wrong`` (score 0), ``scored`` (an unbounded scale),
            ``unscored``, ``unparsed`` or ``error``.
        exact: whether ``prompt`` is exactly the prompt of the run; None if unknown.
        prompt_has_shots: whether ``prompt`` includes the few-shot examples.
        digest: of the run's prompt; empty if unknown.
        reasoning: the reasoning in ``text``; empty if there is none.
        final: the final answer after it; None if ``text`` has no reasoning.
        truncated: whether the token limit cut the answer off, or its reasoning does not end.
        reasoning_tokens: the number of tokens of the reasoning; None if unknown.
        verdicts: a judge's replies by question.
        video_inputs: how the videos of the request were shown to the model, the question's last.
        repeats: with several answers to the sample, each of them; this is then their summary: the first one's text and
            prediction, with the mean scores.
    """

    text: str
    prediction: Any
    scores: Mapping[str, float]
    status: str
    finish: str
    tokens: int
    prompt_tokens: int
    seconds: float
    error: str | None
    prompt: Turns
    exact: bool | None
    shots: Sequence[str]
    prompt_has_shots: bool = True
    digest: str = ""
    image_sizes: Sequence[ImageSize] = ()
    reasoning: str = ""
    final: str | None = None
    truncated: bool = False
    reasoning_tokens: int | None = None
    verdicts: Mapping[str, str] = field(default_factory=dict)
    video_inputs: Sequence[VideoInput] = ()
    repeats: Sequence[RunAnswer] = ()

    @property
    def each(self) -> Sequence[RunAnswer]:
        """The single answers."""
        return self.repeats or (self,)


@dataclass(frozen=True)
class SampleView:
    """A sample with the answer of each run; None for a run that did not answer it.

    Attributes:
        kind: what it asks for; None if unknown.
        videos: those of the question.
        video_digests: of these in the run; None for an unknown one.
    """

    id: str
    question: str
    references: Sequence[tuple[Any, int]]
    options: Sequence[str]
    meta: Mapping[str, Any]
    images: Sequence[ImageRef]
    digests: Sequence[str | None]
    cluster: str
    answers: Sequence[RunAnswer | None]
    kind: str | None = None
    videos: Sequence[VideoRef] = ()
    video_digests: Sequence[str | None] = ()

    @property
    def strips(self) -> Sequence[FilmStrip]:
        """The frames of its videos that the model saw: in the first run that recorded them."""
        count = len(self.videos)
        inputs = next((one.video_inputs for one in self.answers if one and len(one.video_inputs) >= count), ())
        seen = inputs[len(inputs) - count :]
        digests = self.video_digests or (None,) * count
        found = map(film_strip, self.videos, seen, digests)
        return [strip for strip in found if strip is not None]


@dataclass(frozen=True)
class SplitView:
    """A split's samples with the answers of each run.

    Attributes:
        metric: the column of the headline metric.
        scale: the upper end of its scale, which begins at 0; None if it has none.
        samples: in the official order, if that is known.
        edit_marks: see ``SplitContext``.
    """

    name: str
    kind: str | None
    metric: str | None
    scale: float | None
    samples: Sequence[SampleView]
    edit_marks: bool
    notes: Sequence[str]

    @property
    def column(self) -> str | None:
        """The most informative column: the IoU behind acc@0.5, else the headline's."""
        if self.metric is not None and self.metric.startswith("acc@"):
            first = next((t for s in self.samples for t in s.answers if t is not None and t.scores), None)
            if first is not None and "iou" in first.scores:
                return "iou"
        return self.metric
