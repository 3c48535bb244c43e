"""Run every model on every task: joins the core, a backend and the run folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from evalkit import registry
from evalkit.interfaces import Backend, BackendFactory, Family, WorkerPool
from evalkit.options import RunSettings
from evalkit.progress.display import Reporter
from evalkit.progress.events import Events
from evalkit.results.leaderboard import table as board
from evalkit.results.store.run_folder import RunFolder
from evalkit.run import Stopped, answered
from evalkit.scoring import Result, is_judged
from evalkit.settings import Effective
from evalkit.task_names import parse_tasks
from evalkit.text_console import TextConsole
from evalkit.waiting import while_waiting

from .active_run import ActiveRun, open_run
from .backend import backend_identity, launched_backend, open_worker_pool, opened_backend
from .dry_run import check_requests, show_requests, warn_of_long_prompts
from .finish import plot_shots
from .judge import JudgeSettings, OpenedJudge, find_judge, release_memory
from .judging import judge_run
from .launched_models import launch_of, launched_models
from .lazy_backend import LazyBackend
from .manifest import announce
from .multi_run import MultiRunResult, evaluate_plans, raise_first_failure
from .plan import Plan, check_video_options, make_plans, prompts_of, resolve_models, with_family_defaults
from .remembered_backend import backend_factory
from .served_models import connect_models, server_backend
from .signals import interruptible, stoppable
from .subset_runs import tasks_of
from .trackers import Target, log_run, targets_of


def execute(
    effective: Effective,
    *,
    console: Console | None = None,
    show: Callable[[Sequence[board.Entry]], None] | None = None,
    dry: bool = False,
    events: Events | None = None,
    log_to: Sequence[str] = (),
) -> int:
    """Run every model on every task; returns the exit code.  Needs no terminal.

    Args:
        console: where messages and progress go; None for nowhere.
        show: called with the leaderboard rows of the finished runs.
        dry: only print the prompts, on stdout.
        log_to: trackers to log each finished run to.

    Raises:
        UserError: a mistake in the settings or the data.
        RunFailed: a run failed.
    """
    console = TextConsole(quiet=True) if console is None else console
    execution = Execution(effective, console, events)
    try:
        with interruptible():
            execution.plan(log_to)
            if dry:
                execution.show_prompts()
                return 0
            execution.run_plans()
            execution.judge_answers()
            execution.finish(show)
    except KeyboardInterrupt:  # outside of the runs, which report their own end
        console.print(execution.stopped(), soft_wrap=True)
        execution.code = 1
    if events is not None:
        events.code = execution.code
    return execution.code


class Execution:
    """One command: its plans and their results.

    Attributes:
        plans: one per model and number of shots.
        entries: leaderboard rows of the finished runs.
        code: the exit code so far.
    """

    def __init__(self, effective: Effective, console: Console, events: Events | None) -> None:
        self.plans: Sequence[Plan] = ()
        self.entries: list[board.Entry] = []
        self.code = 0
        self._effective = effective
        self._console = console
        self._events = events
        self._targets: Sequence[Target] = ()
        self._failures = MultiRunResult()
        self._judge: OpenedJudge | None = None
        self._unjudged: list[tuple[Plan, RunFolder, bool]] = []  # with whether all samples have answers

    def plan(self, log_to: Sequence[str]) -> None:
        """Find every user mistake before the first weight is loaded, and make the plans."""
        settings, console = self._effective.settings, self._console
        self._targets = targets_of(log_to)
        local = settings.backend == RunSettings.backend  # takes seconds to import, and will probably be needed
        with while_waiting(lambda: registry.backends.get(settings.backend)) if local else nullcontext():
            wanted = parse_tasks(tasks_of(settings.subset, settings.tasks), settings.split, settings.kind)
        given = prompts_of(self._effective, wanted)
        server = server_backend(settings)
        if server is None:
            models = resolve_models(self._effective, console, given)
        elif server.launches:
            models = launched_models(server, self._effective, console, given)
        else:
            models = connect_models(server, self._effective, console, given)
        self.plans = [
            plan
            for checkpoint, family in models
            for plan in make_plans(wanted, checkpoint, family, self._with_defaults(family).settings, given)
        ]
        check_video_options(self._effective, self.plans)
        named = "command line" in (self._effective.sources["judge"], self._effective.sources["judge_base_url"])
        jobs = self.plans[0].jobs if self.plans else ()
        self._judge = find_judge(JudgeSettings.of(settings), jobs, console, named=named)
        for plan in self.plans:
            if settings.max_new_tokens is None and (limit := plan.jobs[0].thinking_limit) is not None:
                console.print(
                    f"{plan.label} thinks before it answers: up to {limit:,} new tokens (--max-new-tokens)",
                    soft_wrap=True, highlight=False,
                )  # fmt: skip
        self._factory = backend_factory(settings.backend)

    def show_prompts(self) -> None:
        """Print the prompts of every plan."""
        for plan in self.plans:
            show_requests(plan, self._factory, self._with_defaults(plan.family).settings)

    def run_plans(self) -> None:
        """Start or resume every plan's run."""
        settings = self._effective.settings
        pool = open_worker_pool(self._factory, settings)
        try:
            if pool is not None and settings.shots_by != "similar":  # which needs the model to build requests
                self._failures = result = evaluate_plans(
                    self.plans, self._factory, pool, self._effective, self._console, self._events, self._ended
                )
                self.entries = result.entries
                self._failed_unless(result.complete)
            else:
                self._run_in_turn(pool)
        finally:
            if pool is not None:
                pool.close()

    def judge_answers(self) -> None:
        """Have the answers judged that need it, once the models' memory is free: a judge can be a large model."""
        if self._judge is None or not self._unjudged:
            return
        release_memory()
        try:
            for plan, folder, answered in self._unjudged:
                rows, complete = judge_run(
                    plan, folder, self._judge, self._console, answered=answered,
                    max_errors=self._effective.settings.max_errors,
                )  # fmt: skip
                self._failed_unless(complete)
                if rows is None:  # stopped
                    return
                self.entries += rows
                self._log_finished(folder)
                if self._events is not None:
                    self._events.judged(folder.path.name, [entry.row.to_dict() for entry in rows], complete)
        finally:
            self._judge.close()

    def finish(self, show: Callable[[Sequence[board.Entry]], None] | None) -> None:
        """Show the leaderboard and the plot of a sweep over shots, and raise the first run's failure."""
        settings = self._effective.settings
        if self.entries and show is not None:
            show(self.entries)
        if len(settings.shots) > 1 and self.entries:
            plot_shots(self.plans, self.entries, Path(settings.out), self._console)
        raise_first_failure(self._failures, self._console)

    def stopped(self) -> str:
        """The message after an interruption before the first sample, or after the last one."""
        total = sum(job.answers for plan in self.plans for job in plan.jobs)
        known = f" of {total:,}" if total else ""
        what = "samples" if self._effective.settings.repeats == 1 else "answers"
        start = "Stopped." if self.entries else f"Stopped at 0{known} {what}."
        return f"{start} Run the same command to resume."

    def _run_in_turn(self, pool: WorkerPool | None) -> None:
        for plan in self.plans:
            effective = self._with_defaults(plan.family)
            ended = evaluate(plan, self._factory, pool, effective, self._console, self._events)
            if ended is None:  # stopped
                self._failed_unless(False)
                return
            self.entries += ended[1]
            self._ended(*ended)

    def _ended(self, run: ActiveRun, rows: Sequence[board.Entry], complete: bool) -> None:
        """Log a finished run, or note that its answers are to be judged."""
        self._failed_unless(complete)
        if any(is_judged(job) for job in run.plan.jobs):
            self._unjudged.append((run.plan, run.folder, complete))
        else:
            self._log_finished(run.folder)

    def _log_finished(self, folder: RunFolder) -> None:
        self._failed_unless(log_run(folder.path, self._targets, lambda message: announce(self._console, message)))

    def _failed_unless(self, success: bool) -> None:
        self.code = self.code if success else 1

    def _with_defaults(self, family: Family) -> Effective:
        return with_family_defaults(family, self._effective)


