"""Plan a run before any weights are loaded: one plan per model and number of shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evalkit import registry
from evalkit.boxes import check_boxes
from evalkit.checkpoint import BUNDLED, Checkpoint, expanded, resolve_checkpoint
from evalkit.choosing.sample_filter import SampleFilter, check_ids
from evalkit.data import open_data
from evalkit.decoding import format_overrides, settings_overrides
from evalkit.errors import UserError
from evalkit.few_shot import ShotPool, shot_pool
from evalkit.given_prompts import GivenPrompts, check_tasks, given_prompts
from evalkit.images import check_images
from evalkit.interfaces import Family, Task
from evalkit.jobs import GENERATE, Job, choice_mode, conversation, load_job
from evalkit.options import OPTIONS, RunSettings
from evalkit.presets import preset_signature
from evalkit.results.subsets.subset_file import Subset, read_subset
from evalkit.scoring import check_scorable
from evalkit.settings import Effective, default_data
from evalkit.thinking import thinking_limit
from evalkit.types import LOCATED, Sample, Size
from evalkit.video.check import check_videos
from evalkit.video.sampling import sampling_name

from .subset_runs import subset_job


@dataclass(frozen=True)
class Plan:
    """One model with one number of shots, and its jobs.

    Attributes:
        pools: few-shot examples to draw from, by job.
        largest: the sample with the largest images, by job.
        sizes: (width, height) by image name.
        given: the user's prompts.
        subset: the subset file whose samples are run.
    """

    checkpoint: Checkpoint
    family: Family
    data: str
    data_source: str
    jobs: Sequence[Job]
    shots: int
    pools: Mapping[str, ShotPool]
    largest: Mapping[str, Sample]
    sizes: Mapping[str, Size]
    given: GivenPrompts
    subset: Subset | None = None

    @property
    def label(self) -> str:
        """The run's name in tables: ``tiny (4-shot)``."""
        return f"{self.checkpoint.name} ({self.shots}-shot)" if self.shots else self.checkpoint.name


def resolve_model(settings: RunSettings, model: str, given: GivenPrompts) -> Checkpoint:
    """The checkpoint that ``model`` names, with the settings that affect loading."""
    found = resolve_checkpoint(
        model, trust_remote_code=settings.trust_remote_code, allow_pickled_weights=settings.allow_pickled_weights
    )
    return replace(
        found,
        adapter=settings.adapter,
        processor=settings.processor,
        chat_template=given.chat_template,
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
    )


def family_of(checkpoint: Checkpoint, wanted: str | None, console: Console) -> Family:
    """The family ``wanted``, else the one of the checkpoint's ``model_type``, else ``generic``.

    Raises:
        UserError: there is no such family.
    """
    if wanted is not None:
        return registry.families.get(wanted)
    name = registry.family_name(checkpoint.model_type, checkpoint.name, checkpoint.generation.get("chat_format"))
    if name is None:
        console.print(
            Text.assemble(
                (f"{checkpoint.name}: no model family supports the architecture {checkpoint.model_type!r}; ", "yellow"),
                ("falling back to 'generic'", "yellow"),
                " (override with --family)",
            ),
            soft_wrap=True,
        )
        name = "generic"
    return registry.families.get(name)


def resolve_models(
    effective: Effective, console: Console, given: GivenPrompts
) -> list[tuple[Checkpoint, Family]]:  # fmt: skip
    """The checkpoints of ``--model``, each with its family."""
    settings = effective.settings
    models = expanded(settings.model)
    if settings.name is not None and len(models) > 1:
        raise UserError(f"--name {settings.name}: {len(models)} models make {len(models)} runs; drop --name.")
    checkpoints = [resolve_model(settings, model, given) for model in models]
    families = [family_of(checkpoint, settings.family, console) for checkpoint in checkpoints]
    if effective.sources["model"] == "default":
        console.print(
            Text.assemble(
                ("no --model given: evaluating the bundled tiny checkpoint", "yellow"), " (a real but tiny model)"
            )
        )
    return list(zip(checkpoints, families, strict=True))


def with_family_defaults(family: Family, effective: Effective) -> Effective:
    """The settings with defaults that depend on the family filled in."""
    settings = effective.settings
    choice = choice_mode(settings.choice, family, settings.protocol)
    return replace(effective, settings=replace(settings, choice=choice))


def prompts_of(effective: Effective, wanted: Sequence[tuple[Task, str]]) -> GivenPrompts:
    """The user's prompts for the tasks ``wanted``.

    Raises:
        UserError: a file is not what it must be, or a prompt is for another task.
    """
    settings = effective.settings
    given = given_prompts(
        system=settings.system, prompt=settings.prompt, chat_template=settings.chat_template, thinking=settings.thinking
    )
    required = effective.sources["prompt"] == "command line"
    return check_tasks(given, [task.name for task, _ in wanted], required=required)


