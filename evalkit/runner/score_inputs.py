"""The splits that ``evalkit score`` scores, each with the answers of its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.choosing.sample_filter import EVERYTHING, SampleFilter
from evalkit.data import Data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.jobs import Job, check_repeatable, load_job, recorded_choice
from evalkit.matching import Matched, match
from evalkit.paths import user_path
from evalkit.predictions import EXAMPLES, read_predictions
from evalkit.results.subsets.subset_file import read_subset
from evalkit.types import LOCATED

from .recorded import RecordedSplit, without
from .score_reading import AnswerParsing
from .subset_runs import subset_job


@dataclass(frozen=True)
class ScoreOptions:
    """The options that only ``evalkit score`` has.

    Attributes:
        allow_missing: score splits of which some samples have no answer; these count as wrong.
        skip_missing: leave such samples out of the score.
        boxes: coordinates of boxes (``evalkit.reader.COORDINATES``); None for the family's.
        field: the field of a predictions file that holds the answers; None for the usual ones.
        rule: the scoring rule (``Task.scoring_rules``); empty for that of the protocol.
        judge, judge_base_url: the model that judges, as for ``evalkit run``.
        chosen: the samples that are scored; None for all, and for those that the run of a journal chose.
        subset: the subset file whose samples are scored.
    """

    predictions: Sequence[str]
    family: str | None = None
    allow_missing: bool = False
    skip_missing: bool = False
    min_pixels: int | None = None
    max_pixels: int | None = None
    boxes: str | None = None
    rule: str = ""
    field: str | None = None
    judge: str | None = None
    judge_base_url: str | None = None
    chosen: SampleFilter | None = None
    subset: str | None = None


@dataclass(frozen=True)
class SplitAnswers:
    """A split and the answers to it.

    Attributes:
        job: with the samples that are scored.
        given: the answers of a predictions file; None for a journal.
        journal: a run's journal; None for a predictions file.
        note: what was missing or not used, for the user; empty if nothing was.
    """

    job: Job
    file: Path
    given: Matched | None
    journal: RecordedSplit | None
    note: str


def pair_files(predictions: Sequence[str], splits: Sequence[tuple[Task, str]]) -> list[Path]:
    """The file of each split, in order.

    Raises:
        UserError: the number of files is not the number of splits.
    """
    files = [user_path(name, "--predictions") for name in predictions]
    names = [f"{task.name}/{split}" for task, split in splits]
    if not files:
        raise UserError(f"no answers: give --predictions FILE for {', '.join(names)}.")
    if len(files) != len(names):
        given = "1 file" if len(files) == 1 else f"{len(files)} files"
        raise UserError(
            f"--predictions: {given} for {len(names)} split{'s' if len(names) > 1 else ''}; give one file for each of "
            f"{', '.join(names)}, in this order, or name a split in --tasks (for example --tasks {names[0]})."
        )
    return files


def answers_of(
    task: Task,
    split: str,
    data: Data,
    file: Path,
    journal: RecordedSplit | None,
    reading: AnswerParsing,
    options: ScoreOptions,
) -> SplitAnswers:
    """A split with the answers of its file.

    Raises:
        UserError: the file does not fit the split.
    """
    recorded = EVERYTHING if journal is None or journal.split is None else journal.split.chosen
    protocol = reading.reader.protocol
    job = load_job(
        task, split, data, limit=None, chosen=options.chosen or recorded, seed=reading.seed, protocol=protocol,
        choice=reading.reader.choice, rule=reading.reader.rule_of(task), judge=reading.reader.judge,
    )  # fmt: skip
    if options.subset is not None:
        job = subset_job(job, read_subset(Path(options.subset)), Path(options.subset))
    prompting = reading.prompting(journal)
    job = replace(
        job, prompting=prompting, choice=recorded_choice(prompting), recorded_predictions=reading.recorded_predictions
    )
    if journal is not None:
        if options.field is not None:
            raise UserError(f"--field {options.field}: {journal.path} is the journal of a run; leave it out.")
        return _from_journal(replace(job, repeats=journal.repeats), journal, options)
    ids = [sample.id for sample in job.samples]
    every = {sample.id for sample in job.all_samples}
    left_out = every.difference(ids)
    given = read_predictions(file, every, boxes=task.kind in LOCATED, field=options.field)
    found = match(
        ids,
        [line for line in given if line.id not in left_out] if left_out else given,
        source=str(file),
        split=job.name,
        missing_allowed=options.allow_missing or options.skip_missing,
    )
    if found.repeats > 1:
        check_repeatable(task, split, reading.reader.choice)
        job = replace(job, repeats=found.repeats)
    public = task.splits[split].answers
    skipped = options.skip_missing and public
    note = note_of(job, file, found, skipped=skipped, public=public)
    if skipped:
        job = without(job, found.missing)
    return SplitAnswers(job, file, found, None, note)


def _from_journal(job: Job, journal: RecordedSplit, options: ScoreOptions) -> SplitAnswers:
    """A split with the answers of a journal, which has a line for every sample that was asked."""
    missing = [sample.id for sample in job.samples if sample.id not in journal.lines]
    if not missing:
        return SplitAnswers(job, journal.path, None, journal, "")
    if len(missing) == len(job.samples):
        raise UserError(f"{journal.path} has no answer to a sample of {job.name}; give the journal of that split.")
    if not (options.allow_missing or options.skip_missing):
        examples = ", ".join(missing[:EXAMPLES]) + (", …" if len(missing) > EXAMPLES else "")
        raise UserError(
            f"{journal.path} has answers to {len(job.samples) - len(missing):,} of the {len(job.samples):,} samples of "
            f"{job.name} (not to {examples}); --allow-missing scores these."
        )
    note = (
        f"{job.name}: {len(missing):,} of {len(job.samples):,} samples are not in the journal {journal.path} and are "
        "left out of the score."
    )
    return SplitAnswers(without(job, missing), journal.path, None, journal, note)


def note_of(job: Job, file: Path, found: Matched, *, skipped: bool, public: bool) -> str:
    """What a file lacks and what of it is not used."""
    notes = []
    if found.missing:
        outcome = "are left out of the score" if skipped else "count as wrong (--skip-missing leaves them out)"
        notes.append(
            f"{job.name}: {len(found.missing):,} of {len(job.samples):,} samples have no answer in {file} and "
            f"{outcome if public else 'are empty in the submission'}."
        )
    if found.unused:
        examples = ", ".join(found.unused[:EXAMPLES]) + (", …" if len(found.unused) > EXAMPLES else "")
        notes.append(
            f"{job.name}: {len(found.unused):,} of {len(found.unused) + len(found.texts):,} answers in {file} are to "
            f"samples outside the split and are not used ({examples})."
        )
    return "\n".join(notes)
