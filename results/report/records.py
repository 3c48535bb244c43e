"""The records of images, splits, samples and answers in a report's data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from evalkit.results.leaderboard.rows import Entry
from evalkit.results.samples.film_strip import GAP, FilmStrip, span_text
from evalkit.results.samples.records import is_span
from evalkit.results.samples.values import spans_of
from evalkit.results.samples.view import RunAnswer, SampleView, SplitView
from evalkit.results.store.scored_run import ScoredRun

from .images import Album, ReportImage
from .summary import Breakdown, histogram


def image_record(one: ReportImage) -> list[Any]:
    """[name, width, height, problem or an empty text]."""
    width, height = one.size or (0, 0)
    problem = one.problem or ("not the image that the run used" if one.changed else "")
    return [one.name, width, height, problem]


def split_record(
    split: SplitView, samples: int, chunks: int, details: Sequence[Breakdown], runs: Sequence[ScoredRun]
) -> dict[str, Any]:
    """The record of a split in the page, without its samples."""
    rows = [run.rows.get(split.name) for run in runs]
    cells = ["" if row is None else Entry("", "", row).cell for row in rows]
    return {
        "name": split.name,
        "kind": split.kind,
        "metric": split.metric,
        "column": split.column,
        "editMarks": split.edit_marks,
        "cells": cells,
        "samples": samples,
        "of": len(split.samples),
        "chunks": chunks,
        "bins": [
            {"label": b.label, "low": b.low, "high": b.high if math.isfinite(b.high) else None, "counts": b.counts}
            for b in histogram(split, len(runs))
        ],
        "breakdowns": [
            {
                "title": one.title,
                "rows": [
                    {"label": label, "means": [[m.n, m.mean, m.low, m.high] for m in means]}
                    for label, means in one.rows
                ],
            }
            for one in details
        ],
    }


def sample_record(sample: SampleView, album: Album, details: Sequence[Breakdown]) -> dict[str, Any]:
    """The record of a sample in the page's data."""
    return {
        "id": sample.id,
        "question": sample.question,
        "references": [[_place(value, sample), count] for value, count in sample.references],
        "options": list(sample.options),
        "meta": {str(key): _plain(value) for key, value in sample.meta.items()},
        "images": [album.numbers[image.name] for image in sample.images],
        **({"strips": [strip_record(strip, album) for strip in sample.strips]} if sample.strips else {}),
        **({"spans": [list(pair) for pair in spans]} if (spans := spans_of(sample)) else {}),
        "groups": [one.of[sample.id] for one in details],
        "runs": [None if answer is None else answer_record(answer, sample) for answer in sample.answers],
    }


def strip_record(strip: FilmStrip, album: Album) -> dict[str, Any]:
    """The record of the frames of a video: their image, the size of its cells and the times in seconds."""
    selection = strip.seen.selection
    return {
        "image": album.numbers[strip.name],
        "video": "/".join(PurePath(strip.video.name).parts[-2:]),
        "cell": [side + GAP for side in strip.shown.size],
        "columns": strip.columns,
        "times": [round(time, 3) for time in strip.shown.timestamps],
        "seen": len(selection.indices),
        "size": list(selection.size),
        "sampling": strip.seen.sampling,
        "decoder": strip.seen.decoder,
        "start": strip.video.start or 0.0,
        "duration": round(strip.duration, 3),
    }


def _place(value: Any, sample: SampleView) -> Any:
    """A reference or a prediction for the page: a span of time as a text, since two numbers are a point there."""
    return span_text(value) if is_span(value, sample.kind) else value


def answer_record(answer: RunAnswer, sample: SampleView) -> dict[str, Any]:
    """The record of one run's answer to a sample in the page's data."""
    return {
        "text": answer.text,
        "prediction": _place(answer.prediction, sample),
        "scores": {name: round(value, 4) for name, value in answer.scores.items() if math.isfinite(value)},
        "status": answer.status,
        "finish": answer.finish,
        "truncated": answer.truncated,
        "reasoning": answer.reasoning,
        "final": answer.final,
        "reasoningTokens": answer.reasoning_tokens,
        "tokens": answer.tokens,
        "promptTokens": answer.prompt_tokens,
        "seconds": round(answer.seconds, 3),
        "error": answer.error,
        "prompt": [list(turn) for turn in answer.prompt],
        "exact": answer.exact,
        "promptHasShots": answer.prompt_has_shots,
        "shots": list(answer.shots),
        **({"repeats": [answer_record(one, sample) for one in answer.repeats]} if answer.repeats else {}),
    }


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
