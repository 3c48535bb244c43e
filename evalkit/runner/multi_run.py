"""Several runs as one queue: a worker that finds nothing left to do for one checkpoint turns to the next.

Each run has its folder, journal and lock as if it went on alone, and fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from rich.console import Console

from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import BackendFactory, RequestBatch, WorkerPool
from evalkit.jobs import Job
from evalkit.progress.display import Reporter, Watch
from evalkit.progress.events import Events
from evalkit.results.leaderboard import table as board
from evalkit.run import Answers, Stopped, wrap_backend_error
from evalkit.scoring import Result
from evalkit.settings import Effective
from evalkit.types import Request, Response

from .active_run import Run, begun
from .dry_run import warn_of_long_prompts
from .plan import Plan, asked_by
from .signals import stoppable

Ended = Callable[[list[board.Entry]], None]


class Part:
    """One of the runs.

    Attributes:
        over: it has ended, one way or the other.
    """

    def __init__(self, run: Run, stack: ExitStack, factory: BackendFactory, pool: WorkerPool, console: Console) -> None:
        self.run = run
        self.over = False
        self._stack = stack
        self._factory = factory
        self._backend = pool.backend(run.checkpoint)
        self._console = console
        self._heard = self._warned = False
        self._open: dict[str, tuple[Answers, ExitStack, Watch]] = {}
        self._results: dict[str, Result] = {}
        stack.callback(self._close)

    def requests(self, job: Job, reporter: Reporter) -> Sequence[Request]:
        """What is to be asked for ``job``, as far as that was not answered before."""
        with ExitStack() as stack:
            answers, watch = stack.enter_context(self.run.asking(job, None, reporter))
            self._open[job.name] = answers, stack.pop_all(), watch
        if not answers.pending:
            self._whole(job)
            return ()
        if not self._warned:
            self._warned = True
            run = self.run
            warn_of_long_prompts(run.plan, run.checkpoint, self._factory, run.settings, run.seen, run.tell)
        return answers.pending

    def begin(self, job: Job) -> None:
        """The first request of ``job`` goes to a worker that is ready."""
        answers, _, watch = self._open[job.name]
        watch.begin(answers.pending, self._backend)

    def take(self, job: Job, response: Response) -> None:
        """An answer.  Raises whatever ends the run."""
        if not self._heard:
            self._heard = True
            self.run.loaded(self._backend)
            about = self.run.manifest["backend"]
            self._console.print(
                f"[bold]{self.run.plan.label}[/bold] on {about.get('device_name')}, {about.get('dtype')}",
                soft_wrap=True,
            )
        answers, _, _ = self._open[job.name]
        answers.add(response)
        if answers.complete:
            self._whole(job)

    def _whole(self, job: Job) -> None:
        answers, stack, _ = self._open[job.name]
        self._results[job.name] = answers.result(self._factory.name)
        del self._open[job.name]
        stack.close()

    @property
    def whole(self) -> bool:
        """Whether every job has its result."""
        return len(self._results) == len(self.run.plan.jobs)

    def finish(self) -> tuple[list[board.Entry], bool]:
        """Write the scores."""
        self.over = True
        self._note()
        found = self.run.finished([self._results[job.name] for job in self.run.plan.jobs])
        self._stack.close()
        return found

    def stop(self) -> None:
        """A signal stopped it."""
        self.over = True
        self._note()
        self._close()
        self.run.stopped()
        self._stack.close()

    def fail(self, error: Exception) -> None:
        """It cannot go on."""
        self.over = True
        self._note()
        try:
            self._stack.__exit__(type(error), error, error.__traceback__)
        except Exception as again:
            if again is not error:
                raise

    def _close(self) -> None:
        """Jobs in work are left as they are."""
        opened, self._open = self._open, {}
        for _, stack, _ in opened.values():
            stopped = Stopped()
            with suppress(Stopped):
                stack.__exit__(Stopped, stopped, None)

    def _note(self) -> None:
        if self._heard:  # by now it may know more of itself
            self.run.note(self._backend)


@dataclass
class Outcome:
    """What the runs came to."""

    rows: dict[str, list[board.Entry]] = field(default_factory=dict)
    complete: bool = True
    failures: list[tuple[Run, Exception]] = field(default_factory=list)

    @property
    def entries(self) -> list[board.Entry]:
        """Leaderboard rows of the runs that reached their end, in the order in which they were asked for."""
        return [row for rows in self.rows.values() for row in rows]


def evaluate_together(
    plans: Sequence[Plan],
    factory: BackendFactory,
    pool: WorkerPool,
    effective: Effective,
    console: Console,
    events: Events | None,
    on_end: Ended,
) -> Outcome:
    """Run, or continue, all plans at once.

    Raises:
        UserError: one of them cannot be begun; nothing was computed.
        RunFailed: all workers are gone.
    """
    outcome = Outcome()
    with ExitStack() as every:
        parts: list[Part] = []
        for plan in plans:
            chosen = asked_by(plan.family, effective)
            asked = pool.identity(plan.checkpoint, dtype=chosen.settings.dtype)
            stack = every.enter_context(ExitStack())
            run = stack.enter_context(begun(plan, factory, asked, chosen, console, events, several=len(plans) > 1))
            parts.append(Part(run, stack, factory, pool, console))
        outcome.rows = {part.run.name: [] for part in parts}
        jobs = [job for part in parts for job in part.run.plan.jobs]
        run_name = parts[0].run.name if len(parts) == 1 else ""
        for part in parts:
            part.run.started()
        with Reporter(console, jobs, run_name, events) as reporter, stoppable(console) as stop:
            with suppress(KeyboardInterrupt):
                _answer(parts, pool, reporter, stop, outcome, on_end)
            for part in parts:
                if not part.over:
                    outcome.complete = False
                    part.stop()
    return outcome


def _answer(
    parts: Sequence[Part], pool: WorkerPool, reporter: Reporter, stop: Event, outcome: Outcome, on_end: Ended
) -> None:
    """Have everything answered, each answer given to its run as it comes."""
    lots: dict[RequestBatch, tuple[Part, Job]] = {}
    for part in parts:
        for job in part.run.plan.jobs:
            spec, begin = partial(part.requests, job, reporter), partial(part.begin, job)
            lots[RequestBatch(part.run.checkpoint, max(1, len(job.samples)), spec, begin)] = part, job
    ended = partial(_end, outcome=outcome, on_end=on_end)
    for lot, answer in pool.answer(list(lots), stop):
        part, job = lots[lot]
        if part.over:
            continue
        try:
            if isinstance(answer, Exception):
                raise wrap_backend_error(job, "hf", answer) from answer
            part.take(job, answer)
            if part.whole:
                ended(part)
        except Exception as error:
            for other, (owner, _) in lots.items():
                if owner is part:
                    pool.drop(other)
            part.fail(error)
            outcome.failures.append((part.run, error))
    for part in parts:
        if not part.over and part.whole:  # nothing was left to be asked
            ended(part)


def _end(part: Part, outcome: Outcome, on_end: Ended) -> None:
    entries, complete = part.finish()
    outcome.rows[part.run.name] = entries
    outcome.complete &= complete
    on_end(entries)


def raise_first(outcome: Outcome, console: Console) -> None:
    """Raise what the first run failed of, having told of all others."""
    for run, error in outcome.failures[1:]:
        console.print(f"[red]{run.plan.label}[/red]: {error}", soft_wrap=True, highlight=False)
    if outcome.failures:
        _, error = outcome.failures[0]
        raise error if isinstance(error, (UserError, RunFailed)) else RunFailed(str(error)) from error
