"""Views of single samples: journals and scores of the run folders, joined by id with the task's samples.

A run folder has answers and scores, but no questions, references or images.  Those come from the task
(``SplitContext``); without them a view has only what the run folder has.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.jsonl import objects, parse, read_bytes
from evalkit.results.stats.intervals import scale_of
from evalkit.results.store.journal import Line, read_journal
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.task_groups import MEANS
from evalkit.types import ImageRef, ImageSize, Sample

T = TypeVar("T")

Turns = Sequence[tuple[str, str]]
"""A prompt: (role, text) per message; images are ⟨image⟩ in the text."""

FIELDS = ("id", "cluster", "stratum")
"""The keys of a line of per-sample scores that are no scores."""


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as it is rendered today, with its digest, which the journal's digest is compared with.

    ``whole`` is False if its few-shot examples are not available.
    """

    turns: Turns
    digest: str
    whole: bool = True


RenderPrompt = Callable[[Sample, Sequence[str], Sequence[ImageSize]], RenderedPrompt | None]
"""(sample, ids of its few-shot examples, sizes of all images of the request) → its prompt."""


@dataclass(frozen=True)
class SplitContext:
    """What the run folders do not have of a split.

    Attributes:
        kind: of the task; None if the task is no longer installed.
        samples: by id; empty if the data is no longer available, and ``note`` then says why.
        asks: per run, renders a sample's prompt, or returns None.
        reads: per run, parses an answer (sample, text, image sizes) as today; None for a run that was not rescored,
            whose journal has the predictions.
        edits: whether answers are compared with references character by character.
    """

    kind: str | None = None
    samples: Mapping[str, Sample] = field(default_factory=dict)
    asks: Sequence[RenderPrompt] = ()
    reads: Sequence[Callable[[Sample, str, Sequence[ImageSize]], Any] | None] = ()
    edits: bool = False
    note: str = ""


@dataclass(frozen=True)
class RunAnswer:
    """One run's answer to a sample.

    Attributes:
        prediction: a text, a box (x1, y1, x2, y2) in pixels, or None if the answer could not be parsed.
        scores: all values of the sample, in the metric's unit; empty without a score.
        status: ``right`` (full score), ``partly``, ``wrong`` (score 0), ``scored`` (an unbounded scale),
            ``unscored``, ``unparsed`` or ``error``.
        exact: whether ``prompt`` is exactly the prompt of the run; None if unknown.
        whole: whether ``prompt`` has the few-shot examples.
        digest: of the run's prompt; empty if unknown.
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
    whole: bool = True
    digest: str = ""
    image_sizes: Sequence[ImageSize] = ()


@dataclass(frozen=True)
class SampleView:
    """A sample with the answer of each run; None for a run that did not answer it."""

    id: str
    question: str
    references: Sequence[tuple[Any, int]]
    options: Sequence[str]
    meta: Mapping[str, Any]
    images: Sequence[ImageRef]
    digests: Sequence[str | None]
    cluster: str
    answers: Sequence[RunAnswer | None]


@dataclass(frozen=True)
class SplitView:
    """A split's samples, in the official order if that is known; ``metric`` is the column of the headline.

    ``scale`` is the upper end of its scale, which begins at 0; None if it has none.
    """

    name: str
    kind: str | None
    metric: str | None
    scale: float | None
    samples: Sequence[SampleView]
    edits: bool
    notes: Sequence[str]

    @property
    def column(self) -> str | None:
        """The most informative column: the IoU behind acc@0.5, else the headline's."""
        if self.metric is not None and self.metric.startswith("acc@"):
            first = next((t for s in self.samples for t in s.answers if t is not None and t.scores), None)
            if first is not None and "iou" in first.scores:
                return "iou"
        return self.metric


