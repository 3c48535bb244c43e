"""Several runs on one work queue; idle workers switch to the next checkpoint.

Each run has its own folder, journal and lock, and fails without affecting the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from rich.console import Console
from rich.text import Text

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

from .active_run import ActiveRun, open_run
from .dry_run import check_requests, warn_of_long_prompts
from .plan import Plan, with_family_defaults
from .signals import stoppable

RunEnded = Callable[[ActiveRun, list[board.Entry], bool], None]
"""Called with a finished run, its leaderboard rows, and whether it is complete."""


class PooledRun:
    """One of the runs that share a worker pool.

    Attributes:
        ended: whether it has finished, stopped or failed.
    """

    def __init__(
        self, run: ActiveRun, stack: ExitStack, factory: BackendFactory, pool: WorkerPool, console: Console
    ) -> None:
        self.run = run
        self.ended = False
        self._stack = stack
        self._factory = factory
        self._backend = pool.backend(run.checkpoint)
        self._console = console
        self._answered = self._warned = False
        self._open: dict[str, tuple[Answers, ExitStack, Watch]] = {}
        self._results: dict[str, Result] = {}
        stack.callback(self._close)

    def requests(self, job: Job, reporter: Reporter) -> Sequence[Request]:
        """The requests of ``job`` that have no answer yet."""
        with ExitStack() as stack:
            answers, watch = stack.enter_context(self.run.open_job(job, None, reporter))
            self._open[job.name] = answers, stack.pop_all(), watch
        if not answers.pending:
            self._complete(job)
            return ()
        if not self._warned:
            self._warned = True
            run = self.run
            warn_of_long_prompts(run.plan, run.checkpoint, self._factory, run.settings, run.resizer, run.announce)
        return answers.pending

    def begin(self, job: Job) -> None:
        """Record that the first request of ``job`` is sent to a worker that is ready."""
        answers, _, watch = self._open[job.name]
        watch.begin(answers.pending, self._backend)

    def add(self, job: Job, response: Response) -> None:
        """Record a response.  Raises whatever ends the run."""
        if not self._answered:
            self._answered = True
            self.run.backend_loaded(self._backend)
            about = self.run.manifest.backend or {}
            self._console.print(
                Text.assemble((self.run.plan.label, "bold"), f" on {about.get('device_name')}, {about.get('dtype')}"),
                soft_wrap=True,
            )
        answers, _, _ = self._open[job.name]
        answers.add(response)
        if answers.complete:
            self._complete(job)

    def _complete(self, job: Job) -> None:
        answers, stack, _ = self._open[job.name]
        self._results[job.name] = answers.result(self._factory.name)
        del self._open[job.name]
        stack.close()
        self.run.add_result(self._results[job.name])

    @property
    def complete(self) -> bool:
        """Whether every job has its result."""
        return len(self._results) == len(self.run.plan.jobs)

    def finish(self) -> tuple[list[board.Entry], bool]:
        """Write the scores; returns what ``ActiveRun.finish`` does."""
        self.ended = True
        self._update_manifest()
        result = self.run.finish([self._results[job.name] for job in self.run.plan.jobs])
        self._stack.close()
        return result

    def stop(self) -> None:
        """End the run after a signal."""
        self.ended = True
        self._update_manifest()
        self._close()
        self.run.announce_stop()
        self._stack.close()

    def fail(self, error: Exception) -> None:
        """End the run after an error."""
        self.ended = True
        self._update_manifest()
        try:
            self._stack.__exit__(type(error), error, error.__traceback__)
        except Exception as raised:
            if raised is not error:
                raise

    def _close(self) -> None:
        """Close the jobs in progress; they can be resumed."""
        opened, self._open = self._open, {}
        for _, stack, _ in opened.values():
            stopped = Stopped()
            with suppress(Stopped):
                stack.__exit__(Stopped, stopped, None)

    def _update_manifest(self) -> None:
        if self._answered:  # its description may have new entries
            self.run.note_backend(self._backend)


@dataclass
class MultiRunResult:
    """The results of several runs.

    Attributes:
        rows: leaderboard rows, by the run's name.
        complete: whether every run finished without failed samples.
        failures: the runs that failed, each with its error.
    """

    rows: dict[str, list[board.Entry]] = field(default_factory=dict)
    complete: bool = True
    failures: list[tuple[ActiveRun, Exception]] = field(default_factory=list)

    @property
    def entries(self) -> list[board.Entry]:
        """Leaderboard rows of the finished runs, in the order of the plans."""
        return [row for rows in self.rows.values() for row in rows]


def evaluate_plans(
    plans: Sequence[Plan],
    factory: BackendFactory,
    pool: WorkerPool,
    effective: Effective,
    console: Console,
    events: Events | None,
    on_end: RunEnded,
) -> MultiRunResult:
    """Run or resume all plans on one worker pool.

    Args:
        on_end: is called for each run that finishes.

    Raises:
        UserError: one of them cannot start; nothing was computed.
        RunFailed: all workers died.
    """
    result = MultiRunResult()
    with ExitStack() as stacks:
        runs: list[PooledRun] = []
        for plan in plans:
            chosen = with_family_defaults(plan.family, effective)
            backend_parts = pool.identity(plan.checkpoint, dtype=chosen.settings.dtype)
            stack = stacks.enter_context(ExitStack())
            run = stack.enter_context(
                open_run(plan, factory, backend_parts, chosen, console, events, several=len(plans) > 1)
            )
            check_requests(plan, run.checkpoint, factory)
            runs.append(PooledRun(run, stack, factory, pool, console))
        result.rows = {pooled.run.name: [] for pooled in runs}
        jobs = [job for pooled in runs for job in pooled.run.plan.jobs]
        run_name = runs[0].run.name if len(runs) == 1 else ""
        for pooled in runs:
            pooled.run.announce_start()
        with Reporter(console, jobs, run_name, events) as reporter, stoppable(console) as stop:
            with suppress(KeyboardInterrupt):
                _answer(runs, pool, reporter, stop, result, on_end)
            for pooled in runs:
                if not pooled.ended:
                    result.complete = False
                    pooled.stop()
    return result


def _answer(
    runs: Sequence[PooledRun],
    pool: WorkerPool,
    reporter: Reporter,
    stop: Event,
    result: MultiRunResult,
    on_end: RunEnded,
) -> None:
    """Answer all requests, and pass each response to its run when it arrives."""
    batches: dict[RequestBatch, tuple[PooledRun, Job]] = {}
    for pooled in runs:
        for job in pooled.run.plan.jobs:
            requests, begin = partial(pooled.requests, job, reporter), partial(pooled.begin, job)
            batches[RequestBatch(pooled.run.checkpoint, max(1, job.answers), requests, begin)] = pooled, job
    finish = partial(_finish, result=result, on_end=on_end)
    for batch, answer in pool.answer(list(batches), stop):
        pooled, job = batches[batch]
        if pooled.ended:
            continue
        try:
            if isinstance(answer, Exception):
                raise wrap_backend_error(job, "hf", answer) from answer
            pooled.add(job, answer)
            if pooled.complete:
                finish(pooled)
        except Exception as error:
            for other, (owner, _) in batches.items():
                if owner is pooled:
                    pool.drop(other)
            pooled.fail(error)
            result.failures.append((pooled.run, error))
    for pooled in runs:
        if not pooled.ended and pooled.complete:  # all its samples were answered before
            finish(pooled)


def _finish(pooled: PooledRun, result: MultiRunResult, on_end: RunEnded) -> None:
    entries, complete = pooled.finish()
    result.rows[pooled.run.name] = entries
    result.complete &= complete
    on_end(pooled.run, entries, complete)


def raise_first_failure(result: MultiRunResult, console: Console) -> None:
    """Print the errors of all failed runs but the first, and raise the first one's."""
    for run, error in result.failures[1:]:
        console.print(Text.assemble((run.plan.label, "red"), f": {error}"), soft_wrap=True)
    if result.failures:
        _, error = result.failures[0]
        raise error if isinstance(error, (UserError, RunFailed)) else RunFailed(str(error)) from error
