"""An active run: one model and number of shots, with its folder open and locked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import fingerprint
from evalkit.checkpoint import Checkpoint, fetched
from evalkit.errors import RunFailed, UserError
from evalkit.identity import earlier_parts, run_parts, split_parts
from evalkit.interfaces import Backend, BackendFactory
from evalkit.jobs import Job, Record, build_requests, incomplete_split
from evalkit.progress.display import Reporter, Watch
from evalkit.progress.events import Events
from evalkit.results.leaderboard import table as board
from evalkit.results.store.journal import appending
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_choice import FolderSpec, choose
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter, read_scores
from evalkit.run import Answers, ImageDigests
from evalkit.scoring import Result
from evalkit.settings import Effective

from .finish import COMPLETE, INCOMPLETE, report_end, unparsed_sentence, write_leaderboards, write_scores
from .lazy_backend import LazyBackend
from .manifest import ManifestWriter, announce, logging_to, manifest_of, recording
from .plan import Plan, folder_stem
from .resume import kept_answers
from .sent_videos import SentVideos
from .served_models import identity_of, warn_of_guessed_family, warn_of_unknown_sizes
from .shots import resizer_of, shots_of
from .subset_runs import estimator_of, keep_subset
from .unchanged import Proof, UnchangedRun


def identify_checkpoint(checkpoint: Checkpoint, console: Console) -> tuple[Checkpoint, dict[str, Any]]:
    """Fetch the checkpoint; returns it with its identity: content digests, or the server's description."""
    if checkpoint.served is not None:
        return checkpoint, identity_of(checkpoint)
    with console.status(f"reading the weights of {checkpoint.name}"):
        checkpoint = fetched(checkpoint)
        parts: dict[str, Any] = {
            **fingerprint.of_checkpoint(
                Path(checkpoint.location), pickled=checkpoint.pickled, code=checkpoint.trust_remote_code
            )
        }
        if checkpoint.processor is not None:
            folder = Path(checkpoint.processor)
            parts["processor"] = fingerprint.of_processor(folder)
            config = fingerprint.of_other_config(folder, Path(checkpoint.location))
            parts |= {} if config is None else {"processor's config": config}
        if checkpoint.adapter is not None:
            parts["adapter"] = fingerprint.of_adapter(
                Path(checkpoint.adapter), pickled=checkpoint.allow_pickled_weights
            )
    return checkpoint, parts