def split_of(runs: Sequence[ScoredRun], name: str, known: SplitContext) -> SplitView:
    """A split of one or more runs.

    Raises:
        UserError: a file of scores is corrupt, or a journal is missing.
    """
    sides = [_Side.of(run, name) if name in run.rows else None for run in runs]
    there = [side for side in sides if side is not None]
    ids = list(dict.fromkeys(key for side in there for key in side.ids))
    if known.samples:
        order = {key: place for place, key in enumerate(known.samples)}
        ids.sort(key=lambda key: order.get(key, len(order)))
    metrics = list(dict.fromkeys(side.metric for side in there if side.metric is not None))
    notes = [known.note] if known.note else []
    notes += [note for side in there for note in side.notes]
    if known.samples and (lost := [key for key in ids if key not in known.samples]):
        notes.append(f"{len(lost):,} of {len(ids):,} samples are no longer in the data; shown without references.")
    samples = [_shown(key, sides, known) for key in ids]
    scale = next((side.scale for side in there if side.metric is not None), None)
    return SplitView(name, known.kind, metrics[0] if metrics else None, scale, samples, known.edits, tuple(notes))


def drawn(samples: Sequence[SampleView], most: int | None) -> list[SampleView]:
    """At most ``most`` samples, drawn by the hash of their ids (the same ones for every run), in their order."""
    return list(samples) if most is None else hashed(samples, lambda shown: shown.id, most)


def hashed(some: Sequence[T], key: Callable[[T], str], most: int) -> list[T]:
    """At most ``most`` items, drawn by the hash of their ``key``, in their order."""
    if len(some) <= most:
        return list(some)
    first = sorted(map(key, some), key=lambda name: hashlib.blake2b(_bytes(name), digest_size=8).digest())[:most]
    kept = set(first)
    return [one for one in some if key(one) in kept]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


# ---------------------------------------------------------------------------------------------------- one run's answers


@dataclass(frozen=True)
class _Side:
    """A run's journal lines and per-sample scores of a split, by sample id."""

    metric: str | None
    scale: float | None
    ids: Sequence[str]
    lines: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Line]
    notes: Sequence[str]

    @classmethod
    def of(cls, run: ScoredRun, name: str) -> _Side:
        row, folder = run.rows[name], RunFolder(run.path)
        answers = read_journal(folder.journal_path(row.task, row.split), run.manifest.schema)
        lines = {key: parse(line.raw) for key, line in answers.lines.items()}
        notes = []
        if answers.corrupt:
            notes.append(f"{run.name}: {len(answers.corrupt):,} corrupt journal lines are left out.")
        scores: dict[str, Mapping[str, Any]] = {}
        if row.value is not None:
            run.sampled(name)  # raises if the file is corrupt
            path = folder.scores_path(row.task, row.split)
            scores = {str(line["id"]): line for _, line in objects(read_bytes(path, "the scores"), str(path), own=True)}
        # An earlier, larger --limit may have answered more than was scored.
        ids = list(scores) + [key for key, line in lines.items() if line["finish"] == "error" and key not in scores]
        metric = _column(row.metric, scores)
        scale = scale_of(row.metric, row.signature)
        return cls(metric, scale, ids if scores else list(lines), lines, scores, answers.lines, tuple(notes))