def folder_stem(plan: Plan) -> str:
    """The run folder's name without the identity."""
    return f"{plan.checkpoint.name}-{plan.shots}shot" if plan.shots else plan.checkpoint.name


def make_plans(
    wanted: Sequence[tuple[Task, str]],
    checkpoint: Checkpoint,
    family: Family,
    settings: RunSettings,
    given: GivenPrompts,
) -> list[Plan]:
    """Load the samples of every split; returns one plan per number of shots."""
    if settings.data is not None:
        name, source = settings.data, "given"
    else:
        name, source = default_data(checkpoint.name in BUNDLED)
    data = open_data(name)
    judged = settings.judge is not None or settings.judge_base_url is not None
    limit = thinking_limit(checkpoint, family, given.thinking)
    chosen = SampleFilter.of(settings.where, settings.ids, settings.limit)
    jobs = [
        load_job(
            task,
            split,
            data,
            limit=None,
            chosen=chosen,
            seed=settings.seed,
            protocol=settings.protocol,
            choice=settings.choice or GENERATE,
            decoding_overrides=settings_overrides(settings),
            given=given,
            judge=judged,
            repeats=settings.repeats,
        )
        for task, split in wanted
    ]
    check_ids(chosen, {job.name: job.all_samples for job in jobs})
    subset = None if settings.subset is None else read_subset(Path(settings.subset))
    if subset is not None:
        jobs = [subset_job(job, subset, Path(settings.subset or "")) for job in jobs]
    sampling = sampling_name(settings.video_sampling, settings.fps, settings.max_frames, settings.max_video_tokens)
    sampling = sampling or family.video_sampling
    jobs = [replace(job, thinking_limit=limit, video_sampling=sampling if job.has_videos else "") for job in jobs]
    largest: dict[str, Sample] = {}
    known: dict[str, Size] = {}
    for job in jobs:
        check_scorable(job)
        job.decoding(family)  # fails early if the protocol does not cover the task
        for sample in job.samples[:1]:
            conversation(given, job.prompt_spec.of(sample), family, sample)
        if not settings.allow_missing:
            sizes = check_images(job.images, job.name, if_missing=job.if_images_missing)
            known |= sizes
            check_videos(job.videos, job.name, if_missing=job.if_images_missing)
            if job.task.kind in LOCATED:
                check_boxes(job.samples, sizes, job.name)
            if sizes:
                largest[job.name] = max(job.samples, key=lambda sample: _area(sample, sizes))
    counts = [int(count) for count in settings.shots]
    pools: dict[str, ShotPool] = {}
    if any(counts):
        if not family.several_images:
            raise UserError(
                f"--shots: models of the family {family.name} take one image per prompt; leave out --shots."
            )
        pools = {job.name: shot_pool(job.task, job.split, data, settings.shots_from) for job in jobs}
    plans = []
    for count in counts:
        signed = [replace(job, prompting=prompting_signature(settings, job, count)) for job in jobs]
        plans.append(
            Plan(checkpoint, family, name, source, signed, count, pools if count else {}, largest, known, given, subset)
        )
    return plans


def check_video_options(effective: Effective, plans: Sequence[Plan]) -> None:
    """Raise ``UserError`` for options of the command line about videos, if no task has any."""
    if not any(job.has_videos for plan in plans for job in plan.jobs):
        for option in OPTIONS.values():
            if option.panel == "Video" and effective.sources[option.name] == "command line":
                raise UserError(f"{option.flag}: no task of this run has videos; leave it out.")


def _area(sample: Sample, sizes: Mapping[str, Size]) -> int:
    found = (sizes.get(str(getattr(image, "path", "")), (0, 0)) for image in sample.all_images)
    return sum(width * height for width, height in found)


def prompting_signature(settings: RunSettings, job: Job, shots: int) -> str:
    """The prompting part of a signature: ``protocol:official|shots:4-random``."""
    parts = [f"protocol:{settings.protocol}", f"shots:{shots}-{settings.shots_by}" if shots else "shots:0"]
    if job.task.kind == "choice" and job.choice != GENERATE:
        parts.append(f"choice:{job.choice}")
    if job.has_videos:
        parts.append(f"video:{job.video_sampling}")
    parts += job.given.signature(job.task.name)
    preset = preset_signature(settings.preset, vars(settings))
    if overrides := ",".join(filter(None, (preset, format_overrides(settings_overrides(settings))))):
        parts.append(f"decoding:{overrides}")
    return "|".join(parts)
