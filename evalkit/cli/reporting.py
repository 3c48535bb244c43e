"""What ``evalkit report`` does: it loads the tasks' samples again, which run folders do not hold, for the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.groups import GROUPS, MEANS
from evalkit.predictions import Reader
from evalkit.results.report import write_report
from evalkit.results.report_samples import Asked, Known
from evalkit.results.scored import ScoredRun
from evalkit.run import GENERATE, OFFICIAL, load_job, parse_tasks, prompt_digest
from evalkit.types import Ask, Family, Frame, Message, Picture, Sample, Task

from .rescoring import located

PICTURE = "⟨picture⟩"


@dataclass(frozen=True)
class Wanted:
    """The options of ``evalkit report``; ``samples`` is None for all."""

    out: Path | None = None
    single: bool = False
    data: str | None = None
    samples: int | None = None
    side: int | None = None


def execute(paths: Sequence[Path], wanted: Wanted) -> None:
    """Write the report and say where it is.  Raises ``UserError`` for whatever cannot be reported on."""
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    runs = [ScoredRun.open(path) for path in paths]
    if len(runs) > 1 and runs[0].path.resolve() == runs[1].path.resolve():
        raise UserError(f"{paths[0]} and {paths[1]} are the same run; give one, or another as the second.")
    known = {name: known_of(runs, name, wanted.data) for name in splits_of(runs)}
    out = wanted.out or paths[0] / ("report.html" if wanted.single else "report")
    written = write_report(paths, known, out, single=wanted.single, most=wanted.samples, side=wanted.side)
    for note in written.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print(
        f"{written.samples:,} samples, {written.pictures:,} pictures, {written.bytes / 1e6:.1f} MB, "
        f"in {time.monotonic() - began:.1f} s"
    )
    print(written.path)


def splits_of(runs: Sequence[ScoredRun]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name, row in run.rows.items() if row["task"] not in MEANS))


def known_of(runs: Sequence[ScoredRun], name: str, data: str | None) -> Known:
    """What the run folders do not hold of a split: the samples and how they were asked; as much as can be had."""
    first = next(run for run in runs if name in run.rows)
    try:
        task, samples = loaded(first, name, data)
    except UserError as error:
        reason = str(error).rstrip(".")
        return Known(
            kind_of(first, name), note=f"without questions and references, for the data are not there: {reason}."
        )
    reading = task.kind == "document" or (task.name in GROUPS["text-reading"] and task.kind == "vqa")
    return Known(
        kind=task.kind,
        samples=samples,
        asks=[asking(run, task) for run in runs],
        reads=[rereading(run, task) if run.manifest.get("rescored") else None for run in runs],
        edits=reading,
        note=changed(first, name, task),
    )


def loaded(run: ScoredRun, name: str, data: str | None) -> tuple[Task, Mapping[str, Sample]]:
    """A split's task and its samples by id, read from where the run had them, or from ``data``.

    Raises:
        UserError: they are not there, or the task is not installed.
    """
    settings = run.manifest["settings"]
    try:
        where = data or located(settings["data"], run.manifest["cwd"])
        reference = str(run.manifest["splits"][name]["reference"])
        own = reference.endswith(".jsonl")
        ((task, split),) = parse_tasks([reference], kind=settings["kind"] if own else None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{run.path / 'manifest.json'} is damaged ({error!r}); run the evaluation again.") from error
    job = load_job(task, split, open_data(where), limit=None, seed=0)
    return task, {sample.id: sample for sample in job.whole}


def kind_of(run: ScoredRun, name: str) -> str | None:
    """What the manifest says of a split whose samples cannot be had."""
    kind = run.manifest["splits"].get(name, {}).get("parts", {}).get("kind")
    return None if kind is None else str(kind)


def changed(run: ScoredRun, name: str, task: Task) -> str:
    """A sentence where the task asks otherwise by now than it did when the run was made."""
    then = run.manifest["splits"].get(name, {}).get("parts", {}).get("version")
    if then is None or then == task.version:
        return ""
    return f"the task's version was {then} then and is {task.version} now: references may be others than it saw."


# ---------------------------------------------------------------------------------------------------------- the prompt


def asking(run: ScoredRun, task: Task) -> Callable[[Sample], Asked | None]:
    """What gives a sample's prompt as the run's family asks it, without exemplars."""
    family, settings = family_of(run), run.manifest["settings"]
    protocol, choice = str(settings.get("protocol", OFFICIAL)), str(settings.get("choice", GENERATE))
    ask = Ask(task.name, task.kind, protocol, choice)

    def asked(sample: Sample) -> Asked | None:
        if family is None:
            return None
        try:
            messages = family.prompt(ask, sample)
            ranked = task.kind == "choice" and choice != GENERATE
            digest = prompt_digest(messages, family.continuations(ask, sample) if ranked else ())
        except UserError:
            return None
        return Asked([(message.role, text_of(message)) for message in messages], digest)

    return asked


def text_of(message: Message) -> str:
    return "".join(PICTURE if isinstance(part, Picture) else part.text for part in message.content)


def family_of(run: ScoredRun) -> Family | None:
    """The run's family; None for answers from elsewhere, or one that is not installed any more."""
    named = run.manifest.get("family")
    if not isinstance(named, Mapping):
        return None
    try:
        return registry.families.get(str(named.get("name")))
    except UserError:
        return None


def rereading(run: ScoredRun, task: Task) -> Callable[[Sample, str, Sequence[Frame]], Any]:
    """What reads an answer as ``evalkit rescore`` does: a run that was scored again was read again."""
    protocol = str(run.manifest["settings"].get("protocol", OFFICIAL))
    reader = Reader(family_of(run), protocol=protocol)
    return lambda sample, text, frames: reader.read(task, sample, text, frames).value
