"""``evalkit rescore``: parse and score a run's recorded answers again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evalkit import registry
from evalkit.console import new_console
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import Job, load_job, recorded_choice
from evalkit.reader import Reader
from evalkit.results.leaderboard import table as board
from evalkit.results.samples.context import located
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import ScoreWriter, read_scores
from evalkit.results.tables import Cell, Table
from evalkit.results.terminal import OnTerminal, print_notes
from evalkit.runner.finish import (
    print_leaderboard,
    report_unparsed,
    unparsed_sentence,
    write_leaderboards,
    write_scores,
)
from evalkit.runner.judge import JudgeSettings, OpenedJudge, find_judge
from evalkit.runner.judging import judge_recorded, score_recorded
from evalkit.runner.manifest import now
from evalkit.runner.recorded import read_lines, records_of, without
from evalkit.runner.score_changes import changes, formatted, old_rows, read_before
from evalkit.runner.unchanged_rescore import RescoreProof
from evalkit.scoring import Result, is_judged, score_job
from evalkit.settings import effective, split_list
from evalkit.task_files import data_of_tasks, relocated
from evalkit.task_names import parse_tasks
from evalkit.version import __version__

from .options import setting


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
) -> None:  # fmt: skip
    """Score a run again from its recorded answers: no model, no GPU, unless a judge is named.

    Parses the raw answers with the current rules, scores them with the current metrics and annotations, rewrites the
    scores and the run's leaderboard, and prints what changed. The recorded answers are not modified.

    Exit code: 0 if every sample was scored, 1 if some have no answer, 2 for a mistake in the command or its input.
    """
    rules = split_list(rule)
    asked = judge is not None or judge_base_url is not None
    settings = effective({"judge": judge, "judge_base_url": judge_base_url, "model": ["none"]}, Path.cwd()).settings
    if len(rules) > 1:
        if asked:
            raise UserError("--judge: the verdicts of several rules would replace each other; rescore by one rule.")
        raise typer.Exit(compare_rules(run, data, rules))
    judge_settings = JudgeSettings(settings.judge, settings.judge_base_url) if asked else None
    raise typer.Exit(rescore_run(run, data, rules[0] if rules else None, judge_settings))


@dataclass(frozen=True)
class RecordedRun:
    """A run folder with what is needed to score it again."""

    folder: RunFolder
    manifest: Manifest
    jobs: Sequence[Job]
    reader: Reader
    data: str
    judge: OpenedJudge | None = None

    @classmethod
    def open(
        cls, path: Path, data: str | None, rule: str | None = None, judge: JudgeSettings | None = None
    ) -> RecordedRun:
        """Read the manifest and the splits.

        Args:
            data: where they are now.
            rule: replaces the scoring rule of the tasks that have one of this name.
            judge: the judge to ask; None for the verdicts that are recorded.

        Raises:
            UserError: the manifest is corrupt, the data is missing, or no task has the rule.
        """
        folder = RunFolder.existing(path)
        manifest = folder.read_manifest()
        settings, family = manifest.settings, manifest.family
        try:
            where = data_of_tasks(data, located(settings["data"], manifest.cwd))
            splits = list(manifest.splits.values())
            tasks = parse_tasks([relocated(split.reference, data) for split in splits], kind=settings["kind"])
            reader = Reader.from_settings(settings, None if family is None else registry.families.get(family["name"]))
            if rule is not None:
                settings = manifest.settings = {**settings, "rule": rule, "recorded_predictions": False}
                reader = replace(reader, rule=rule)
            if judge is not None:
                asked = {"judge": judge.model, "judge_base_url": judge.base_url}
                settings = manifest.settings = {**settings, **asked}
                reader = replace(reader, judge=True)
            if rule and not any(task.has_rule(rule) for task, _ in tasks):
                tasks[0][0].scoring_rule(rule)  # refuses it
            opened = open_data(where, images_required=False)
            seed = int(settings["seed"])
            str(manifest.model["name"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path / 'manifest.json'} is corrupt ({error!r}); the run cannot be rescored.") from error
        jobs = [
            replace(
                load_job(
                    task,
                    split,
                    opened,
                    limit=record.limit,
                    seed=seed,
                    protocol=reader.protocol,
                    rule=reader.rule_of(task),
                    judge=reader.judge,
                ),
                prompting=record.prompting,
                choice=recorded_choice(record.prompting),
                recorded_predictions=bool(settings.get("recorded_predictions")),
                repeats=record.repeats,
            )
            for (task, split), record in zip(tasks, splits, strict=True)
        ]
        console = new_console(stderr=True, highlight=False)
        return cls(folder, manifest, jobs, reader, where, find_judge(judge, jobs, console))

    def lacks_rule(self, job: Job) -> str:
        """A sentence if the job's task does not have the rule that the others are scored by; else empty."""
        if not self.reader.rule or job.rule:
            return ""
        own = job.task.rule_of(job.protocol, job.judge)
        scored = f"by {own}" if own else "in the one way there is"
        return f"{job.name}: there is no scoring rule {self.reader.rule!r} for it; it is scored {scored}."

    def score(self, job: Job, console: Console) -> Result:
        """Parse and score the answers to a split."""
        settings = self.manifest.settings
        journal = self.folder.journal_path(job.task.name, job.split)
        if not job.recorded_predictions:
            self.reader.check(job.task)
        lines = read_lines(journal, self.manifest.schema, console)
        if settings.get("skip_missing"):
            job = without(job, [sample.id for sample in job.samples if sample.id not in lines])
        records = records_of(job, lines, self.reader, path=journal, recorded_predictions=job.recorded_predictions)
        if not is_judged(job):
            return score_job(job, records)
        if self.judge is not None:
            return judge_recorded(job, records, self.judge, self.folder, console)
        return score_recorded(job, records, self.folder, str((self.manifest.judge or {}).get("family") or "") or None)


def compare_rules(path: Path, data: str | None, rules: Sequence[str]) -> int:
    """Print the scores of the run in ``path`` under several scoring rules; returns the exit code."""
    console = new_console(stderr=True, highlight=False)
    rows: list[list[Cell | str]] = []
    signatures: dict[str, None] = {}
    lacking: dict[str, None] = {}
    code = 0
    for rule in dict.fromkeys(rules):
        run = RecordedRun.open(path, data, rule)
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
    print_notes(out, [*lacking, *signatures])
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
        entries = write_scores(ScoreWriter(folder, header), results)
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
