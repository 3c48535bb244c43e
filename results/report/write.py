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
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.errors import UserError
from evalkit.results.compare.comparison import Comparison, compare_runs
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import notes as notes_on_scores
from evalkit.results.samples.join import check_runs, split_of
from evalkit.results.samples.selection import subset
from evalkit.results.samples.view import SampleView, SplitContext, SplitView
from evalkit.results.store.files import empty_folder, write_failed
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.tables import Note

from .images import BUDGET, BUDGET_SINGLE, Album, ReportImage, image_notes, side_for
from .page import MARK, asset, page, script, script_json
from .records import image_record, sample_record, split_record
from .summary import breakdowns

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
            for strip in sample.strips:
                album.add(strip, strip.recorded)
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
