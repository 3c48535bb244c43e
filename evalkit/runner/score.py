"""What ``evalkit score`` does, usable without a terminal: read files of answers, score them, and write a run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from evalkit.choosing.sample_filter import check_ids
from evalkit.console import new_console
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.fingerprint import of_file
from evalkit.interfaces.task import READINGS
from evalkit.jobs import Record, incomplete_split
from evalkit.logs import quiet_logging
from evalkit.results.leaderboard import table as board
from evalkit.results.samples.context import located
from evalkit.results.store.journal import Journal, appending
from evalkit.results.store.manifest import Manifest, SplitRecord
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter
from evalkit.results.subsets.subset_file import read_subset
from evalkit.scoring import Result, check_scorable, is_judged, score_job
from evalkit.settings import Effective, default_data
from evalkit.task_names import parse_tasks
from evalkit.types import LOCATED

from .finish import report_end, write_scores
from .judge import JudgeSettings, OpenedJudge, find_judge
from .judging import judge_recorded
from .manifest import announce, choice_of, environment, logging_to, recording
from .recorded import RecordedSplit, is_journal, open_journal, records_of
from .score_folder import discard_scores, folder_of, unfinished_name
from .score_inputs import ScoreOptions, SplitAnswers, answers_of, pair_files
from .score_reading import AnswerParsing, choose_reading
from .subset_runs import estimator_of, keep_subset, tasks_of

RETRY_JUDGE = "'evalkit rescore RUN --judge MODEL' asks the judge again about those that it failed on."
SHARED = ("tasks", "split", "kind", "out", "name", "protocol")
"""The settings shared with ``evalkit run``."""


@dataclass(frozen=True)
class ScorePlan:
    """Everything that is scored, read and checked."""

    splits: Sequence[SplitAnswers]
    reading: AnswerParsing
    data: str
    data_source: str
    model: str
    judge: OpenedJudge | None = None


def score_files(effective: Effective, options: ScoreOptions) -> tuple[list[board.Entry], int]:
    """Score every split with its file of answers; returns the leaderboard rows and the exit code.

    Raises:
        UserError: a mistake in the command, the answers or the data.
    """
    settings = effective.settings
    console = new_console(stderr=True, highlight=False)
    quiet_logging()
    plan = plan_scores(effective, options, console)  # finds every mistake before a folder is created
    manifest = make_manifest(effective, options, plan)
    resumed = None
    if settings.name is None and plan.judge is not None:
        resumed = unfinished_name(Path(settings.out), manifest, plan.model)
    run = settings.name or resumed or f"{plan.model}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = folder_of(Path(settings.out), run, manifest)
    with folder.locked(), logging_to(folder), recording(folder, manifest, console):
        discard_scores(folder, [split.job for split in plan.splits])
        for note in notes_of(plan):
            announce(console, note)
        results: list[Result] = []
        family = plan.reading.reader.family
        header = {
            "run": run, "model": plan.model, "family": None if family is None else family.name, "data": plan.data,
        }  # fmt: skip
        keep_subset(folder.path, None if options.subset is None else read_subset(Path(options.subset)))
        writer = ScoreWriter(folder, header, estimator_of(folder.path))
        for split in plan.splits:
            began = time.monotonic()
            result = score_split(split, plan, folder, console)
            results.append(result)
            if result.failure is None:
                answers = "1 answer" if result.n == 1 else f"{result.n:,} answers"
                console.print(f"{split.job.name}: {answers} scored in {time.monotonic() - began:.1f} s")
            entries = write_scores(writer, results)
        manifest.state = report_end(folder, results, console, retry=RETRY_JUDGE if plan.judge is not None else "")
        if plan.judge is not None:
            manifest.judge = plan.judge.to_dict()
            plan.judge.close()
    return entries, 0 if all(result.complete for result in results) else 1


def score_rules(effective: Effective, options: ScoreOptions, rules: Sequence[str]) -> tuple[list[board.Entry], int]:
    """``score_files`` under each of several scoring rules: a run folder and a row for each, called after the rule.

    Raises:
        UserError: as ``score_files``; an unknown rule, before anything is scored.
    """
    settings = effective.settings
    for task, _ in parse_tasks(tasks_of(settings.subset, settings.tasks), settings.split, settings.kind):
        for rule in rules:
            task.scoring_rule(rule)
    entries: list[board.Entry] = []
    code = 0
    first = Path(options.predictions[0]).stem if options.predictions else ""
    for rule in dict.fromkeys(rule.replace("@", "-") for rule in rules):
        named = replace(effective, settings=replace(settings, name=f"{settings.name or first}-{rule}"))
        found, ended = score_files(named, replace(options, rule=rule))
        entries += found
        code = max(code, ended)
    return entries, code


# ------------------------------------------------------------------------------------------------------------ planning


def plan_scores(effective: Effective, options: ScoreOptions, console: Console) -> ScorePlan:
    """Read the answers and the splits, and check that they fit each other.

    Raises:
        UserError: they do not.
    """
    settings = effective.settings
    splits = parse_tasks(tasks_of(settings.subset, settings.tasks), settings.split, settings.kind)
    files = pair_files(options.predictions, splits)
    journals = [open_journal(file, console) if is_journal(file) else None for file in files]
    for task, _ in splits:
        task.scoring_rule(options.rule)  # refuses an unknown one
    letters = any(task.kind in READINGS for task, _ in splits)
    reading = choose_reading(journals, effective, options, letters=letters)
    reading.reader.check_options()
    if not reading.recorded_predictions:
        for task, _ in splits:
            reading.reader.check(task)
    if options.boxes is not None and not any(task.kind in LOCATED for task, _ in splits):
        raise UserError(f"--boxes {options.boxes}: none of the tasks asks for boxes or points; leave it out.")
    name, source = data_of(effective, journals)
    data = open_data(name, images_required=False)
    answers = [
        answers_of(task, split, data, file, journal, reading, options)
        for (task, split), file, journal in zip(splits, files, journals, strict=True)
    ]
    if options.chosen is not None:
        check_ids(options.chosen, {found.job.name: found.job.all_samples for found in answers})
    for split_answers in answers:
        check_scorable(split_answers.job)
    recorded = next((journal.manifest for journal in journals if journal is not None and journal.manifest), None)
    model = settings.name or (files[0].stem if recorded is None else str(recorded.model.get("name", files[0].stem)))
    judge = JudgeSettings(options.judge, options.judge_base_url) if reading.reader.judge else None
    named = "command line" in (effective.sources["judge"], effective.sources["judge_base_url"])
    opened = find_judge(judge, [split_answers.job for split_answers in answers], console, named=named)
    return ScorePlan(answers, reading, name, source, model, opened)


def data_of(effective: Effective, journals: Sequence[RecordedSplit | None]) -> tuple[str, str]:
    """The data and where its name comes from: the command, the environment, or the run that a journal belongs to."""
    given = effective.settings.data
    if given is not None:
        return given, effective.sources["data"]
    name, source = default_data(False)
    if source == "default":
        for journal in journals:
            if journal is not None and journal.manifest is not None and "data" in journal.settings:
                return located(str(journal.settings["data"]), journal.manifest.cwd), "the run's manifest"
    return name, source


def notes_of(plan: ScorePlan) -> Iterator[str]:
    """What the user should know of the answers and the data."""
    yield from plan.reading.notes
    for split in plan.splits:
        if shorter := incomplete_split(split.job, plan.data):
            yield shorter
        if split.note:
            yield from split.note.split("\n")


# ------------------------------------------------------------------------------------------------------------- scoring


def score_split(split: SplitAnswers, plan: ScorePlan, folder: RunFolder, console: Console) -> Result:
    """Write a split's answers to the journal, have them judged if need be, and score them."""
    records = journal_answers(split, plan.reading, folder)
    if plan.judge is not None and is_judged(split.job):
        return judge_recorded(split.job, records, plan.judge, folder, console)
    return score_job(split.job, records)


