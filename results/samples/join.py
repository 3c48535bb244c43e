"""Join the journals and scores of run folders, by sample id, with the task's samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.end_of_turn import ended, first_turn
from evalkit.errors import UserError
from evalkit.jsonl import objects, parse, read_bytes
from evalkit.reasoning import REASONING, Markers, split
from evalkit.results.stats.intervals import scale_of
from evalkit.results.store.journal import Line, read_journal
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.store.verdicts import replies_of
from evalkit.task_groups import MEANS
from evalkit.types import ImageRef, Sample

from .recorded_images import guarded, is_within, recorded_image
from .view import ParseAnswer, RunAnswer, SampleView, SplitContext, SplitView

FIELDS = ("id", "cluster", "stratum", "repeats", "statistics")
"""The keys of a line of per-sample scores that are not scores."""


def check_runs(runs: Sequence[ScoredRun]) -> list[str]:
    """The names of all splits of the runs, in the order of their first appearance.

    Raises:
        UserError: there are none.
    """
    names = list(dict.fromkeys(name for run in runs for name, row in run.rows.items() if row.task not in MEANS))
    if not names:
        raise UserError(f"{' and '.join(str(run.path) for run in runs)}: there is no task with samples.")
    return names


def split_of(runs: Sequence[ScoredRun], name: str, context: SplitContext) -> SplitView:
    """A split of one or more runs.

    Raises:
        UserError: a file of scores is corrupt, or a journal is missing.
    """
    sides = [_RunSplit.of(run, name) if name in run.rows else None for run in runs]
    existing = [side for side in sides if side is not None]
    ids = list(dict.fromkeys(key for side in existing for key in side.ids))
    if context.samples:
        order = {key: place for place, key in enumerate(context.samples)}
        ids.sort(key=lambda key: order.get(key, len(order)))
    metrics = list(dict.fromkeys(side.metric for side in existing if side.metric is not None))
    notes = [context.note] if context.note else []
    notes += [note for side in existing for note in side.notes]
    if context.samples and (lost := [key for key in ids if key not in context.samples]):
        notes.append(f"{len(lost):,} of {len(ids):,} samples are no longer in the data; shown without references.")
    samples = [_sample_view(key, sides, context) for key in ids]
    scale = next((side.scale for side in existing if side.metric is not None), None)
    return SplitView(
        name, context.kind, metrics[0] if metrics else None, scale, samples, context.edit_marks, tuple(notes)
    )


# ---------------------------------------------------------------------------------------------------- one run's answers


@dataclass(frozen=True)
class _RunSplit:
    """A run's journal lines and per-sample scores of a split, by sample id.

    Attributes:
        lines: the first answer to each sample.
        answers: the scored answers to each sample, in order.
        repeats: how many they are.
    """

    metric: str | None
    scale: float | None
    ids: Sequence[str]
    lines: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Sequence[Line]]
    repeats: int
    verdicts: Mapping[str, Mapping[str, str]]
    notes: Sequence[str]

    @classmethod
    def of(cls, run: ScoredRun, name: str) -> _RunSplit:
        row, folder = run.rows[name], RunFolder(run.path)
        answers = read_journal(folder.journal_path(row.task, row.split), run.manifest.schema)
        split = run.manifest.splits.get(name)
        repeats = row.answers_each if row.value is not None or split is None else split.repeats
        each: dict[str, list[Line]] = {}
        for line in answers.lines.values():
            if line.repeat <= repeats:
                each.setdefault(line.response.id, []).append(line)
        for same in each.values():
            same.sort(key=lambda line: line.repeat)
        lines = {key: parse(same[0].raw) for key, same in each.items()}
        notes = []
        if answers.corrupt:
            notes.append(f"{run.name}: {len(answers.corrupt):,} corrupt journal lines are left out.")
        scores: dict[str, Mapping[str, Any]] = {}
        if row.value is not None:
            run.sampled(name)  # raises if the file is corrupt
            path = folder.scores_path(row.task, row.split)
            scores = {str(line["id"]): line for _, line in objects(read_bytes(path, "the scores"), str(path), own=True)}
        # An earlier, larger --limit may have answered more than was scored.
        verdicts = replies_of(folder.verdicts_path(row.task, row.split)) if row.verdicts is not None else {}
        failed = {key for key, same in each.items() if any(line.response.finish == "error" for line in same)}
        # Of the others, the judge gave no verdict.
        ids = list(scores) + [key for key in lines if key not in scores and (key in failed or key in verdicts)]
        metric = _column(row, scores)
        scale = scale_of(row.metric if metric is None else metric, row.signature)
        ids = ids if scores else list(lines)
        return cls(metric, scale, ids, lines, scores, each, repeats, verdicts, tuple(notes))


def _column(row: ScoreRow, scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The per-sample score that stands for the headline: its own, else the first.

    The first also for a weighted sum of means, since a contribution to it does not show whether a sample is right.
    """
    columns = dict.fromkeys(key for line in scores.values() for key in line if key not in FIELDS)
    own = row.metric in columns and (row.aggregation != "weighted" or len(columns) == 1)
    return row.metric if own else next(iter(columns), None)


