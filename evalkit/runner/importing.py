"""What ``evalkit import`` does, usable without a terminal: other harnesses' results become run folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit.console import new_console
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.importing.differences import Compared, by_sample, compare_sample, outside
from evalkit.importing.discover import Reading, Source, find_sources, pair
from evalkit.importing.foreign import ForeignResults
from evalkit.importing.ids import Joined, join
from evalkit.interfaces import Task
from evalkit.interfaces.task import READINGS
from evalkit.jobs import Job, Record, check_repeatable, load_job
from evalkit.logs import quiet_logging
from evalkit.matching import match
from evalkit.paths import user_path
from evalkit.predictions import PredictionLine
from evalkit.reader import failed
from evalkit.results.leaderboard import table as board
from evalkit.results.store.files import to_json, write_atomically
from evalkit.results.store.journal import appending
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter
from evalkit.results.store.signature import IMPORTED
from evalkit.scoring import Result, check_scorable, score_job
from evalkit.settings import Effective
from evalkit.task_names import parse_tasks
from evalkit.types import LOCATED

from .finish import report_end, write_scores
from .manifest import announce, logging_to, recording
from .recorded import without
from .score import ScorePlan, data_of, file_digest, make_manifest, notes_of
from .score_inputs import ScoreOptions, SplitAnswers, note_of
from .score_reading import AnswerParsing, choose_reading

RESCORE = "'evalkit rescore RUN --judge MODEL' scores answers that a judge reads."
_NOT_IN_A_NAME = re.compile(r"[^\w.+\-]+")


@dataclass(frozen=True)
class ImportOptions:
    """The options that only ``evalkit import`` has, beside those of ``evalkit score``.

    Attributes:
        paths: files and folders of the other harness.
        harness: which one must have written them; None for any.
        id_field: the field with the sample ids, or ``position``; None to find it.
        reading: which of the harness's scores, and which filter.
    """

    paths: Sequence[str]
    scoring: ScoreOptions
    harness: str | None = None
    id_field: str | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class ImportedSplit:
    """A split with another harness's results."""

    answers: SplitAnswers
    found: ForeignResults
    joined: Joined

    @property
    def job(self) -> Job:
        return self.answers.job


@dataclass(frozen=True)
class ImportedResult:
    """A split's score beside the other harness's.

    Attributes:
        column: the per-sample score of ours that is compared; empty if there is none on a common scale.
        compared: every sample of either.
    """

    split: ImportedSplit
    result: Result
    column: str
    compared: Sequence[Compared]
    file: Path


def import_results(effective: Effective, options: ImportOptions) -> tuple[list[ImportedResult], list[board.Entry], int]:
    """Import every split; returns what was compared, the leaderboard rows, and the exit code.

    Raises:
        UserError: a mistake in the command, the files or the data.
    """
    settings = effective.settings
    console = new_console(stderr=True, highlight=False)
    quiet_logging()
    plan, splits = plan_import(effective, options)  # finds every mistake before a folder is created
    run = settings.name or f"{_NOT_IN_A_NAME.sub('-', plan.model)[:100]}-{datetime.now():%Y%m%d-%H%M%S}"
    manifest = make_manifest(effective, options.scoring, plan)
    manifest = replace(manifest, imported={split.job.name: record_of(split) for split in splits})
    folder = RunFolder.create(Path(settings.out), run)
    with folder.locked(), logging_to(folder), recording(folder, manifest, console):
        for note in (*notes_of(plan), *(note for split in splits for note in split.found.notes)):
            announce(console, note)
        family = plan.reading.reader.family
        header = {
            "run": run, "model": plan.model, "family": None if family is None else family.name, "data": plan.data,
        }  # fmt: skip
        writer = ScoreWriter(folder, header)
        done: list[ImportedResult] = []
        entries: list[board.Entry] = []
        for split in splits:
            records = _write_answers(split, plan.reading, folder)
            result = score_job(split.job, records)
            done.append(_compared(split, records, result, folder, console))
            entries = write_scores(writer, [one.result for one in done])
        results = [one.result for one in done]
        judged = any(result.awaits_judge for result in results)
        manifest.state = report_end(folder, results, console, retry=RESCORE if judged else "")
    return done, entries, 0 if all(result.complete for result in results) else 1


# ------------------------------------------------------------------------------------------------------------ planning


def plan_import(effective: Effective, options: ImportOptions) -> tuple[ScorePlan, list[ImportedSplit]]:
    """Read the results and the splits, and check that they fit each other.

    Raises:
        UserError: they do not.
    """
    settings, scoring = effective.settings, options.scoring
    splits = parse_tasks(settings.tasks, settings.split, settings.kind)
    paths = [user_path(name, "evalkit import") for name in options.paths]
    sources = pair(find_sources(paths, options.harness), [(task.name, split) for task, split in splits])
    for task, _ in splits:
        task.scoring_rule(scoring.rule)  # refuses an unknown one
    letters = any(task.kind in READINGS for task, _ in splits)
    reading = choose_reading([None] * len(splits), effective, scoring, letters=letters)
    reading.reader.check_options()
    for task, _ in splits:
        reading.reader.check(task)
    if scoring.boxes is not None and not any(task.kind in LOCATED for task, _ in splits):
        raise UserError(f"--boxes {scoring.boxes}: none of the tasks asks for boxes or points; leave it out.")
    name, origin = data_of(effective, [])
    data = open_data(name, images_required=False)
    imported = []
    for (task, split), source in zip(splits, sources, strict=True):
        reader = reading.reader
        job = load_job(
            task, split, data, limit=None, seed=0, protocol=reader.protocol, choice=reader.choice,
            rule=reader.rule_of(task),
        )  # fmt: skip
        imported.append(_split(task, job, source, reading, options))
    for one in imported:
        check_scorable(one.job)
    models = list(dict.fromkeys(one.found.model for one in imported if one.found.model))
    if len(models) > 1:
        raise UserError(f"the results are of different models ({', '.join(models)}); import them one by one.")
    model = models[0] if models else settings.name or sources[0].path.stem
    return ScorePlan([one.answers for one in imported], reading, name, origin, model), imported