class ActiveRun:
    """A run whose folder is open and locked.

    Args:
        record: writes the manifest.
        several: whether other runs are active, so that messages name this one.

    Attributes:
        proof: whether the run is complete and nothing has changed.
    """

    def __init__(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        factory: BackendFactory,
        effective: Effective,
        folder: RunFolder,
        manifest: Manifest,
        record: ManifestWriter,
        console: Console,
        events: Events | None,
        several: bool,
    ) -> None:
        self.plan = plan
        self.checkpoint = checkpoint
        self.settings = effective.settings
        self.folder = folder
        self.manifest = manifest
        self.resizer = resizer_of(plan, checkpoint, factory)
        self._record = record
        self._console = console
        self._events = events
        self._several = several
        self._errors = self._answered = 0
        header = {"run": folder.path.name, "model": plan.label, "family": plan.family.name, "data": plan.data}
        self._scores = ScoreWriter(folder, header, estimator_of(folder.path))
        self._results: list[Result] = []
        splits = {job.name: manifest.splits[job.name].parts for job in plan.jobs}
        self.proof = Proof(plan, folder, effective.settings, manifest.parts or {}, splits)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    def announce(self, message: str) -> None:
        """Print a message and write it to the log."""
        announce(self._console, message)

    def _announce_each_time(self, message: str) -> None:
        """Announce what a later command announces again, for which it looks at the answers."""
        self.proof.valid = False
        self.announce(message)

    def announce_start(self) -> None:
        """Emit the ``start`` event."""
        if self._events is not None:
            tasks = [
                {"task": j.task.name, "split": j.split, "samples": len(j.samples)}
                | ({"repeats": j.repeats} if j.repeats > 1 else {})
                for j in self.plan.jobs
            ]
            self._events.emit("start", run=self.name, model=self.plan.label, tasks=tasks)

    def note_backend(self, backend: Backend) -> None:
        """Put the backend's description into the manifest."""
        self.manifest.backend = dict(backend.describe())

    def backend_loaded(self, backend: Backend) -> None:
        """Record the opened backend, and print warnings about it."""
        self.note_backend(backend)
        for message in warn_of_unknown_sizes(self.plan.jobs, self.plan.family, self.manifest.backend or {}):
            self.announce(message)
        self._warn_of_guessed_family()
        self._record()

    def _warn_of_guessed_family(self) -> None:
        for message in warn_of_guessed_family(self.plan.jobs, self.plan.family, self.plan.checkpoint):
            announce(self._console, message, style="bold yellow")

    @contextmanager
    def open_job(self, job: Job, backend: LazyBackend | None, reporter: Reporter) -> Iterator[tuple[Answers, Watch]]:
        """The requests of ``job`` and its earlier answers; new answers are written to the journal as they arrive.

        ``backend`` embeds images for ``--shots-by similar``.
        """
        plan = self.plan
        questions = build_requests(job, plan.family, shots_of(plan, job, self.settings, self.resizer, backend))
        names = {"run": self.name, "model": plan.label} if self._several else {}
        self.proof.note_questions(job, questions.values())
        with ImageDigests(question.request for question in questions.values()) as digests:
            kept = kept_answers(
                job, questions, plan.family, self.folder, digests, self.announce, self._announce_each_time
            )
            self._answered += len(kept)
            path = self.folder.journal_path(job.task.name, job.split)
            with appending(path) as journal, reporter.track(job, kept.values(), plan.sizes, **names) as watch:
                sent = SentVideos(job.name, kept.values())

                def on_record(record: Record) -> None:
                    sent.check(record)
                    journal.append(record)
                    watch.add(record)
                    self._count(job, record)

                yield Answers(job, questions, plan.family, on_record, digests=digests, kept=kept), watch

    def _count(self, job: Job, record: Record) -> None:
        self._answered += 1
        self._errors += record.response.finish == "error"
        if self._errors > self.settings.max_errors:
            raise RunFailed(
                f"{job.name}: {self._errors} samples failed (--max-errors {self.settings.max_errors}; last error: "
                f"{record.response.error}). Run the same command to retry them."
            )

    def announce_stop(self) -> None:
        """Print that the run was interrupted, and how to resume it."""
        total = sum(job.answers for job in self.plan.jobs)
        which = f"{self.plan.label}: " if self._several else ""
        what = "samples" if all(job.repeats == 1 for job in self.plan.jobs) else "answers"
        self.announce(f"{which}Stopped at {self._answered:,} of {total:,} {what}. Run the same command to resume.")
        if self._events is not None:
            self._events.runs.append({**self._summary, "state": "stopped"})

    def add_result(self, result: Result) -> None:
        """Write the score of a split that is complete, while others are still to be answered, or judged."""
        if not result.awaits_judge:
            self._results.append(result)
            write_scores(self._scores, self._results)

    def finish(self, results: Sequence[Result]) -> tuple[list[board.Entry], bool]:
        """Write the scores; returns the leaderboard rows, and whether every sample has an answer and a score.

        Answers that await a judge are not scored yet: the run is incomplete until they are (``judging.judge_run``).
        """
        scored = [result for result in results if not result.awaits_judge]
        entries = write_scores(self._scores, scored) if scored else []
        self._warn_of_guessed_family()  # again, since much may have been printed since
        state = report_end(self.folder, results, self._console)
        if any(result.awaits_judge for result in results):
            state = INCOMPLETE
        self._end(entries, state)
        return entries, all(r.complete for r in results)

    def finish_unchanged(self, found: UnchangedRun, reporter: Reporter) -> list[board.Entry]:
        """Show the scores of a run in which nothing has changed; returns the leaderboard rows."""
        label = self.plan.label
        with reporter:
            for job in self.plan.jobs:
                reporter.report_end(job, found.progress[job.name])
        every = read_scores(self.folder.path / "scores.json").rows
        write_leaderboards(self.folder, board.entries_of(self.name, label, every))
        self._warn_of_guessed_family()
        for row in found.rows:
            if row.name in found.reasons:
                self.announce(unparsed_sentence(row.name, row.unparsed, row.answers, found.reasons[row.name]))
        self.announce(f"run folder: {self.folder.path}")
        entries = board.entries_of(self.name, label, found.rows)
        self._end(entries, COMPLETE)
        return entries

    def _end(self, entries: Sequence[board.Entry], state: str) -> None:
        splits = self.manifest.splits
        for entry in entries:
            split = entry.row.name
            if split in splits:
                splits[split] = replace(splits[split], signature=entry.row.signature)
        self.manifest.state = state
        if self._events is not None:
            rows = [entry.row.to_dict() for entry in entries]
            self._events.runs.append({**self._summary, "state": state, "results": rows})

    @property
    def _summary(self) -> dict[str, Any]:
        return {"run": self.name, "folder": str(self.folder.path), "model": self.plan.label, "results": []}