def evaluate(
    plan: Plan,
    factory: BackendFactory,
    pool: WorkerPool | None,
    effective: Effective,
    console: Console,
    events: Events | None = None,
) -> tuple[ActiveRun, list[board.Entry], bool] | None:
    """Start or resume one model's run; returns it with its leaderboard rows and whether it is complete.

    None if it was stopped.
    """
    settings = effective.settings
    backend_parts = backend_identity(factory, pool, plan.checkpoint, settings)
    with open_run(plan, factory, backend_parts, effective, console, events) as run:

        def opened() -> Backend:
            with console.status("starting"):  # this imports torch, which takes seconds
                check_requests(plan, run.checkpoint, factory)
            warn_of_long_prompts(plan, run.checkpoint, factory, settings, run.resizer, run.announce)
            if factory.launches:
                backend = launched_backend(
                    factory, run.checkpoint, launch_of(run, plan, lazy), run.announce, console
                )  # fmt: skip
            else:
                backend = opened_backend(factory, pool, run.checkpoint, settings, console)
            run.backend_loaded(backend)
            return backend

        lazy = LazyBackend(factory.name, opened)
        try:
            run.announce_start()
            reporter = Reporter(console, plan.jobs, run.name, events)
            if (found := run.proof.unchanged()) is not None:
                return run, run.finish_unchanged(found, reporter), True
            results = run_all(run, lazy, console, reporter)
            if results is None:
                return None
            entries, complete = run.finish(results)
            if complete:
                run.proof.remember(
                    reporter.ended, {r.job.name: r.unparsed_reason for r in results if r.unparsed_reason}
                )
            return run, entries, complete
        except KeyboardInterrupt:
            run.announce_stop()
            return None
        finally:
            lazy.if_open(run.note_backend)  # its description may have new entries
            if factory.launches:
                lazy.close()  # each run has its own servers


def run_all(run: ActiveRun, backend: LazyBackend, console: Console, reporter: Reporter) -> list[Result] | None:
    """Run every job in turn; None if a signal stopped it.

    Raises:
        RunFailed: more than ``--max-errors`` samples failed, or the backend did.
    """
    results = []
    with reporter, stoppable(console) as stop:
        try:
            for job in run.plan.jobs:
                with run.open_job(job, backend, reporter) as (answers, watch):
                    backend.on_begin = watch.begin
                    results.append(answered(answers, backend, stop))
                run.add_result(results[-1])
        except (Stopped, KeyboardInterrupt):
            run.announce_stop()
            return None
    return results