def _sample_view(key: str, sides: Sequence[_RunSplit | None], context: SplitContext) -> SampleView:
    sample = context.samples.get(key)
    lines = [side.lines[key] for side in sides if side is not None and key in side.lines]
    scores = [side.scores[key] for side in sides if side is not None and key in side.scores]
    images: Sequence[ImageRef] = sample.all_images if sample is not None else _recorded_images(lines)
    digests = _digests(lines[0], len(images)) if lines else ()
    known = digests or (None,) * len(images)
    images = tuple(guarded(image, digest, context.folder) for image, digest in zip(images, known, strict=True))
    videos = () if sample is None else sample.all_videos
    if not all(is_within(video, context.folder) for video in videos):
        videos = ()
    return SampleView(
        id=key,
        question="" if sample is None else sample.text,
        references=() if sample is None else _counted(sample.references),
        options=() if sample is None else sample.option_texts,
        meta={} if sample is None else sample.meta,
        images=images,
        digests=digests,
        cluster=sample.cluster if sample is not None else str(scores[0]["cluster"]) if scores else key,
        answers=tuple(_run_answer(key, place, side, context) for place, side in enumerate(sides)),
        kind=context.kind if sample is None or sample.kind is None else sample.kind,
        videos=videos,
        video_digests=_video_digests(lines[0], len(videos)) if lines else (),
    )