def _split(task: Task, job: Job, source: Source, reading: AnswerParsing, options: ImportOptions) -> ImportedSplit:
    """A split with the answers of its source."""
    scoring = options.scoring
    found = source.read(source.path, options.reading)
    joined = join(found.answers, job.samples, options.id_field, str(source.path))
    lines = [
        PredictionLine(one, answer.text, answer.place, answer.repeat)
        for one, answer in zip(joined.ids, found.answers, strict=True)
    ]
    matched = match(
        [sample.id for sample in job.samples], lines, source=str(source.path), split=job.name,
        missing_allowed=scoring.allow_missing or scoring.skip_missing,
    )  # fmt: skip
    if matched.repeats > 1:
        check_repeatable(task, job.split, reading.reader.choice)
    prompting = "|".join(part for part in (f"{IMPORTED}:{mark_of(found)}", reading.prompting(None)) if part)
    job = replace(job, repeats=matched.repeats, prompting=prompting)
    public = task.splits[job.split].answers
    skipped = scoring.skip_missing and public
    note = note_of(job, source.path, matched, skipped=skipped, public=public)
    if skipped:
        job = without(job, matched.missing)
    return ImportedSplit(SplitAnswers(job, source.path, matched, None, note), found, joined)


def mark_of(found: ForeignResults) -> str:
    """What a signature says of where answers are from: ``lmms-eval-0.7.3``."""
    parts = [found.harness.lower(), *([found.version] if found.version else [])]
    return _NOT_IN_A_NAME.sub("-", "-".join(parts))[:80]


def record_of(split: ImportedSplit) -> dict[str, Any]:
    """What the manifest says of a split."""
    found = split.found
    return {
        "harness": found.harness,
        "version": found.version,
        "task": found.task,
        "model": found.model,
        "metric": found.metric or None,
        "stated": dict(found.stated),
        "ids": split.joined.by,
        "questions_compared": split.joined.checked,
        "files": [file_digest(file) for file in found.files],
    }


# ------------------------------------------------------------------------------------------------------------- scoring


def _write_answers(split: ImportedSplit, reading: AnswerParsing, folder: RunFolder) -> list[Record]:
    """Write the raw answers to the journal; returns their records."""
    job, given = split.job, split.answers.given
    assert given is not None
    errors = {
        (one, answer.repeat): answer.error
        for one, answer in zip(split.joined.ids, split.found.answers, strict=True)
        if answer.error is not None
    }
    records = []
    with appending(folder.journal_path(job.task.name, job.split)) as written:
        for record in reading.reader.records(job, given.texts):
            error = errors.get((record.sample.id, record.repeat))
            if error is not None:
                record = replace(failed(record.sample, error), repeat=record.repeat)
            written.append(record)
            records.append(record)
    return records


def _compared(
    split: ImportedSplit, records: Sequence[Record], result: Result, folder: RunFolder, console: Console
) -> ImportedResult:
    """Compare the scores, and write a line for each sample."""
    fractions = split.found.fractions()
    if split.found.metric and all(fraction is None for fraction in fractions):
        announce(console, f"{split.job.name}: the samples' {split.found.metric} is on no scale from 0 to 1 or 100.")
    given = by_sample(split.joined.ids, split.found.answers, fractions)
    column, ours = _fractions_of(result)
    compared: list[Compared] = []
    for record in records:
        if record.repeat == 1:
            one = record.sample
            compared.append(compare_sample(one, record.prediction, ours.get(one.id), given.get(one.id)))
    known = {record.sample.id for record in records}
    compared += [outside(id, one) for id, one in given.items() if id not in known]
    file = folder.imported_path(split.job.task.name, split.job.split)
    write_atomically(file, "".join(to_json(one.to_dict()) + "\n" for one in compared))
    return ImportedResult(split, result, column, compared, file)


def _fractions_of(result: Result) -> tuple[str, Mapping[str, float]]:
    """The per-sample column behind a score, and its values as fractions; the first one, for a score that is no mean."""
    scores = result.scores
    if scores is None:
        return "", {}
    columns = list(next(iter(scores.per_sample.values()), {}))
    for column in dict.fromkeys([scores.headline, *columns]):
        values = {id: row[column] for id, row in scores.per_sample.items() if column in row}
        if values and min(values.values()) >= 0 and max(values.values()) <= 100:
            return column, {id: value / 100 for id, value in values.items()}
    return "", {}
