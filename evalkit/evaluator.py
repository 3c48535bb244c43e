"""Evaluates a model that is in memory: samples are read once, for any number of evaluations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from evalkit import registry
from evalkit.boxes import check_boxes
from evalkit.choosing.sample_filter import SampleFilter, check_ids
from evalkit.data import open_data
from evalkit.decoding import check_repeats, decoding_overrides, is_default
from evalkit.errors import UserError
from evalkit.few_shot import ShotSelector, shot_pool, with_answers
from evalkit.given_prompts import check_tasks, given_prompts
from evalkit.images import check_images
from evalkit.interfaces import Backend, Family
from evalkit.jobs import OFFICIAL, Job, Record, build_requests, check_repeatable, choice_mode, load_job
from evalkit.presets import find_preset
from evalkit.run import ImageDigests, run_job
from evalkit.scoring import Result, check_scorable
from evalkit.settings import batching, default_data, split_list
from evalkit.task_names import parse_tasks
from evalkit.thinking import limit_in_memory
from evalkit.types import LOCATED, ImageSize, Request, Sample, Shot, Size
from evalkit.video.check import check_videos
from evalkit.video.sampling import video_sampling as find_sampling

if TYPE_CHECKING:
    from evalkit.runner.evaluation_results import EvaluationResults
    from evalkit.runner.judge import OpenedJudge


class Evaluation:
    """The tasks and options of evaluations.

    Its arguments are those of ``evalkit.evaluate`` without the model and its processor.

    Raises:
        UserError: an unknown name, files that are not as expected, missing images, or a split without public answers.
    """

    def __init__(
        self,
        tasks: str | Sequence[str],
        *,
        data: str | PathLike[str] | None = None,
        limit: int | str | None = None,
        where: str | None = None,
        ids: str | PathLike[str] | Iterable[str] | None = None,
        seed: int = 0,
        family: str | None = None,
        protocol: str = OFFICIAL,
        choice: str | None = None,
        shots: int = 0,
        shots_by: str = "random",
        shots_from: str | PathLike[str] | None = None,
        kind: str | None = None,
        allow_missing: bool = False,
        system: str | PathLike[str] | None = None,
        prompts: Mapping[str, str] | None = None,
        thinking: str = "auto",
        video_sampling: str | None = None,
        batch_size: int | None = None,
        max_batch_tokens: int | None = None,
        exact: bool = False,
        backend: str = "hf",
        judge: str | PathLike[str] | None = None,
        judge_base_url: str | None = None,
        repeats: int = 1,
        preset: str | None = None,
        **decoding: Any,
    ) -> None:
        self.family = family
        self.choice = choice
        self.seed = seed
        self.shots, self.shots_by = shots, shots_by
        self.video_sampling = "" if video_sampling is None else find_sampling(video_sampling).name
        self.batching = batching(batch_size, max_batch_tokens, exact)
        self.backend = backend
        if preset is not None:
            values = find_preset(preset, f"preset={preset!r}").values
            decoding |= {name: value for name, value in values.items() if is_default(name, decoding.get(name))}
        overrides = decoding_overrides(**decoding, seed=seed)
        check_repeats(repeats, overrides.get("temperature", 0.0))
        opened = open_data(default_data(bundled_model=False)[0] if data is None else fspath(data))
        chosen = SampleFilter.given(where, ids, limit)
        self.jobs: list[Job] = []
        wanted = parse_tasks(split_list(tasks), kind=kind)
        own = check_tasks(
            given_prompts(system=system, prompt=prompts or {}, thinking=thinking, options=False),
            [task.name for task, _ in wanted],
            required=True,
        )
        for task, split in wanted:
            if not task.splits[split].answers:
                raise UserError(f"{task.name}/{split}: its answers are not public, so it cannot be scored here.")
            job = load_job(
                task, split, opened, chosen=chosen, seed=seed, protocol=protocol, decoding_overrides=overrides,
                given=own, judge=judge is not None or judge_base_url is not None, repeats=repeats,
            )  # fmt: skip
            if not allow_missing:
                sizes = check_images(job.images, job.name, if_missing=job.if_images_missing)
                check_videos(job.videos, job.name, if_missing=job.if_images_missing)
                if task.kind in LOCATED:
                    check_boxes(job.samples, sizes, job.name)
            check_scorable(job)
            self.jobs.append(job)
        check_ids(chosen, {job.name: job.all_samples for job in self.jobs})
        self.judge = find_judge(judge, judge_base_url, self.jobs)
        given = None if shots_from is None else fspath(shots_from)
        self.pools = {job.name: shot_pool(job.task, job.split, opened, given) for job in self.jobs} if shots else {}

    def run(self, model: Any, processor: Any, on_record: Callable[[Record], None] | None = None) -> EvaluationResults:
        """Evaluate the model, and leave it as it was.

        Raises:
            UserError: the model cannot be used.
            RunFailed: the backend failed.
        """
        family = self._family(model)
        factory = registry.backends.get(self.backend)
        from evalkit.runner.evaluation_results import EvaluationResults

        results: dict[str, Result] = {}
        records: dict[str, list[Record]] = {}
        with factory.wrap(model, processor, batching=self.batching) as opened:
            for job in self.jobs:
                limit = limit_in_memory(model, processor, job.given.thinking, family.reasoning)
                job = replace(job, choice=choice_mode(self.choice, family, job.protocol), thinking_limit=limit)
                job = replace(job, video_sampling=self.video_sampling)
                if job.repeats > 1:
                    check_repeatable(job.task, job.split, job.choice)
                questions = build_requests(job, family, self._asker(job, family, opened))
                with _NoDigests() as digests:
                    keep = _Keeping(on_record)
                    results[job.name] = run_job(job, questions, family, opened, keep, digests=digests)
                    records[job.name] = [keep.records[key] for key in questions]
        if self.judge is not None:
            for job in self.jobs:
                if results[job.name].awaits_judge:
                    results[job.name] = self._judged(self.judge, job, records[job.name])
            self.judge.close()
        for name, result in results.items():
            if result.failure is not None:
                warnings.warn(f"{name} has no score: {result.failure}", stacklevel=2)
        name = str(getattr(getattr(model, "config", None), "name_or_path", "")) or type(model).__name__
        return EvaluationResults(results, records, name.rstrip("/").rpartition("/")[2])

    def _judged(self, judge: OpenedJudge, job: Job, records: Sequence[Record]) -> Result:
        """The judged result of a job; its records have their final predictions."""
        from evalkit.judged_scoring import judged_metric, score_judged_job
        from evalkit.judging import NoLog, gather_verdicts

        return score_judged_job(job, records, gather_verdicts(job, judged_metric(job), records, judge.judge, NoLog()))

    def _family(self, model: Any) -> Family:
        while not hasattr(model, "config") and hasattr(model, "module"):  # DistributedDataParallel
            model = model.module
        config = getattr(model, "config", None)
        name = self.family or registry.family_name(
            str(getattr(config, "model_type", "")),
            str(getattr(config, "name_or_path", "")),
            getattr(getattr(model, "generation_config", None), "chat_format", None),
        )
        family = registry.families.get(name or "generic")
        if self.shots and not family.several_images:
            raise UserError(f"shots={self.shots}: models of the family {family.name} take one image only.")
        return family

    def _asker(self, job: Job, family: Family, backend: Backend) -> Callable[[Sample], Sequence[Shot]]:
        if not self.shots:
            return lambda sample: ()

        @cache
        def image_size(size: Size) -> ImageSize:
            return backend.image_size(size) or family.image_size(size)

        selector = ShotSelector(self.pools[job.name], self.shots, self.shots_by, self.seed, lambda: backend)
        return lambda sample: with_answers(selector.select(sample), job.prompt_spec, family, image_size)


def find_judge(model: str | PathLike[str] | None, base_url: str | None, jobs: Sequence[Job]) -> OpenedJudge | None:
    """The judge of ``--judge`` and ``--judge-base-url``; None without one.  Raises ``UserError`` as commands do."""
    if model is None and base_url is None:
        return None
    from evalkit.endpoint import check_base_url
    from evalkit.runner import judge
    from evalkit.text_console import TextConsole

    address = None if base_url is None else check_base_url(base_url, "judge_base_url")
    settings = judge.JudgeSettings(None if model is None else fspath(model), address)
    return judge.find_judge(settings, jobs, TextConsole(quiet=True))


class _NoDigests(ImageDigests):
    """No digests: images are not read a second time for records that are not kept."""

    def __init__(self) -> None:
        super().__init__(())

    def of(self, request: Request) -> tuple[str | None, ...]:
        return (None,) * len(request.media)


class _Keeping:
    """Keeps the record of each answer, and passes it on."""

    def __init__(self, then: Callable[[Record], None] | None) -> None:
        self.records: dict[str, Record] = {}
        self._then = then

    def __call__(self, record: Record) -> None:
        self.records[record.key] = record
        if self._then is not None:
            self._then(record)
