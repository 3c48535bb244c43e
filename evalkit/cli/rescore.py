"""``evalkit rescore``: parse and score a run's recorded answers again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evalkit.choosing.sample_filter import SampleFilter
from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.leaderboard import table as board
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import ScoreWriter, mean_rows, read_scores, score_row
from evalkit.results.tables import Cell, Table
from evalkit.results.terminal import OnTerminal, print_notes
from evalkit.runner.finish import (
    print_leaderboard,
    report_unparsed,
    unparsed_sentence,
    write_leaderboards,
    write_scores,
)
from evalkit.runner.judge import JudgeSettings
from evalkit.runner.manifest import now
from evalkit.runner.recorded_run import RecordedRun
from evalkit.runner.score_changes import changes, formatted, old_rows, read_before
from evalkit.runner.subset_runs import estimator_of
from evalkit.runner.unchanged_rescore import RescoreProof
from evalkit.settings import effective, split_list
from evalkit.version import __version__

from .options import given_choice, setting


def rescore(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the data is now.", show_default="where it was during the run"),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", show_default="the run's",
            help="Scoring rule, such as official or vlmevalkit-2025-08 ('evalkit tasks NAME' lists a task's). With "
            "several, comma-separated, their scores are printed side by side and the run is left as it is.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        setting("judge", show_default="none: the recorded verdicts of a judged run"),
    ] = None,
    judge_base_url: Annotated[str | None, setting("judge_base_url")] = None,
    where: Annotated[
        str | None,
        setting("where", help="Print the scores of the samples that fit an expression, and leave the run as it is."),
    ] = None,
    ids: Annotated[
        str | None, setting("ids", help="The same for the samples with the ids in a file: one per line, a JSON list, …")
    ] = None,
    limit: Annotated[
        str | None, setting("limit", rich_help_panel="Data", help="The same for a number or a percentage of samples.")
    ] = None,
) -> None:  # fmt: skip
    """Score a run again from its recorded answers: no model, no GPU, unless a judge is named.

    Parses the raw answers with the current rules, scores them with the current metrics and annotations, rewrites the
    scores and the run's leaderboard, and prints what changed. The recorded answers are not modified.

    Exit code: 0 if every sample was scored, 1 if some have no answer, 2 for a mistake in the command or its input.
    """
    rules = split_list(rule)
    asked = judge is not None or judge_base_url is not None
    settings = effective({"judge": judge, "judge_base_url": judge_base_url, "model": ["none"]}, Path.cwd()).settings
    chosen = given_choice(where, ids, limit)
    if len(rules) > 1 or chosen is not None:
        if asked:
            what = "several rules" if chosen is None else "a part of the samples"
            raise UserError(f"--judge: the verdicts of {what} would replace the run's; rescore all by one rule.")
        if chosen is not None and len(rules) < 2:
            raise typer.Exit(score_part(run, data, rules[0] if rules else None, chosen))
        raise typer.Exit(compare_rules(run, data, rules, chosen))
    judge_settings = JudgeSettings(settings.judge, settings.judge_base_url) if asked else None
    raise typer.Exit(rescore_run(run, data, rules[0] if rules else None, judge_settings))


def score_part(path: Path, data: str | None, rule: str | None, chosen: SampleFilter) -> int:
    """Print the scores of a part of the samples of the run in ``path``; returns the exit code."""
    console = new_console(stderr=True, highlight=False)
    run = RecordedRun.open(path, data, rule).narrowed(chosen)
    results = [run.score(job, console) for job in run.jobs]
    for job in run.jobs:
        if sentence := run.lacks_rule(job):
            console.print(sentence, soft_wrap=True)
    rows = [score_row(result) for result in results]
    rows += mean_rows(results, rows)
    print_leaderboard(board.entries_of(run.folder.path.resolve().name, str(run.manifest.model["name"]), rows))
    return 0 if all(result.complete for result in results) else 1


def compare_rules(path: Path, data: str | None, rules: Sequence[str], chosen: SampleFilter | None = None) -> int:
    """Print the scores of the run in ``path``, or of a part of it, under several rules; returns the exit code."""
    console = new_console(stderr=True, highlight=False)
    rows: list[list[Cell | str]] = []
    signatures: dict[str, None] = {}
    lacking: dict[str, None] = {}
    code = 0
    for rule in dict.fromkeys(rules):
        run = RecordedRun.open(path, data, rule)
        run = run if chosen is None else run.narrowed(chosen)
        for job in run.jobs:
            if run.lacks_rule(job):
                lacking[f"{job.name}: there is no scoring rule {rule!r} for it."] = None
                continue
            result = run.score(job, console)
            code = code if result.complete else 1
            scores = result.scores
            value = None if scores is None else float(scores.values[scores.headline])
            name = "" if scores is None else scores.headline
            rows.append([job.name, rule, name, formatted(value), f"{result.n:,}", f"{result.unparsed:,}"])
            signatures |= {} if scores is None else {f"{rule}: `{scores.signature}`": None}
    header = ["task", "rule", "metric", "score", "n", "unparsed"]
    out = new_console()
    out.print(OnTerminal(Table(header, rows, 3)))
    part = () if chosen is None else (f"A subset ({chosen.described or f'--limit {chosen.limit}'}) is scored.",)
    print_notes(out, [*part, *lacking, *signatures])
    return code


def rescore_run(path: Path, data: str | None, rule: str | None = None, judge: JudgeSettings | None = None) -> int:
    """Score the run in ``path`` again, under ``rule`` and by ``judge`` if they are given; returns the exit code."""
    console = new_console(stderr=True, highlight=False)
    run = RecordedRun.open(path, data, rule, judge)
    folder, manifest = run.folder, run.manifest
    proof = RescoreProof(folder, manifest, run.jobs, run.reader, run.data)
    with folder.locked():
        found = proof.unchanged()
        if found is not None:
            return show_unchanged(run, *found, console)
    before = {job.name: read_before(folder, job) for job in run.jobs}
    rows = old_rows(folder, console)
    header = {
        "run": folder.path.resolve().name, "model": manifest.model["name"],
        "family": None if manifest.family is None else manifest.family["name"],
        "data": data or manifest.settings["data"],
    }  # fmt: skip
    with folder.locked():
        results = [run.score(job, console) for job in run.jobs]
        entries = write_scores(ScoreWriter(folder, header, estimator_of(folder.path)), results)
        if run.judge is not None:
            manifest.judge = run.judge.to_dict()
            run.judge.close()
        manifest.rescored = {"at": now(), "evalkit": __version__, "data": run.data}
        folder.write_manifest(manifest)
        proof.remember(results)
    new = {entry.row.name: entry.row.to_dict() for entry in entries}
    for job in run.jobs:
        if sentence := run.lacks_rule(job):
            console.print(sentence, soft_wrap=True)
    for result in results:
        name = result.job.name
        console.print(changes(rows.get(name), new[name], before[name], result), soft_wrap=True)
    report_unparsed(results, console)
    print_leaderboard(entries)
    return 0 if all(result.complete for result in results) else 1


def show_unchanged(run: RecordedRun, rows: Sequence[ScoreRow], reasons: Mapping[str, str], console: Console) -> int:
    """Print the scores of a run that would be scored as it is; returns the exit code."""
    folder, manifest = run.folder, run.manifest
    name, model = folder.path.resolve().name, str(manifest.model["name"])
    write_leaderboards(folder, board.entries_of(name, model, read_scores(folder.path / "scores.json").rows))
    manifest.rescored = {"at": now(), "evalkit": __version__, "data": run.data}
    folder.write_manifest(manifest)
    for job in run.jobs:
        if sentence := run.lacks_rule(job):
            console.print(sentence, soft_wrap=True)
    for job in run.jobs:
        console.print(f"{job.name}: unchanged", soft_wrap=True)
    for row in rows:
        if row.name in reasons:
            console.print(unparsed_sentence(row.name, row.unparsed, row.answers, reasons[row.name]), soft_wrap=True)
    print_leaderboard(board.entries_of(name, model, rows))
    return 0