def _run_answer(key: str, place: int, side: _RunSplit | None, context: SplitContext) -> RunAnswer | None:
    if side is None or (key not in side.lines and key not in side.scores):
        return None
    stored, scores, sample = side.answers.get(key, ()), side.scores.get(key, {}), context.samples.get(key)
    parse_answer = context.parse_answer[place] if place < len(context.parse_answer) else None
    markers = context.markers[place] if place < len(context.markers) else REASONING
    if side.repeats == 1 or not stored:
        line = stored[0] if stored else None
        answer = _one_answer(side, side.lines.get(key, {}), line, scores, sample, parse_answer, markers)
        answer = replace(answer, verdicts=side.verdicts.get(key, {}))
        return _with_prompt(answer, place, sample, context)
    own = scores.get("repeats") or [{}] * side.repeats
    each = [
        _one_answer(side, parse(line.raw), line, own[line.repeat - 1], sample, parse_answer, markers) for line in stored
    ]
    return _with_prompt(_summary(each, _numbers(scores), side), place, sample, context)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores in a line of per-sample scores."""
    return {k: float(v) for k, v in scores.items() if k not in FIELDS and v is not None}


def _summary(each: Sequence[RunAnswer], scores: Mapping[str, float], side: _RunSplit) -> RunAnswer:
    """Several answers to a sample as one, with their mean scores."""
    failed = next((one for one in each if one.status == "error"), None)
    prediction = next((one.prediction for one in each if one.prediction is not None), None)
    finish = "error" if failed else "length" if all(one.finish == "length" for one in each) else "stop"
    status = status_of(finish, prediction, scores.get(side.metric or ""), side.scale)
    error = None if failed is None else failed.error
    cut = all(one.truncated for one in each)
    return replace(
        each[0], scores=scores, status=status, finish=finish, error=error, truncated=cut, repeats=tuple(each)
    )  # fmt: skip


def _one_answer(
    side: _RunSplit,
    line: Mapping[str, Any],
    stored: Line | None,
    scores: Mapping[str, Any],
    sample: Sample | None,
    parse_answer: ParseAnswer | None,
    markers: Sequence[Markers],
) -> RunAnswer:
    """One answer to a sample, without its prompt."""
    scored = _numbers(scores)
    finish = str(line.get("finish", "stop"))
    prediction = line.get("answer")
    if parse_answer is not None and sample is not None and stored is not None and finish != "error":
        prediction = parse_answer(sample, stored)
    shots = tuple(map(str, line.get("shots", ())))
    text = str(line.get("text", ""))
    digest = str(line.get("prompt") or "")
    parts = split(first_turn(text), markers, ended=ended(text, finish if digest else None))
    count = line.get("reasoning_tokens")
    return RunAnswer(
        text=text,
        prediction=list(prediction) if isinstance(prediction, tuple) else prediction,
        scores=scored,
        status=status_of(finish, prediction, scored.get(side.metric or ""), side.scale, recorded=bool(line)),
        finish=finish,
        tokens=int(line.get("new_tokens", 0)),
        prompt_tokens=int(line.get("prompt_tokens", 0)),
        seconds=0.0 if stored is None else stored.response.seconds,
        error=None if line.get("error") is None else str(line["error"]),
        prompt=(),
        exact=None,
        shots=shots,
        digest=digest,
        image_sizes=() if stored is None else stored.response.image_sizes,
        video_inputs=() if stored is None else stored.response.video_inputs,
        reasoning=parts.reasoning,
        final=None if parts.rule == "none" else parts.answer.strip(),
        truncated=finish == "length" or not parts.complete,
        reasoning_tokens=count if type(count) is int and count >= 0 else None,
    )


def with_prompts(shown: SampleView, context: SplitContext) -> SampleView:
    """A sample with its prompts, after a ``split_of`` without them (``SplitContext.render_prompt`` empty)."""
    sample = context.samples.get(shown.id)
    answers = [
        None if one is None else _with_prompt(one, place, sample, context) for place, one in enumerate(shown.answers)
    ]
    return replace(shown, answers=tuple(answers))


def _with_prompt(answer: RunAnswer, place: int, sample: Sample | None, context: SplitContext) -> RunAnswer:
    rendered = None
    if sample is not None and place < len(context.render_prompt):
        rendered = context.render_prompt[place](sample, answer.shots, answer.image_sizes)
    if rendered is None:
        return answer
    # The digest covers the few-shot examples too.
    exact = rendered.digest == answer.digest if rendered.has_shots and answer.digest else None
    return replace(answer, prompt=tuple(rendered.turns), exact=exact, prompt_has_shots=rendered.has_shots)


def status_of(finish: str, prediction: Any, score: float | None, scale: float | None, *, recorded: bool = True) -> str:
    """The status of a sample (see ``RunAnswer``); ``recorded``: the journal has its answer."""
    if finish == "error":
        return "error"
    if prediction is None and recorded:
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


def _recorded_images(lines: Sequence[Mapping[str, Any]]) -> tuple[ImageRef, ...]:
    """The question's image, if the journal names one with its digest."""
    for line in lines:
        # The question's images come last, after those of few-shot examples.
        names, digests = line.get("images") or (None,), _digests(line, 1)
        if (image := recorded_image(names[-1], digests[-1])) is not None:
            return (image,)
    return ()


def _video_digests(line: Mapping[str, Any], count: int) -> tuple[str | None, ...]:
    """The digests of the last ``count`` videos, which come after those of images."""
    found = tuple(line.get("digests") or ())
    return found[len(found) - count :] if 0 < count <= min(len(found), len(line.get("videos") or ())) else ()


def _digests(line: Mapping[str, Any], count: int) -> tuple[str | None, ...]:
    """The digests of the last ``count`` images; those of videos come after them."""
    found = tuple(line.get("digests") or ())
    found = found[: len(found) - len(line.get("videos") or ())]
    return found[len(found) - count :] if len(found) >= count else (None,) * count
