"""``evalkit report``: static pages with the images and answers of every sample.

report/
    index.html               scores, intervals, signatures; opens in a browser without server or network
    report.css, report.js
    data/                    the samples as scripts: a page opened from disk cannot fetch other files
    images/                  each image once, reduced

With ``single``, all of it is one file.
"""

from __future__ import annotations

import base64
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.results.compare.comparison import Comparison, compare_runs
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import notes as notes_on_scores
from evalkit.results.samples.join import check_runs, split_of
from evalkit.results.samples.selection import subset
from evalkit.results.samples.view import RunAnswer, SampleView, SplitContext, SplitView
from evalkit.results.store.files import empty_folder, write_failed
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.tables import Note

from .images import BUDGET, BUDGET_SINGLE, Album, ReportImage, image_notes, side_for
from .page import MARK, asset, page, script, script_json
from .summary import Breakdown, breakdowns, histogram

CHUNK = 500
"""Samples per script; the first page of a gallery loads one script."""
MOST = 5000
"""Samples shown per split by default; scores and histograms cover all."""
PAGE = "index.html"
WRITTEN = (PAGE, "report.css", "report.js", "data", "images")


@dataclass(frozen=True)
class Written:
    """A written report: its path, numbers of samples and images, size in bytes, and notes for the reader."""

    path: Path
    samples: int
    images: int
    bytes: int
    notes: Sequence[str]


