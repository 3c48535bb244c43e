"""Judge recorded answers: for ``evalkit run`` after its models have answered, ``evalkit score`` and ``rescore``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from evalkit import registry
from evalkit.errors import RunFailed, UserError
from evalkit.jobs import Job, Record
from evalkit.judged_scoring import PHRASES, judged_metric, score_judged_job
from evalkit.judging import AskedQuestion, Judge, gather_verdicts
from evalkit.progress.display import LINE_EVERY_SECONDS
from evalkit.reader import Reader
from evalkit.results.leaderboard import table as board
from evalkit.results.store.journal import Journal, appending
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter
from evalkit.results.store.verdicts import VerdictFile, drop_other_verdicts, judges_of, read_verdicts
from evalkit.run import Stopped
from evalkit.scoring import Result, is_judged
from evalkit.types import Response, Verdict

from .finish import COMPLETE, INCOMPLETE, report_end, write_scores
from .judge import OpenedJudge
from .manifest import announce, logging_to, recording
from .plan import Plan
from .recorded import read_lines, records_of
from .signals import stoppable
from .subset_runs import estimator_of

Announce = Callable[[str], None]

MAX_ERRORS = 100
RECORDED_FAMILY = "generic"
"""The family that reads recorded replies if the manifest does not say which."""


class ReportedVerdicts(VerdictFile):
    """Counts the replies, reports progress, and ends the run after too many failures."""

    def __init__(
        self, path: Path, journal: Journal, judge: str, name: str, announce: Announce, max_errors: int
    ) -> None:
        super().__init__(path, journal, judge, name, announce)
        self.counts: Counter[str] = Counter()
        self._max_errors = max_errors
        self._printed = time.monotonic()

    def add(self, asked: AskedQuestion, response: Response, verdict: Verdict, digests: tuple[str | None, ...]) -> None:
        super().add(asked, response, verdict, digests)
        self.counts[verdict.problem] += 1
        if self.counts["error"] > self._max_errors:
            raise RunFailed(
                f"{self._name}: the judge failed {self.counts['error']} times (--max-errors {self._max_errors}; last "
                f"error: {verdict.error}). Run the same command to ask again."
            )
        if time.monotonic() - self._printed >= LINE_EVERY_SECONDS:
            self._printed = time.monotonic()
            self._announce(f"{self._name}: {self.counts.total():,} verdicts so far")


def judge_job(
    job: Job,
    records: Sequence[Record],
    judge: OpenedJudge,
    folder: RunFolder,
    console: Console,
    *,
    max_errors: int = MAX_ERRORS,
) -> Result:
    """Ask the judge about a job's answers, keep its replies in the run folder, and score the answers.

    Raises:
        Stopped: a signal arrived before the last reply; the replies so far are kept.
        RunFailed: the judge failed too often, or a file cannot be written.
        UserError: the judge cannot be opened.
    """
    path = folder.verdicts_path(job.task.name, job.split)
    found = judge.judge

    def say(message: str) -> None:
        announce(console, message)

    drop_other_verdicts(path, found.label, say, job.name)
    began = time.monotonic()
    with appending(path) as journal, stoppable(console) as stop, console.status(f"{job.name}: judging"):
        log = ReportedVerdicts(path, journal, found.label, job.name, say, max_errors)
        try:
            judgement = gather_verdicts(job, judged_metric(job), records, found, log, stop)
        except (Stopped, KeyboardInterrupt):
            say(f"{job.name}: Stopped after {log.new:,} verdicts. Run the same command to resume.")
            raise Stopped from None
    resumed = f", {log.resumed:,} resumed" if log.resumed else ""
    problems = [f"{count:,} {PHRASES.get(what, what)}" for what, count in sorted(log.counts.items()) if what]
    trouble = f"; {', '.join(problems)}" if problems else ""
    say(f"{job.name}: {log.new:,} verdicts by {found.label} in {time.monotonic() - began:.1f} s{resumed}{trouble}")
    return score_judged_job(job, records, judgement)


def judge_recorded(
    job: Job, records: Sequence[Record], judge: OpenedJudge, folder: RunFolder, console: Console
) -> Result:
    """``judge_job`` for commands that have no model to run: a signal is a failure.  Raises ``RunFailed``."""
    try:
        return judge_job(job, records, judge, folder, console)
    except Stopped:
        raise RunFailed(f"{job.name}: stopped before the last verdict. Run the same command to resume.") from None


def score_recorded(job: Job, records: Sequence[Record], folder: RunFolder, family: str | None = None) -> Result:
    """Score a job's answers by the verdicts that the run folder has; no judge is asked.

    Args:
        family: the judge's, from the manifest.

    Raises:
        UserError: there are none, or they are by several judges.
    """
    path = folder.verdicts_path(job.task.name, job.split)
    answers = read_verdicts(path)
    labels = judges_of(answers)
    if len(labels) != 1:
        found = f"{len(labels)} judges" if labels else "no verdicts"
        raise UserError(f"{job.name}: {path} has {found}; name the judge with --judge MODEL.")
    judge = Judge(labels[0], registry.families.get(family or RECORDED_FAMILY), None)
    log = VerdictFile(path, None, None, job.name, lambda message: None)
    return score_judged_job(job, records, gather_verdicts(job, judged_metric(job), records, judge, log))


def judge_run(
    plan: Plan, folder: RunFolder, judge: OpenedJudge, console: Console, *, answered: bool, max_errors: int
) -> tuple[list[board.Entry] | None, bool]:
    """Judge the answers of a run; returns its new leaderboard rows (None: stopped), and whether it is complete.

    Args:
        answered: whether every sample has an answer.
    """
    with folder.locked():
        manifest = folder.read_manifest()
        settings = manifest.settings
        reader = Reader.from_settings(settings, plan.family)
        header = {"run": folder.path.name, "model": plan.label, "family": plan.family.name, "data": plan.data}
        results: list[Result] = []
        with logging_to(folder), recording(folder, manifest, console) as record:
            manifest.judge = judge.to_dict()
            record()
            writer = ScoreWriter(folder, header, estimator_of(folder.path))
            entries: list[board.Entry] = []
            for job in plan.jobs:
                if not is_judged(job):
                    continue
                journal = folder.journal_path(job.task.name, job.split)
                records = records_of(job, read_lines(journal, manifest.schema, console), reader, path=journal)
                try:
                    results.append(judge_job(job, records, judge, folder, console, max_errors=max_errors))
                except Stopped:
                    return None, False
                entries = write_scores(writer, results)
                rows = {entry.row.name: entry.row.signature for entry in entries}
                if job.name in manifest.splits and job.name in rows:
                    manifest.splits[job.name] = replace(manifest.splits[job.name], signature=rows[job.name])
            state = report_end(folder, results, console)
            manifest.state = state if answered else INCOMPLETE
    return entries, manifest.state == COMPLETE
