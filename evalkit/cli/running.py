"""What ``evalkit run`` does once its settings are known: it joins the core, a backend and the store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import fingerprint, registry
from evalkit.checkpoint import Checkpoint, fetched
from evalkit.errors import RunFailed, UserError
from evalkit.identity import digest, run_parts, split_parts
from evalkit.results import leaderboard as board
from evalkit.results.folder import RunFolder, Wanted, choose
from evalkit.results.journal import appending
from evalkit.run import (
    PictureDigests,
    Record,
    Result,
    Stopped,
    ask_all,
    parse_tasks,
    run_job,
)
from evalkit.settings import Effective, RunSettings
from evalkit.types import Backend, BackendFactory

from .asking import Seen, asker, seen_by
from .dry import show_requests, warn_of_long_prompts
from .ending import draw_shots, end, show, write_scores
from .events import Events
from .lazy import Lazy
from .logging_to import log_run, targets_of
from .planning import Plan, asked_by, planned, stem_of, to_load
from .progress import Reporter
from .recording import logged, make_manifest, now, quiet_logging, recorded, tell
from .resuming import kept_answers
from .serving import identity_of, reached, server_of, unknown_sizes
from .stopping import stoppable


def execute(
    effective: Effective, *, dry: bool = False, events: Events | None = None, log_to: Sequence[str] = ()
) -> int:
    """Run every model on every task; returns the exit code.  ``dry`` only shows what would be asked.

    ``log_to`` are the trackers that each finished run is logged to.
    """
    settings = effective.settings
    console = Console(stderr=True, highlight=False)
    quiet_logging()

    # Everything the user can have got wrong is looked at before the first weight is loaded.
    targets = targets_of(log_to)
    wanted = parse_tasks(settings.tasks, settings.split, settings.kind)
    server = server_of(settings)
    models = to_load(effective, console) if server is None else reached(server, effective, console)
    plans = [
        one
        for checkpoint, family in models
        for one in planned(wanted, checkpoint, family, asked_by(family, effective).settings)
    ]
    with console.status("starting"):
        factory = registry.backends.get(settings.backend)  # last: it imports torch, which takes seconds
    if dry:
        for one in plans:
            show_requests(one, factory, asked_by(one.family, effective).settings)
        return 0

    entries: list[board.Entry] = []
    code = 0
    for one in plans:
        rows, complete = evaluate(one, factory, asked_by(one.family, effective), console, events)
        entries += rows
        code = max(code, 0 if complete else 1)
        if rows == []:  # stopped
            break
        if not log_run(Path(settings.out) / rows[0].run, targets, lambda sentence: tell(console, sentence)):
            code = 1
    if entries:
        show(entries)
    if len(settings.shots) > 1 and entries:
        draw_shots(plans, entries, Path(settings.out), console)
    if events is not None:
        events.code = code
    return code


def identified(checkpoint: Checkpoint, console: Console) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint with its files at hand, and what it is: digests of what is in them, or what a server says."""
    if checkpoint.served is not None:
        return checkpoint, identity_of(checkpoint)
    with console.status(f"reading the weights of {checkpoint.name}"):
        checkpoint = fetched(checkpoint)
        own: dict[str, Any] = {
            **fingerprint.of_checkpoint(
                Path(checkpoint.location), pickled=checkpoint.pickled, code=checkpoint.trust_remote_code
            )
        }
        if checkpoint.adapter is not None:
            own["adapter"] = fingerprint.of_adapter(Path(checkpoint.adapter), pickled=checkpoint.allow_pickled_weights)
    return checkpoint, own