def journal_answers(split: SplitAnswers, reading: AnswerParsing, folder: RunFolder) -> list[Record]:
    """Write a split's answers to the journal; returns their records."""
    job, journal = split.job, split.journal
    with appending(folder.journal_path(job.task.name, job.split)) as written:
        if journal is None:
            assert split.given is not None
            records = reading.reader.records(job, split.given.texts)
            for record in records:
                written.append(record)
            return records
        records = records_of(
            job, journal.lines, reading.reader, path=journal.path, recorded_predictions=reading.recorded_predictions
        )
        for record in records:
            _copy(record, journal, written)
    return records


def _copy(record: Record, journal: RecordedSplit, written: Journal) -> None:
    line = journal.lines[record.key]
    if record.response.finish == line.response.finish and record.response.image_sizes == line.response.image_sizes:
        written.copy(line, record.prediction)
    else:
        written.append(record)


def make_manifest(effective: Effective, options: ScoreOptions, plan: ScorePlan) -> Manifest:
    """The manifest of the run folder."""
    settings, reader = effective.settings, plan.reading.reader
    family = reader.family
    journals = [split.journal for split in plan.splits if split.journal is not None]
    recorded = next((journal.manifest for journal in journals if journal.manifest is not None), None)
    left_out = any(split.job.limited and split.journal is not None for split in plan.splits)
    return Manifest(
        **environment(),
        splits={
            split.job.name: SplitRecord(
                reference=split.job.reference,
                samples=len(split.job.samples),
                repeats=split.job.repeats,
                prompting=split.job.prompting,
                **choice_of(split.job),
            )
            for split in plan.splits
        },
        settings={
            **{key: getattr(settings, key) for key in SHARED},
            **{key: value for key, value in asdict(options).items() if key != "chosen"},
            **plan.reading.to_settings(),
            "skip_missing": options.skip_missing or left_out,
            "data": plan.data,
            "limit": None,
        },
        sources={**{key: effective.sources[key] for key in SHARED}, "data": plan.data_source},
        model={"name": plan.model} if recorded is None else {**recorded.model, "name": plan.model},
        family=None if family is None else {"name": family.name, "coordinates": family.coordinates},
        shots=None if recorded is None else recorded.shots,
        shot_pools=None if recorded is None else recorded.shot_pools,
        predictions=[file_digest(split.file) for split in plan.splits],
    )


def file_digest(file: Path) -> dict[str, str]:
    """A file's path and content hash, for the manifest."""
    return {"file": str(file.absolute()), "sha256": of_file(file)}