def _column(headline: str, scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The per-sample score that stands for the headline: its own, else (for a score of the corpus) the first."""
    columns = dict.fromkeys(key for row in scores.values() for key in row if key not in FIELDS)
    return headline if headline in columns else next(iter(columns), None)


def _shown(key: str, sides: Sequence[_Side | None], known: SplitContext) -> SampleView:
    sample = known.samples.get(key)
    lines = [side.lines[key] for side in sides if side is not None and key in side.lines]
    scores = [side.scores[key] for side in sides if side is not None and key in side.scores]
    images = sample.all_images if sample is not None else _on_disk(lines)
    digests = _digests(lines[0], len(images)) if lines else ()
    return SampleView(
        id=key,
        question="" if sample is None else sample.text,
        references=() if sample is None else _counted(sample.references),
        options=() if sample is None else sample.option_texts,
        meta={} if sample is None else sample.meta,
        images=images,
        digests=digests,
        cluster=sample.cluster if sample is not None else str(scores[0]["cluster"]) if scores else key,
        answers=tuple(_run_answer(key, place, side, known) for place, side in enumerate(sides)),
    )


def _run_answer(key: str, place: int, side: _Side | None, known: SplitContext) -> RunAnswer | None:
    if side is None or (key not in side.lines and key not in side.scores):
        return None
    line: Mapping[str, Any] = side.lines.get(key, {})
    scored = {k: float(v) for k, v in side.scores.get(key, {}).items() if k not in FIELDS and v is not None}
    sample, stored = known.samples.get(key), side.answers.get(key)
    finish = str(line.get("finish", "stop"))
    read = line.get("answer")
    again = known.reads[place] if place < len(known.reads) else None
    if again is not None and sample is not None and stored is not None and finish != "error":
        read = again(sample, stored.response.text, stored.response.image_sizes)
    shots = tuple(map(str, line.get("shots", ())))
    answer = RunAnswer(
        text=str(line.get("text", "")),
        prediction=list(read) if isinstance(read, tuple) else read,
        scores=scored,
        status=status_of(finish, read, scored.get(side.metric or ""), side.scale, recorded=bool(line)),
        finish=finish,
        tokens=int(line.get("new_tokens", 0)),
        prompt_tokens=int(line.get("prompt_tokens", 0)),
        seconds=0.0 if stored is None else stored.response.seconds,
        error=None if line.get("error") is None else str(line["error"]),
        prompt=(),
        exact=None,
        shots=shots,
        digest=str(line.get("prompt") or ""),
        image_sizes=() if stored is None else stored.response.image_sizes,
    )
    return _asked(answer, place, sample, known)


def with_prompts(shown: SampleView, known: SplitContext) -> SampleView:
    """A sample with its prompts, after a ``split_of`` without them (``SplitContext.asks`` empty)."""
    sample = known.samples.get(shown.id)
    answer = (None if one is None else _asked(one, place, sample, known) for place, one in enumerate(shown.answers))
    return replace(shown, answers=tuple(answer))


def _asked(answer: RunAnswer, place: int, sample: Sample | None, known: SplitContext) -> RunAnswer:
    asked = None
    if sample is not None and place < len(known.asks):
        asked = known.asks[place](sample, answer.shots, answer.image_sizes)
    if asked is None:
        return answer
    # The digest covers the few-shot examples too.
    exact = asked.digest == answer.digest if asked.whole and answer.digest else None
    return replace(answer, prompt=tuple(asked.turns), exact=exact, whole=asked.whole)


def status_of(finish: str, read: Any, score: float | None, scale: float | None, *, recorded: bool = True) -> str:
    """The status of a sample (see ``RunAnswer``); ``recorded``: the journal has its answer."""
    if finish == "error":
        return "error"
    if read is None and recorded:
        return "unparsed"
    if score is None:
        return "unscored"
    if scale is None:
        return "scored"
    return "right" if score >= scale else "wrong" if score <= 0 else "partly"


def _counted(references: Sequence[Any]) -> tuple[tuple[Any, int], ...]:
    """Each reference once, with its count, the most frequent first; boxes as lists."""
    if all(isinstance(reference, str) for reference in references):
        return tuple(Counter(references).most_common())
    return tuple((list(r) if isinstance(r, tuple | list) else r, 1) for r in references)


def _on_disk(lines: Sequence[Mapping[str, Any]]) -> tuple[ImageRef, ...]:
    """The question's image, if the journal names an existing file."""
    for line in lines:
        names = line.get("images") or ()
        # The question's images come last, after those of few-shot examples.
        if names and isinstance(names[-1], str) and "\0" not in names[-1] and os.path.isfile(names[-1]):  # noqa: PTH113
            return (PathImage(names[-1]),)
    return ()


def _digests(line: Mapping[str, Any], count: int) -> tuple[str | None, ...]:
    found = tuple(line.get("digests") or ())
    return found[len(found) - count :] if len(found) >= count else (None,) * count


def check_runs(runs: Sequence[ScoredRun]) -> list[str]:
    """The names of all splits of the runs, in the order of their first appearance.

    Raises:
        UserError: there are none.
    """
    names = list(dict.fromkeys(name for run in runs for name, row in run.rows.items() if row.task not in MEANS))
    if not names:
        raise UserError(f"{' and '.join(str(run.path) for run in runs)}: no task to report on.")
    return names