def evaluate(
    plan: Plan, factory: BackendFactory, effective: Effective, console: Console, events: Events | None = None
) -> tuple[list[board.Entry], bool]:
    """Run, or continue, one model's run; returns its leaderboard rows (none: stopped), and whether it is whole."""
    settings = effective.settings
    checkpoint = plan.checkpoint
    asked = factory.identity(checkpoint, device=settings.device, dtype=settings.dtype)
    checkpoint, own = identified(checkpoint, console)
    parts = run_parts(own, plan.family, asked, settings, plan.shots)
    splits = {job.name: split_parts(job, plan.family, plan.pools.get(job.name)) for job in plan.jobs}
    folder, said = choose(
        Path(settings.out),
        Wanted(checkpoint.name, parts, splits, stem_of(plan)),
        name=settings.name,
        fresh=settings.fresh,
    )
    with folder.locked():
        before = folder.read_manifest() if (folder.path / "manifest.json").is_file() else {}
        manifest = {
            **before,
            **make_manifest(effective, plan),
            "created": before.get("created", now()),
            "identity": digest(parts),
            "parts": parts,
            "splits": {
                **before.get("splits", {}),
                **{
                    job.name: {
                        "reference": job.reference, "parts": splits[job.name], "limit": settings.limit,
                        "asked": job.asked,
                        "samples": len(job.samples),
                    }
                    for job in plan.jobs
                },
            },
            "model": {"name": checkpoint.name, "location": checkpoint.location, "model_type": checkpoint.model_type},
        }  # fmt: skip
        if checkpoint.served is not None:
            manifest["server"] = checkpoint.served.recorded()
        with logged(folder), recorded(folder, manifest, console) as record:
            for sentence in said:
                if len(settings.shots) == 1 or not sentence.startswith("another run"):  # in a sweep that is the point
                    tell(console, sentence)

            seen = seen_by(plan, checkpoint, factory)

            def opened() -> Backend:
                warn_of_long_prompts(
                    plan, checkpoint, factory, settings, seen, lambda sentence: tell(console, sentence)
                )
                backend = _opened(factory, checkpoint, settings, console)
                manifest["backend"] = dict(backend.describe())
                for sentence in unknown_sizes(plan.jobs, plan.family, manifest["backend"]):
                    tell(console, sentence)
                record()
                return backend

            def told_of(backend: Backend) -> None:  # by now it may know more of itself
                manifest["backend"] = dict(backend.describe())

            backend = Lazy(factory.name, opened)
            try:
                results = run_all(plan, settings, backend, folder, console, seen, events)
            except UserError:
                # The checkpoint could not be loaded, say: nothing is left behind by a mistake.
                if not before and not folder.answered():
                    shutil.rmtree(folder.path, ignore_errors=True)
                    with suppress(OSError):
                        folder.path.parent.rmdir()  # if there is nothing else in it
                raise
            finally:
                backend.if_open(told_of)
            name = folder.path.name
            told: dict[str, Any] = {"run": name, "folder": str(folder.path), "model": plan.label, "results": []}
            if results is None:
                if events is not None:
                    events.runs.append({**told, "state": "stopped"})
                return [], False
            header = {"run": name, "model": plan.label, "family": plan.family.name, "data": plan.data}
            entries = write_scores(folder, header, results)
            for entry in entries:
                split = f"{entry.row['task']}/{entry.row['split']}"
                if split in manifest["splits"]:
                    manifest["splits"][split]["signature"] = entry.row["signature"]
            manifest["state"] = end(folder, results, console)
            if events is not None:
                rows = [entry.row for entry in entries]
                events.runs.append({**told, "state": manifest["state"], "results": rows})
            return entries, not any(r.errors for r in results)


def _opened(factory: BackendFactory, checkpoint: Checkpoint, settings: RunSettings, console: Console) -> Backend:
    began = time.monotonic()
    with console.status(f"loading {checkpoint.name}"):
        backend = factory.open(checkpoint, device=settings.device, dtype=settings.dtype, batching=settings.batching)
    about = backend.describe()
    size = about.get("batch_size")
    batches = "one sample at a time, " if settings.exact else f"batches of up to {size}, " if size is not None else ""
    if checkpoint.served is not None:
        return backend  # nothing was loaded, and what there is to say has been said
    console.print(
        f"[bold]{checkpoint.name}[/bold] on {about.get('device_name', about.get('device'))}, {about.get('dtype')}, "
        f"{batches}loaded in {time.monotonic() - began:.1f} s",
        soft_wrap=not console.is_terminal,
    )
    return backend


def run_all(
    plan: Plan,
    settings: RunSettings,
    backend: Lazy,
    folder: RunFolder,
    console: Console,
    seen: Seen,
    events: Events | None = None,
) -> list[Result] | None:
    """Every job in turn, each new answer journalled as it arrives; None when a signal stopped it.

    Raises:
        RunFailed: more than ``--max-errors`` samples failed, or something that a run relies on.
    """
    results = []
    errors = answered = 0
    run = folder.path.name
    if events is not None:
        tasks = [{"task": j.task.name, "split": j.split, "samples": len(j.samples)} for j in plan.jobs]
        events.tell("start", run=run, model=plan.label, tasks=tasks)
    with Reporter(console, plan.jobs, run, events) as reporter, stoppable(console) as stop:
        try:
            for job in plan.jobs:
                questions = ask_all(job, plan.family, asker(plan, job, settings, seen, backend))
                with PictureDigests(question.request for question in questions.values()) as digests:
                    kept = kept_answers(job, questions, plan.family, folder, digests, lambda s: tell(console, s))
                    answered += len(kept)
                    path = folder.journal_path(job.task.name, job.split)
                    with appending(path) as journal, reporter.of(job, kept.values(), plan.sizes) as watch:
                        backend.on_begin = watch.begin

                        def on_record(
                            record: Record, journal: Any = journal, seen: Any = watch.seen, where: str = job.name
                        ) -> None:
                            nonlocal errors, answered
                            journal.append(record)
                            seen(record)
                            answered += 1
                            errors += record.response.finish == "error"
                            if errors > settings.max_errors:
                                raise RunFailed(
                                    f"{where}: {errors} samples have failed (--max-errors {settings.max_errors}), the "
                                    f"last one with {record.response.error}; the same command tries them again."
                                )

                        results.append(
                            run_job(
                                job, questions, plan.family, backend, on_record,
                                digests=digests, kept=kept, stop=stop,
                            )
                        )  # fmt: skip
        except (Stopped, KeyboardInterrupt):
            total = sum(len(job.samples) for job in plan.jobs)
            tell(console, f"stopped with {answered:,} of {total:,} answered; the same command continues")
            return None
    return results
