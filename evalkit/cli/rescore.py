"""``evalkit rescore``: parse and score a run's recorded answers again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from evalkit import registry
from evalkit.console import new_console
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import OFFICIAL, Job, Record, load_job, parse_tasks
from evalkit.jsonl import objects, read_bytes
from evalkit.jsonl_task import data_of_tasks, relocated
from evalkit.predictions import EXAMPLES, Reader
from evalkit.results.samples.context import located
from evalkit.results.store.journal import read_journal
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter, read_scores
from evalkit.runner.finish import print_leaderboard, write_scores
from evalkit.runner.manifest import now
from evalkit.scoring import Result, score_job
from evalkit.types import Prediction, Response
from evalkit.version import __version__

SampleScores = Mapping[str, Mapping[str, Any]]
"""Sample id → its line in the file of per-sample scores."""


def rescore(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the data is now.", show_default="where it was during the run"),
    ] = None,
) -> None:
    """Score a run again from its recorded answers: no model, no GPU.

    Parses the raw answers with the current rules, scores them with the current metrics and annotations, rewrites the
    scores and the run's leaderboard, and prints what changed. The recorded answers are not modified.

    Exit code: 0 if every sample was scored, 1 if some have no answer, 2 for a mistake in the command or its input.
    """
    raise typer.Exit(rescore_run(run, data))


def rescore_run(path: Path, data: str | None) -> int:
    """Score the run in ``path`` again; returns the exit code."""
    console = new_console(stderr=True, highlight=False)
    folder = RunFolder.existing(path)
    manifest = folder.read_manifest()
    settings, family = manifest.settings, manifest.family
    try:
        where = data_of_tasks(data, located(settings["data"], manifest.cwd))
        splits = list(manifest.splits.values())
        tasks = parse_tasks([relocated(split.reference, data) for split in splits], kind=settings["kind"])
        protocol = str(settings.get("protocol", OFFICIAL))
        reader = Reader(None if family is None else registry.families.get(family["name"]), protocol=protocol)
        opened = open_data(where)
        seed = int(settings["seed"])
        model = str(manifest.model["name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path / 'manifest.json'} is corrupt ({error!r}); the run cannot be rescored.") from error
    jobs = [
        replace(load_job(task, split, opened, limit=split_record.limit, seed=seed), asked=split_record.asked)
        for (task, split), split_record in zip(tasks, splits, strict=True)
    ]
    before = {job.name: read_before(folder, job) for job in jobs}
    rows = old_rows(folder, console)
    results = [score_job(job, records_of(job, folder, manifest.schema, reader, console)) for job in jobs]

    header = {
        "run": folder.path.resolve().name, "model": model,
        "family": None if family is None else family["name"], "data": data or settings["data"],
    }  # fmt: skip
    with folder.locked():
        entries = write_scores(ScoreWriter(folder, header), results)
        manifest.rescored = {"at": now(), "evalkit": __version__, "data": where}
        folder.write_manifest(manifest)
    new = {entry.row.name: entry.row.to_dict() for entry in entries}
    for result in results:
        name = result.job.name
        console.print(changes(rows.get(name), new[name], before[name], result), soft_wrap=True, markup=False)
    print_leaderboard(entries)
    return 0 if all(result.complete for result in results) else 1


def records_of(job: Job, folder: RunFolder, schema: int, reader: Reader, console: Console) -> list[Record]:
    """The journal's answers, parsed again; a sample without an answer becomes an error.

    Raises:
        UserError: the journal is missing or corrupt, or has answers to samples that the data lacks.
    """
    path = folder.journal_path(job.task.name, job.split)
    answers = read_journal(path, schema)
    if answers.corrupt:
        number, reason = answers.corrupt[0]
        more = f", and {len(answers.corrupt) - 1:,} more" if len(answers.corrupt) > 1 else ""
        raise UserError(
            f"{path}: line {number} is corrupt ({reason}){more}; restore the file, or resume the run, which re-runs "
            "the sample."
        )
    if answers.torn:
        console.print(f"{path}: the last line is truncated and was ignored")
    existing = {sample.id for sample in job.all_samples}  # an earlier, larger --limit may have answered more
    unknown = [name for name in answers.lines if name not in existing]
    if unknown:
        raise UserError(
            f"{path} has {len(unknown)} answers to samples that {job.name} lacks ({', '.join(unknown[:EXAMPLES])}): "
            "this is not the data of the run; give its location with --data."
        )
    reader.check(job.task)
    records = []
    for sample in job.samples:
        line = answers.lines.get(sample.id)
        if line is None:
            response = Response(sample.id, finish="error", error=f"no answer in {path.name}")
            records.append(Record(sample, "", response, Prediction(None)))
            continue
        failed = line.response.finish == "error"
        prediction = (
            Prediction(None)
            if failed
            else reader.parse(job.task, sample, line.response.text, line.response.image_sizes)
        )
        records.append(Record(sample, line.prompt, line.response, prediction))
    return records


# ------------------------------------------------------------------------------------------------------- what changed


def old_rows(folder: RunFolder, console: Console) -> dict[str, dict[str, Any]]:
    """The rows of ``scores.json`` by job; empty if the run was never scored or the file is corrupt."""
    path = folder.path / "scores.json"
    if not path.is_file():
        return {}
    try:
        return {row.name: row.to_dict() for row in read_scores(path).rows}
    except UserError:
        console.print(f"{path} is corrupt; rewriting it")
        return {}


def read_before(folder: RunFolder, job: Job) -> dict[str, dict[str, Any]]:
    """The per-sample scores written before, by sample id; empty if they cannot be read."""
    path = folder.scores_path(job.task.name, job.split)
    try:
        return {line["id"]: line for _, line in objects(read_bytes(path, "the scores"), str(path))}
    except (UserError, KeyError, TypeError):
        return {}


def changes(old: Mapping[str, Any] | None, new: Mapping[str, Any], before: SampleScores, result: Result) -> str:
    """One line: what rescoring changed in a split."""
    name = f"{new['task']}/{new['split']}"
    if result.failure is not None:
        return f"{name} has no score: {result.failure}"
    if old is None:
        return f"{name}: scored for the first time"
    parts = [
        f"{label} {formatted(old.get(key))} → {formatted(new[key])}"
        for key, label in (
            ("value", new["metric"]), ("n", "n"), ("unparsed", "unparsed"), ("errors", "errors"),
            ("signature", "signature"), ("submission", "submission"),
        )
        if old.get(key) != new[key]
    ]  # fmt: skip
    after = {} if result.scores is None else result.scores.per_sample
    # A column that an older evalkit did not write does not count as a change.
    moved = [
        key
        for key, values in after.items()
        if key not in before or any(before[key].get(column, value) != value for column, value in values.items())
    ]
    moved += [key for key in before if key not in after]
    if moved:
        examples = ", ".join(moved[:EXAMPLES]) + (", …" if len(moved) > EXAMPLES else "")
        parts.append(f"{len(moved):,} of {len(result.job.samples):,} samples changed ({examples})")
    return f"{name}: {'; '.join(parts) or 'unchanged'}"


def formatted(value: Any) -> str:
    """A value as the leaderboard shows it."""
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
