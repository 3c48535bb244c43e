"""A run folder that is scored again: ``evalkit rescore``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from evalkit import registry
from evalkit.choosing.sample_filter import SampleFilter, check_ids
from evalkit.console import new_console
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import Job, load_job, recorded_choice
from evalkit.reader import Reader
from evalkit.results.samples.context import located
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_folder import RunFolder
from evalkit.scoring import Result, is_judged, score_job
from evalkit.task_files import data_of_tasks, relocated
from evalkit.task_names import parse_tasks

from .judge import JudgeSettings, OpenedJudge, find_judge
from .judging import judge_recorded, score_recorded
from .recorded import narrowed, read_lines, records_of, without
from .subset_runs import recorded_subset_job


@dataclass(frozen=True)
class RecordedRun:
    """A run folder with what is needed to score it again."""

    folder: RunFolder
    manifest: Manifest
    jobs: Sequence[Job]
    reader: Reader
    data: str
    seed: int
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
                recorded_subset_job(
                    load_job(
                        task,
                        split,
                        opened,
                        limit=None,
                        seed=seed,
                        chosen=record.chosen,
                        protocol=reader.protocol,
                        rule=reader.rule_of(task),
                        judge=reader.judge,
                    ),
                    path,
                ),
                prompting=record.prompting,
                choice=recorded_choice(record.prompting),
                recorded_predictions=bool(settings.get("recorded_predictions")),
                repeats=record.repeats,
            )
            for (task, split), record in zip(tasks, splits, strict=True)
        ]
        console = new_console(stderr=True, highlight=False)
        return cls(folder, manifest, jobs, reader, where, seed, find_judge(judge, jobs, console))

    def narrowed(self, chosen: SampleFilter) -> RecordedRun:
        """The run with the samples of its splits that ``chosen`` chooses.

        Raises:
            UserError: there are none in a split, or the expression or the ids do not fit the splits.
        """
        check_ids(chosen, {job.name: job.all_samples for job in self.jobs})
        return replace(self, jobs=[narrowed(job, chosen, self.seed) for job in self.jobs])

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
