"""What ``evalkit run`` does once its settings are known: it joins the core, a backend and the store."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import __version__, fingerprint, registry
from evalkit.checkpoint import BUNDLED, Checkpoint, expanded, fetched, resolve_checkpoint
from evalkit.data import check_pictures, open_data
from evalkit.decoding import described
from evalkit.errors import RunFailed, UserError
from evalkit.identity import digest, run_parts, split_parts
from evalkit.results import leaderboard as board
from evalkit.results.files import write_atomically
from evalkit.results.folder import RunFolder, Wanted, choose
from evalkit.results.journal import appending
from evalkit.results.store import write_results
from evalkit.run import (
    GENERATE,
    Job,
    PictureDigests,
    Record,
    Result,
    Stopped,
    ask_all,
    load_job,
    parse_tasks,
    run_job,
    way_to_choose,
)
from evalkit.settings import Effective, RunSettings, default_data
from evalkit.shots import Exemplars, Pool, pool_of, solved
from evalkit.types import Backend, BackendFactory, Family, Frame, Frames, Sample, Shot, Size, Task

from .dry import show_requests, warn_of_long_prompts
from .events import Events
from .lazy import Lazy
from .logging_to import log_run, targets_of
from .progress import Reporter
from .resuming import kept_answers
from .serving import identity_of, reached, server_of, unknown_sizes
from .stopping import stoppable

log = logging.getLogger("evalkit")

Seen = Callable[[Size], Frame]


@dataclass(frozen=True)
class Plan:
    """One model under one number of exemplars, with everything it is to be asked.

    ``pools`` of exemplars and the samples with the ``largest`` pictures are by job, ``sizes`` by the picture's name.
    """

    checkpoint: Checkpoint
    family: Family
    data: str
    data_source: str
    jobs: Sequence[Job]
    shots: int
    pools: Mapping[str, Pool]
    largest: Mapping[str, Sample]
    sizes: Mapping[str, Size]

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.checkpoint.name} ({self.shots}-shot)" if self.shots else self.checkpoint.name


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


def to_load(effective: Effective, console: Console) -> list[tuple[Checkpoint, Family]]:
    """Every checkpoint that is named, and how it is asked."""
    settings = effective.settings
    models = expanded(settings.model)
    if settings.name is not None and len(models) > 1:
        raise UserError(f"--name {settings.name}: {len(models)} models make {len(models)} runs; leave --name out.")
    checkpoints = [opened_as(settings, model) for model in models]
    families = [family_of(checkpoint, settings.family, console) for checkpoint in checkpoints]
    if effective.sources["model"] == "default":
        console.print(
            "[yellow]no --model given: evaluating the bundled tiny checkpoint[/yellow] (a real but tiny model)"
        )
    return list(zip(checkpoints, families, strict=True))


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


@contextmanager
def recorded(folder: RunFolder, manifest: dict[str, Any], console: Console) -> Iterator[Callable[[], None]]:
    """The manifest says that the run goes on and how it ended; the value writes it as it is now."""
    command = {"at": now(), "command": sys.argv, "cwd": str(Path.cwd())}
    manifest["history"] = [*manifest.get("history", []), command]
    manifest["state"] = "running"
    manifest.pop("finished", None)

    def record() -> None:
        folder.write_manifest(manifest)

    record()
    try:
        yield record
    except BaseException as error:
        manifest["state"] = f"failed: {error}" if isinstance(error, RunFailed) else f"stopped: {type(error).__name__}"
        if isinstance(error, Exception) and not isinstance(error, UserError):
            log.info("the run failed", exc_info=error)
        if folder.path.is_dir():
            console.print(f"what was answered is in {folder.path}", soft_wrap=True)
        raise
    finally:
        manifest["finished"] = command["until"] = now()
        command["state"] = manifest["state"] = "stopped" if manifest["state"] == "running" else manifest["state"]
        if folder.path.is_dir():
            with suppress(RunFailed):  # a full disk has been told of already
                record()


@contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """What is said and warned of goes to the run's ``log.txt`` too."""
    logging.raiseExceptions = False  # a full disk is told of once, by the journal
    try:
        handler = logging.FileHandler(folder.path / "log.txt", encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    log.info("evalkit %s: %s", __version__, " ".join(sys.argv))
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class OnStderr(logging.StreamHandler[Any]):
    """Writes to what stderr is at the moment: progress on a terminal has lines of its own below what is said."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def quiet_logging() -> None:
    """Warnings on the terminal, and no more than those."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[OnStderr()])
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao, where it is installed, sets it off


def tell(console: Console, sentence: str) -> None:
    """Say something on the terminal and in the log."""
    console.print(sentence, soft_wrap=True, markup=False)
    log.info("%s", sentence)


def end(folder: RunFolder, results: Sequence[Result], console: Console) -> str:
    """Say how the run ended; returns its state."""
    errors = sum(r.errors for r in results)
    if errors:
        console.print(
            f"[red]{errors} samples failed[/red]; each error is in {folder.path}/*.jsonl, and the same command tries "
            "them again",
            soft_wrap=True,
        )
    tell(console, f"run folder: {folder.path}")
    return "incomplete" if errors else "complete"


def write_scores(folder: RunFolder, header: Mapping[str, Any], results: Sequence[Result]) -> list[board.Entry]:
    """Write the scores and the run's own leaderboard, with all that it has; returns the rows of ``results``."""
    rows, every = write_results(folder, results, header)
    run, model = str(header["run"]), str(header["model"])
    entries = board.entries_of(run, model, every)
    write_atomically(folder.path / "leaderboard.md", board.to_markdown(entries))
    write_atomically(folder.path / "leaderboard.csv", board.to_csv(entries))
    return board.entries_of(run, model, rows)


def show(entries: Sequence[board.Entry]) -> None:
    """Print the leaderboard."""
    out = Console()
    out.print(board.to_table(entries))
    for note in board.notes(entries):
        out.print(note, style="dim", highlight=False, markup=False)


def opened_as(settings: RunSettings, model: str) -> Checkpoint:
    """The checkpoint that ``model`` names, with what the settings say of loading it."""
    found = resolve_checkpoint(
        model, trust_remote_code=settings.trust_remote_code, allow_pickled_weights=settings.allow_pickled_weights
    )
    return replace(found, adapter=settings.adapter, min_pixels=settings.min_pixels, max_pixels=settings.max_pixels)


def family_of(checkpoint: Checkpoint, wanted: str | None, console: Console) -> Family:
    """The family ``wanted``, else the one that a checkpoint's ``model_type`` belongs to, else ``generic``.

    Raises:
        UserError: there is no such family.
    """
    if wanted is not None:
        return registry.families.get(wanted)
    name = registry.family_name(checkpoint.model_type, checkpoint.name, checkpoint.generation.get("chat_format"))
    if name is None:
        console.print(
            f"[yellow]{checkpoint.name}: no family knows the architecture {checkpoint.model_type!r}: asked and read as "
            "'generic'[/yellow] (--family names another)",
            soft_wrap=True,
        )
        name = "generic"
    return registry.families.get(name)


def asked_by(family: Family, effective: Effective) -> Effective:
    """The settings for a family's models: what is left to it is what it does."""
    settings = effective.settings
    choice = way_to_choose(settings.choice, family, settings.protocol)
    return replace(effective, settings=replace(settings, choice=choice))


def stem_of(plan: Plan) -> str:
    """What a run's folder is called before its identity."""
    return f"{plan.checkpoint.name}-{plan.shots}shot" if plan.shots else plan.checkpoint.name


def planned(
    wanted: Sequence[tuple[Task, str]], checkpoint: Checkpoint, family: Family, settings: RunSettings
) -> list[Plan]:
    """Read every split's samples from the data that a checkpoint is evaluated on: a plan per number of exemplars."""
    if settings.data is not None:
        name, source = settings.data, "given"
    else:
        name, source = default_data(checkpoint.name in BUNDLED)
    data = open_data(name)
    jobs = [
        load_job(
            task,
            split,
            data,
            limit=settings.limit,
            seed=settings.seed,
            protocol=settings.protocol,
            choice=settings.choice or GENERATE,
            how=settings.decoding,
        )
        for task, split in wanted
    ]
    largest: dict[str, Sample] = {}
    known: dict[str, Size] = {}
    for job in jobs:
        job.decoding(family)  # a protocol that does not know the task is told of first
        for sample in job.samples[:1]:
            family.prompt(job.ask, sample)
        if not settings.allow_missing:
            sizes = check_pictures((image for sample in job.samples for image in sample.images), job.name)
            known |= sizes
            if sizes:
                largest[job.name] = max(job.samples, key=lambda sample: _area(sample, sizes))
    counts = [int(count) for count in settings.shots]
    pools: dict[str, Pool] = {}
    if any(counts):
        if not family.several_images:
            raise UserError(f"--shots: models of the family {family.name} take one picture only; leave it out.")
        pools = {job.name: pool_of(job.task, job.split, data, settings.shots_from) for job in jobs}
    plans = []
    for count in counts:
        asked = [replace(job, asked=describe_asking(settings, job, count)) for job in jobs]
        plans.append(Plan(checkpoint, family, name, source, asked, count, pools if count else {}, largest, known))
    return plans


def _area(sample: Sample, sizes: Mapping[str, Size]) -> int:
    found = (sizes.get(str(getattr(image, "path", "")), (0, 0)) for image in sample.images)
    return sum(width * height for width, height in found)


def describe_asking(settings: RunSettings, job: Job, shots: int) -> str:
    """What a signature says of how a job is asked: ``protocol:official|shots:4-random``."""
    said = [f"protocol:{settings.protocol}", f"shots:{shots}-{settings.shots_by}" if shots else "shots:0"]
    if job.task.kind == "choice" and job.choice != GENERATE:
        said.append(f"choice:{job.choice}")
    if settings.decoding:
        said.append(f"decoding:{described(settings.decoding)}")
    return "|".join(said)


def seen_by(plan: Plan, checkpoint: Checkpoint, factory: BackendFactory) -> Seen:
    """At which size the model sees a picture: its own processor says it, else the family's usual one."""

    @cache
    def frames() -> Seen:  # only boxes of exemplars need it, and loading a processor takes time
        if isinstance(factory, Frames):
            return cache(factory.frames(checkpoint))
        return partial(plan.family.frame, min_pixels=checkpoint.min_pixels, max_pixels=checkpoint.max_pixels)

    return lambda size: frames()(size)


def asker(
    plan: Plan, job: Job, settings: RunSettings, seen: Seen, backend: Lazy | None
) -> Callable[[Sample], tuple[Shot, ...]]:
    """What gives each sample its exemplars, with their answers; nothing where there are none."""
    if not plan.shots:
        return lambda sample: ()
    exemplars = Exemplars(
        plan.pools[job.name],
        plan.shots,
        settings.shots_by,
        settings.seed,
        None if backend is None else backend.embedder,
    )

    def shots(sample: Sample) -> tuple[Shot, ...]:
        return solved(exemplars.of(sample), job.ask, plan.family, seen)

    return shots


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


def make_manifest(effective: Effective, plan: Plan) -> dict[str, Any]:
    """What ran, so that somebody else can run it again."""
    settings = asdict(effective.settings)
    settings["data"] = plan.data
    sources = dict(effective.sources)
    if sources["data"] == "default":
        sources["data"] = plan.data_source
    return {
        **circumstances(),
        "settings": settings,
        "sources": sources,
        "family": {"name": plan.family.name, "coordinates": plan.family.coordinates},
        "shots": plan.shots,
        "exemplars": {name: pool.name for name, pool in plan.pools.items()},
    }


def circumstances() -> dict[str, Any]:
    """What every manifest says of the process that wrote it."""
    return {
        "evalkit": __version__,
        "created": now(),
        "command": sys.argv,
        "cwd": str(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


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


def draw_shots(plans: Sequence[Plan], entries: Sequence[board.Entry], out: Path, console: Console) -> None:
    """Draw score against number of exemplars, if matplotlib is here; say where the picture is."""
    from evalkit.results.plot import shots_png

    by_label = {plan.label: (plan.checkpoint.name, plan.shots) for plan in plans}
    shots = {e.run: by_label[e.model] for e in entries}
    path = out / f"shots-{hashlib.sha256(repr(sorted(shots)).encode()).hexdigest()[:8]}.png"
    try:
        write_atomically(path, shots_png(shots, entries))
    except UserError as error:
        console.print(f"no plot: {error}", soft_wrap=True)
        return
    console.print(f"score against shots: {path}", soft_wrap=True)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
