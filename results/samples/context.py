"""Sample context rebuilt from the tasks: questions, references, prompts and today's parsing.

The tasks are loaded from where the run had its data, or from ``--data``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.annotations import digest_of_annotations
from evalkit.data import BUNDLED, HUB, Data, open_data
from evalkit.errors import UserError
from evalkit.few_shot import shot_pool
from evalkit.file_task import FileTask
from evalkit.given_prompts import GivenPrompts
from evalkit.interfaces import Family, Task
from evalkit.jobs import GENERATE, OFFICIAL, conversation, load_job, prompt_digest
from evalkit.paths import user_path
from evalkit.reader import Reader
from evalkit.reasoning import REASONING
from evalkit.records import known_finish
from evalkit.results.store.journal import Line
from evalkit.results.store.scored_run import ScoredRun
from evalkit.task_files import data_of_tasks, is_task_file, relocated
from evalkit.task_groups import GROUPS
from evalkit.task_names import parse_tasks
from evalkit.types import ImageSize, Message, PromptSpec, Sample, Shot
from evalkit.video.sampling import sampling_name

from .view import ParseAnswer, RenderedPrompt, RenderPrompt, SplitContext

IMAGE, VIDEO = "⟨image⟩", "⟨video⟩"


def context_of(runs: Sequence[ScoredRun], name: str, data: str | None) -> SplitContext:
    """The context of a split: its samples and how they were prompted, as far as available."""
    first = next(run for run in runs if name in run.rows)
    try:
        task, samples = load_split(first, name, data)
    except UserError as error:
        reason = str(error).rstrip(".")
        return SplitContext(
            first.manifest.kind_of(name),
            note=f"questions and references are left out, because the data is missing: {reason}.",
        )
    text_in_image = task.kind == "document" or (task.name in GROUPS["text-reading"] and task.kind == "vqa")
    return SplitContext(
        kind=task.kind,
        samples=samples,
        render_prompt=[prompt_renderer(run, name, task, data) for run in runs],
        parse_answer=[answer_parser(run, task) for run in runs],
        markers=[REASONING if family is None else family.reasoning for family in map(family_of, runs)],
        edit_marks=text_in_image,
        note=change_note(first, name, task, samples),
        folder=Path(task.path).parent if isinstance(task, FileTask) and data is None else None,
    )


def data_of(run: ScoredRun, data: str | None) -> Data:
    """Open ``data``, by default the data of the run.  Raises ``UserError`` if it does not exist."""
    where = data_of_tasks(data, located(run.manifest.settings["data"], run.manifest.cwd))
    return open_data(where, images_required=False)


def load_split(run: ScoredRun, name: str, data: str | None) -> tuple[Task, Mapping[str, Sample]]:
    """A split's task and its samples by id, from the run's data, or from ``data``.

    Raises:
        UserError: the data is missing, or the task is not installed.
    """
    settings = run.manifest.settings
    try:
        opened = data_of(run, data)
        reference = run.manifest.splits[name].reference
        own = is_task_file(reference)
        ((task, split),) = parse_tasks([relocated(reference, data)], kind=settings["kind"] if own else None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{run.path / 'manifest.json'} is corrupt ({error!r}); run the evaluation again.") from error
    job = load_job(task, split, opened, limit=None, seed=0)
    return task, {sample.id: sample for sample in job.all_samples}


def located(name: str, cwd: str) -> str:
    """``--data`` as it was given, seen from the folder that it was given in."""
    if name in (BUNDLED, HUB):
        return name
    prefix = f"{HUB}:" if name.startswith(f"{HUB}:") else ""
    return prefix + os.fspath(Path(cwd) / user_path(name.removeprefix(prefix), "--data"))


def change_note(run: ScoredRun, name: str, task: Task, samples: Mapping[str, Sample]) -> str:
    """A note if the task's version, its questions or its references have changed since the run; else empty."""
    then, file = run.manifest.version_of(name), run.rows[name].parsed_signature.file
    if isinstance(task, FileTask) and file not in (None, task.digest):
        return f"{task.path} has changed since the run was made: references may differ."
    if then is None or then == task.version:
        digest = run.annotations(name)
        if digest is None or digest == digest_of_annotations(task, samples.values())[:16]:
            return ""
        return (
            "questions or references have changed since the answers were scored; "
            f"'evalkit rescore {run.path}' scores them again."
        )
    return f"the task's version was {then} when the run was made and is {task.version} now: references may differ."