def write_report(
    paths: Sequence[Path],
    contexts: Mapping[str, SplitContext],
    out: Path,
    *,
    single: bool = False,
    most: int | None = MOST,
    side: int | None = None,
) -> Written:
    """Write a report on one run, or on two runs side by side.

    Args:
        contexts: by split, what run folders do not contain.
        most: the maximum number of samples per split in the gallery; None for all.
        side: the longer side of images, in pixels; None for a size that keeps the report small.

    Raises:
        UserError: a run has no scores or is corrupt, the runs share no task, or ``out`` exists and is not a report.
        RunFailed: the report cannot be written.
    """
    runs = [ScoredRun.open(path) for path in paths]
    names = check_runs(runs)
    _check_target(out, single)
    found = compare_runs(paths) if len(runs) > 1 else None
    splits = [split_of(runs, name, contexts.get(name, SplitContext())) for name in names]
    building = out.with_name(f".{out.name}.building")
    try:
        (empty_folder(building) / "images").mkdir()
        (building / "data").mkdir()
        written = _build(runs, splits, found, building, single=single, most=most, side=side)
        _replace(building, out, single)
    except OSError as error:
        raise write_failed(out, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    files = [out] if single else [f for name in WRITTEN for f in [out / name, *(out / name).rglob("*")] if f.is_file()]
    return replace(written, path=out if single else out / PAGE, bytes=sum(f.stat().st_size for f in files))


def _check_target(out: Path, single: bool) -> None:
    """Raise ``UserError`` if ``out`` exists and is not a report."""
    if single and out.is_dir():
        raise UserError(
            f"--out {out} is a folder; with --single-file give a file's name, for example {out}/report.html."
        )
    if not single and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder, or --single-file.")
    path = out if single else out / PAGE
    if path.is_file() and MARK.encode() not in path.read_bytes()[:2000]:
        raise UserError(f"{path} exists and is not a report written by evalkit; give another --out, or delete it.")
    if not single and out.is_dir() and not path.is_file() and any(out.iterdir()):
        raise UserError(f"--out {out} contains other files; give an empty or new folder.")


def _replace(building: Path, out: Path, single: bool) -> None:
    """Replace the report at ``out`` by the one in ``building``; other files in the folder stay.

    The page, by which a report is recognised, comes first, and a file is replaced at once: whenever the process is
    killed, the same command takes the folder again.
    """
    if single:
        (building / PAGE).replace(out)
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        if (building / name).is_dir() or (out / name).is_dir():
            shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
        (building / name).replace(out / name)


# --------------------------------------------------------------------------------------------------------------- build


def _build(
    runs: Sequence[ScoredRun],
    splits: Sequence[SplitView],
    found: Comparison | None,
    folder: Path,
    *,
    single: bool,
    most: int | None,
    side: int | None,
) -> Written:
    album = Album()
    shown = [subset(split.samples, most) for split in splits]
    for samples in shown:
        for sample in samples:
            for image, digest in zip(sample.images, sample.digests or (None,) * len(sample.images), strict=True):
                album.add(image, digest)
    inline: dict[str, str] = {}

    def store(number: int, content: bytes) -> None:
        if single:
            inline[f"image-{number}"] = base64.b64encode(content).decode()
        else:
            (folder / "images" / f"{number}.webp").write_bytes(content)

    side = side or side_for(len(album.references), BUDGET_SINGLE if single else BUDGET)
    made = album.make(side, store)
    described = []
    for place, (split, samples) in enumerate(zip(splits, shown, strict=True)):
        details = breakdowns(split, len(runs))
        chunks = 0
        for chunks, some in enumerate(_chunks(samples), start=1):
            text = script_json([sample_record(sample, album, details) for sample in some])
            key = f"data-{place}-{chunks - 1}"
            if single:
                inline[key] = text
            else:
                body = f'evalkitReport("{place}-{chunks - 1}", {text});\n'
                (folder / "data" / f"{place}-{chunks - 1}.js").write_text(body, "utf-8", errors="replace")
        described.append(split_record(split, len(samples), chunks, details, runs))
    notes = _notes(runs, splits, shown, made)
    index = {
        "single": single,
        "runs": [run.model for run in runs],
        "splits": described,
        "images": [image_record(one) for one in made],
    }
    with (folder / PAGE).open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(page(runs, [split.name for split in splits], found, notes, index, inline if single else None))
    if not single:
        (folder / "report.css").write_text(asset("report.css"), "utf-8")
        (folder / "report.js").write_text(script(), "utf-8")
    good = sum(not one.problem for one in made)
    return Written(folder, sum(map(len, shown)), good, 0, [*_shortcomings(splits, shown), *image_notes(made)])


def _chunks(samples: Sequence[SampleView]) -> Iterator[Sequence[SampleView]]:
    for start in range(0, len(samples), CHUNK):
        yield samples[start : start + CHUNK]


def _notes(
    runs: Sequence[ScoredRun],
    splits: Sequence[SplitView],
    shown: Sequence[Sequence[SampleView]],
    made: Sequence[ReportImage],
) -> list[str]:
    notes = []
    for run in runs:  # notes on several runs together are in the comparison
        entries = [Entry(run.name, run.model, row) for row in run.rows.values()]
        notes += [note for note in notes_on_scores(entries) if not (isinstance(note, Note) and not note.sentence)]
    return [*dict.fromkeys(notes), *_shortcomings(splits, shown), *image_notes(made)]


def _shortcomings(splits: Sequence[SplitView], shown: Sequence[Sequence[SampleView]]) -> list[str]:
    """What the report does not show, and why; a note on several splits is listed once."""
    names_of: dict[str, list[str]] = {}
    for split, samples in zip(splits, shown, strict=True):
        notes = list(split.notes)
        if len(samples) < len(split.samples):
            notes.append(
                f"{len(samples):,} of {len(split.samples):,} samples are in the gallery, chosen by hash of the "
                "id; scores, histograms and breakdowns cover all (--samples shows more)."
            )
        for note in notes:
            names_of.setdefault(note, []).append(split.name)
    return [f"{', '.join(names)}: {note}" for note, names in names_of.items()]


# -------------------------------------------------------------------------------------------------------- JSON records


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
        "references": [list(pair) for pair in sample.references],
        "options": list(sample.options),
        "meta": {str(key): _plain(value) for key, value in sample.meta.items()},
        "images": [album.numbers[image.name] for image in sample.images],
        "groups": [one.of[sample.id] for one in details],
        "runs": [None if answer is None else answer_record(answer) for answer in sample.answers],
    }


def answer_record(answer: RunAnswer) -> dict[str, Any]:
    """The record of one run's answer to a sample in the page's data."""
    return {
        "text": answer.text,
        "prediction": answer.prediction,
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
        **({"repeats": [answer_record(one) for one in answer.repeats]} if answer.repeats else {}),
    }


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