@contextmanager
def open_run(
    plan: Plan,
    factory: BackendFactory,
    backend_parts: Mapping[str, Any],
    effective: Effective,
    console: Console,
    events: Events | None,
    *,
    several: bool = False,
) -> Iterator[ActiveRun]:
    """Start or resume a run: find its folder by the run's identity, and lock it.

    Args:
        backend_parts: the backend's part of the identity.
    """
    settings = effective.settings
    checkpoint, checkpoint_parts = identify_checkpoint(plan.checkpoint, console)
    parts = run_parts(checkpoint_parts, plan.family, backend_parts, settings, plan.shots, plan.given)
    if plan.subset is not None:
        parts["subset"] = plan.subset.digest
    splits = {job.name: split_parts(job, plan.family, plan.pools.get(job.name)) for job in plan.jobs}
    earlier = {job.name: earlier_parts(job, plan.pools.get(job.name)) for job in plan.jobs}
    spec = FolderSpec(checkpoint.name, parts, splits, folder_stem(plan), checkpoint.location, earlier)
    choice = choose(Path(settings.out), spec, name=settings.name, fresh=settings.fresh)
    folder = choice.folder
    with folder.locked():
        before = folder.read_manifest() if (folder.path / "manifest.json").is_file() else None
        manifest = manifest_of(plan, checkpoint, effective, parts, splits, before)
        with logging_to(folder), recording(folder, manifest, console) as record:
            for job in plan.jobs:
                if shorter := incomplete_split(job, plan.data):
                    announce(console, shorter)
                if job.chosen.described:
                    announce(console, f"{job.name}: {job.chosen.counted(len(job.samples), len(job.all_samples))}")
            keep_subset(folder.path, plan.subset)
            for message in choice.messages:
                announce(console, message)
            if choice.why_new and len(settings.shots) == 1:  # a sweep over shots makes new runs on purpose
                announce(console, choice.why_new)
            if before is None and choice.answers_from is not None:
                for job in plan.jobs:
                    folder.copy_journal(choice.answers_from, job.task.name, job.split)
            try:
                yield ActiveRun(
                    plan, checkpoint, factory, effective, folder, manifest, record, console, events, several
                )
            except UserError:
                # A user's mistake, such as a checkpoint that cannot be loaded, leaves no folder behind.
                if not before and not folder.answered():
                    shutil.rmtree(folder.path, ignore_errors=True)
                    with suppress(OSError):
                        folder.path.parent.rmdir()  # if there is nothing else in it
                raise