# ---------------------------------------------------------------------------------------------------------- the prompt


def prompt_renderer(run: ScoredRun, name: str, task: Task, data: str | None) -> RenderPrompt:
    """A function that renders a sample's prompt as the run's family does, with few-shot examples if available."""
    family, settings = family_of(run), run.manifest.settings
    protocol, choice = str(settings.get("protocol", OFFICIAL)), str(settings.get("choice", GENERATE))
    given = GivenPrompts.from_dict(run.manifest.given_prompts)
    sampling = _sampling(settings)
    spec = replace(task.prompt_spec(protocol, choice), given=given.templates.get(task.name, ""))
    pool = cache(lambda: shot_candidates(run, name, task, data))

    def render(sample: Sample, shots: Sequence[str], image_sizes: Sequence[ImageSize]) -> RenderedPrompt | None:
        if family is None:
            return None
        try:
            before = with_answers(family, spec, [pool().get(shot) for shot in shots], image_sizes)
            own = spec.of(sample)
            asked = task.asked(sample, protocol, sampling or family.video_sampling)
            messages = conversation(given, own, family, asked, before or ())
            ranked = own.kind == "choice" and choice != GENERATE
            digest = prompt_digest(messages, family.continuations(own, sample) if ranked else ())
        except UserError:
            return None
        return RenderedPrompt(
            [(message.role, text_of(message)) for message in messages], digest, has_shots=before is not None
        )

    return render


def _sampling(settings: Mapping[str, Any]) -> str | None:
    """The name of the rule by which a run chose frames of videos; None for the family's."""
    keys = ("video_sampling", "fps", "max_frames", "max_video_tokens")
    try:
        return sampling_name(*(settings.get(key) for key in keys))
    except (UserError, TypeError, ValueError):
        return None


def shot_candidates(run: ScoredRun, name: str, task: Task, data: str | None) -> Mapping[str, Sample]:
    """The samples that a run's few-shot examples came from, by id; empty if they are no longer available."""
    given = run.manifest.settings.get("shots_from")
    try:
        given = None if given is None else relocated(located(str(given), str(run.manifest.cwd)), data)
        pool = shot_pool(task, name.rpartition("/")[2], data_of(run, data), given)
    except UserError:
        return {}
    return {sample.id: sample for sample in pool.samples}


def with_answers(
    family: Family, spec: PromptSpec, examples: Sequence[Sample | None], image_sizes: Sequence[ImageSize]
) -> tuple[Shot, ...] | None:
    """Few-shot examples with answers; None if one is missing.  ``image_sizes``: the shots', then the sample's."""
    found = []
    place = 0
    for sample in examples:
        if sample is None:
            return None
        last = place + len(sample.images) - 1
        place += len(sample.all_images)
        if place > len(image_sizes):
            return None
        found.append(Shot(sample, family.answer(spec, sample, image_sizes[last])))
    return tuple(found)


def text_of(message: Message) -> str:
    return message.text(IMAGE, VIDEO)


def family_of(run: ScoredRun) -> Family | None:
    """The run's family; None for answers from a predictions file, or if it is no longer installed."""
    named = run.manifest.family
    if not isinstance(named, Mapping):
        return None
    try:
        return registry.families.get(str(named.get("name")))
    except UserError:
        return None


def answer_parser(run: ScoredRun, task: Task) -> ParseAnswer | None:
    """A function that parses an answer as ``evalkit rescore`` did; None if the journal's predictions were scored."""
    if not run.manifest.rescored or run.manifest.settings.get("recorded_predictions"):
        return None
    reader = Reader.from_settings(run.manifest.settings, family_of(run))

    def parsed(sample: Sample, line: Line) -> Any:
        there = line.response
        return reader.parse(task, sample, there.text, there.image_sizes, known_finish(there, line.prompt)).value

    return parsed
