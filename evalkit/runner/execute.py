"""Run every model on every task: joins the core, a backend and the run folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import registry
from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import Backend, BackendFactory, WorkerPool
from evalkit.jobs import parse_tasks
from evalkit.options import RunSettings
from evalkit.progress.display import Reporter
from evalkit.progress.events import Events
from evalkit.results.leaderboard import table as board
from evalkit.run import Stopped, answered
from evalkit.scoring import Result
from evalkit.settings import Effective

from .active_run import ActiveRun, open_run
from .dry_run import check_requests, show_requests, warn_of_long_prompts
from .finish import plot_shots
from .lazy_backend import LazyBackend
from .manifest import announce
from .multi_run import evaluate_plans, raise_first_failure
from .plan import Plan, make_plans, resolve_models, with_family_defaults
from .served_models import connect_models, server_backend
from .signals import stoppable
from .trackers import log_run, targets_of


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
    settings = effective.settings
    console = Console(quiet=True) if console is None else console

    # Every user mistake is found before the first weight is loaded.
    targets = targets_of(log_to)
    wanted = parse_tasks(settings.tasks, settings.split, settings.kind)
    server = server_backend(settings)
    models = resolve_models(effective, console) if server is None else connect_models(server, effective, console)
    plans = [
        one
        for checkpoint, family in models
        for one in make_plans(wanted, checkpoint, family, with_family_defaults(family, effective).settings)
    ]
    with console.status("starting"):
        factory = registry.backends.get(settings.backend)  # last: it imports torch, which takes seconds
    if dry:
        for one in plans:
            show_requests(one, factory, with_family_defaults(one.family, effective).settings)
        return 0

    entries: list[board.Entry] = []
    code = 0

    def log_finished(rows: Sequence[board.Entry]) -> None:
        nonlocal code
        if not log_run(Path(settings.out) / rows[0].run, targets, lambda message: announce(console, message)):
            code = 1

    pool = open_worker_pool(factory, settings)
    result = None
    try:
        if pool is not None and settings.shots_by != "similar":  # which needs the model to build requests
            result = evaluate_plans(plans, factory, pool, effective, console, events, log_finished)
            entries, code = result.entries, max(code, 0 if result.complete else 1)
        else:
            for one in plans:
                rows, complete = evaluate(
                    one, factory, pool, with_family_defaults(one.family, effective), console, events
                )
                entries += rows
                code = max(code, 0 if complete else 1)
                if rows == []:  # stopped
                    break
                log_finished(rows)
    finally:
        if pool is not None:
            pool.close()
    if entries and show is not None:
        show(entries)
    if len(settings.shots) > 1 and entries:
        plot_shots(plans, entries, Path(settings.out), console)
    if events is not None:
        events.code = code
    if result is not None:
        raise_first_failure(result, console)
    return code


def open_worker_pool(factory: BackendFactory, settings: RunSettings) -> WorkerPool | None:
    """The worker pool that the settings ask for; None if one backend in this process answers everything.

    Raises:
        UserError: the backend has no workers, or they cannot be started.
    """
    return factory.worker_pool(
        device=settings.device, dtype=settings.dtype, batching=settings.batching, cluster=settings.cluster
    )


def evaluate(
    plan: Plan,
    factory: BackendFactory,
    pool: WorkerPool | None,
    effective: Effective,
    console: Console,
    events: Events | None = None,
) -> tuple[list[board.Entry], bool]:
    """Start or resume one model's run; returns its leaderboard rows (none: stopped), and whether it is complete."""
    settings = effective.settings
    asked = backend_identity(factory, pool, plan.checkpoint, settings)
    with open_run(plan, factory, asked, effective, console, events) as run:

        def opened() -> Backend:
            check_requests(plan, run.checkpoint, factory)
            warn_of_long_prompts(plan, run.checkpoint, factory, settings, run.resizer, run.announce)
            backend = _opened(factory, pool, run.checkpoint, settings, console)
            run.backend_loaded(backend)
            return backend

        backend = LazyBackend(factory.name, opened)
        try:
            results = run_all(run, backend, console, events)
        finally:
            backend.if_open(run.note_backend)  # its description may have more entries by now
        return ([], False) if results is None else run.finish(results)


def backend_identity(
    factory: BackendFactory, pool: WorkerPool | None, checkpoint: Checkpoint, settings: RunSettings
) -> Mapping[str, Any]:
    """The backend's part of a run's identity."""
    if pool is not None:
        return pool.identity(checkpoint, dtype=settings.dtype)
    return factory.identity(checkpoint, device=settings.device, dtype=settings.dtype)


def _opened(
    factory: BackendFactory, pool: WorkerPool | None, checkpoint: Checkpoint, settings: RunSettings, console: Console
) -> Backend:
    began = time.monotonic()
    with console.status(f"loading {checkpoint.name}"):
        if pool is not None:
            backend = pool.open(checkpoint)
        else:
            backend = factory.open(checkpoint, device=settings.device, dtype=settings.dtype, batching=settings.batching)
    about = backend.describe()
    size = about.get("batch_size")
    batches = "one sample at a time, " if settings.exact else f"batches of up to {size}, " if size is not None else ""
    if checkpoint.served is not None:
        return backend  # nothing was loaded, and the server has been reported
    console.print(
        f"[bold]{checkpoint.name}[/bold] on {about.get('device_name', about.get('device'))}, {about.get('dtype')}, "
        f"{batches}loaded in {time.monotonic() - began:.1f} s",
        soft_wrap=not console.is_terminal,
    )
    return backend


def run_all(
    run: ActiveRun, backend: LazyBackend, console: Console, events: Events | None = None
) -> list[Result] | None:
    """Run every job in turn; None if a signal stopped it.

    Raises:
        RunFailed: more than ``--max-errors`` samples failed, or the backend did.
    """
    results = []
    run.announce_start()
    with Reporter(console, run.plan.jobs, run.name, events) as reporter, stoppable(console) as stop:
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
