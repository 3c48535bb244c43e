"""``evalkit run --dry-run``: full prompts, without loading weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from rich.text import Text

from evalkit.checkpoint import Checkpoint, fetched
from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.interfaces import BackendFactory
from evalkit.jobs import Job, build_requests
from evalkit.options import RunSettings
from evalkit.results.tables import flat
from evalkit.types import Preview, Request

from .plan import Plan
from .shots import Resizer, resizer_of, shots_of

EXAMPLES = 2
"""Samples shown per split."""


def check_requests(plan: Plan, checkpoint: Checkpoint, factory: BackendFactory) -> None:
    """Check without loading weights that the checkpoint can answer the plan's requests.

    Raises:
        UserError: it cannot.
    """
    first = [replace(job, samples=job.samples[:1], repeats=1) for job in plan.jobs]
    questions = [question for job in first for question in build_requests(job, plan.family, lambda sample: ()).values()]
    factory.check(checkpoint, [question.request for question in questions])


def show_requests(plan: Plan, factory: BackendFactory, settings: RunSettings) -> None:
    """Print the prompts of each split's first samples as they are tokenized, with lengths, image sizes and limits.

    Raises:
        UserError: the backend cannot show requests, or ``--shots-by similar``, which needs the weights.
    """
    if plan.shots and settings.shots_by == "similar":
        raise UserError("--dry-run: --shots-by similar needs the weights; use random or fixed.")
    console = new_console(highlight=False)
    checkpoint = plan.checkpoint if plan.checkpoint.served is not None else fetched(plan.checkpoint)
    check_requests(plan, checkpoint, factory)
    resizer = resizer_of(plan, checkpoint, factory)
    for job in plan.jobs:
        few = replace(job, samples=job.samples[:EXAMPLES], repeats=1)
        questions = list(build_requests(few, plan.family, shots_of(plan, job, settings, resizer, None)).values())
        decoding = job.decoding(plan.family)
        shots = f", {plan.shots} shots ({settings.shots_by})" if plan.shots else ""
        title = (f"{plan.checkpoint.name}: {job.name}", "bold")
        each = f", {job.repeats} answers each" if job.repeats > 1 else ""
        console.print(Text.assemble(title, f", {job.chosen.counted(len(job.samples), len(job.all_samples))}{each}"))
        console.print(
            f"  family {plan.family.name}, protocol {job.protocol}{shots}; {decoding.describe()}, "
            f"{decoding.min_new_tokens} to {decoding.max_new_tokens} new tokens"
        )
        for line in given_lines(plan, job):
            console.print(Text(f"  {line}"), soft_wrap=True)
        try:
            found = factory.preview(checkpoint, [question.request for question in questions])
            if found is None:
                raise UserError(f"--dry-run: the backend {factory.name} cannot show its requests.")
            previews = list(found)
        except OSError as error:
            raise UserError(f"--dry-run: {error}.") from error
        for question, preview in zip(questions, previews, strict=True):
            length = "" if preview.tokens is None else f": {preview.tokens:,} tokens"
            console.print(Text.assemble("  ", (f"sample {question.sample.id}", "bold"), length))
            if question.shots:
                console.print(f"    examples {', '.join(question.shots)}")
            for line in media_lines(question.request, preview):
                console.print(Text(f"    {line}"), soft_wrap=True)
            for line in preview.prompt.split("\n"):
                console.print(Text(f"    │ {line}"), soft_wrap=True)
            if question.request.continuations:
                console.print(Text(f"    ranked: {' / '.join(map(repr, question.request.continuations))}"))


def media_lines(request: Request, preview: Preview) -> Iterator[str]:
    """A request's images and videos with what the model sees of them, a line for each."""
    if len(preview.image_sizes) == len(request.images):  # else the frames of videos are among them
        for image, image_size in zip(request.images, preview.image_sizes, strict=True):
            (w, h), (rw, rh) = image_size.original, image_size.resized
            yield f"image {image.name}: {w} × {h} pixels, resized to {rw} × {rh}"
    for video in preview.video_inputs:
        shown = video.selection
        (width, height), count = shown.size, len(shown.indices)
        yield (
            f"video {video.name}: {count} frames from {shown.timestamps[0]:.1f} to {shown.timestamps[-1]:.1f} s, "
            f"resized to {width} × {height}, by {video.sampling}"
        )


def given_lines(plan: Plan, job: Job) -> Iterator[str]:
    """The user's prompts of a split with their digests, a line for each."""
    given, digests = plan.given, dict(part.split(":", 1) for part in plan.given.signature(job.task.name))
    if given.system is not None:
        yield f"system turn {digests['system']}: {flat(given.system)}"
    if job.task.name in given.templates:
        yield f"prompt {digests['prompt']}: {flat(given.templates[job.task.name])}"
    if given.chat_template is not None:
        yield f"chat template {digests['chat_template']}: {len(given.chat_template):,} characters"
    if given.thinking is not None:
        yield f"thinking {digests['thinking']}"


LONG = 8192
"""Prompts of this many tokens or more are reported before the weights are loaded."""


def warn_of_long_prompts(
    plan: Plan,
    checkpoint: Checkpoint,
    factory: BackendFactory,
    settings: RunSettings,
    resizer: Resizer,
    announce: Callable[[str], None],
) -> None:
    """Report the length of each job's longest prompt (by image size), if it is long."""
    if plan.shots and settings.shots_by == "similar":
        return
    positions = checkpoint.positions
    for job in plan.jobs:
        if job.name not in plan.largest:
            continue
        one = replace(job, samples=[plan.largest[job.name]], repeats=1)
        (question,) = build_requests(one, plan.family, shots_of(plan, job, settings, resizer, None)).values()
        try:
            previews = factory.preview(checkpoint, [question.request])
            if previews is None:
                return
            (preview,) = previews
        except UserError:
            continue  # the run records images that cannot be decoded
        if preview.tokens is None or preview.tokens < min(LONG, positions or LONG):
            continue
        width, height = max(
            (image_size.original for image_size in preview.image_sizes), key=lambda size: size[0] * size[1]
        )
        beyond = f", more than the model's {positions:,} positions" if positions and preview.tokens > positions else ""
        announce(
            f"{job.name}: prompts of up to {preview.tokens:,} tokens{beyond} (sample {question.sample.id}, an image "
            f"of {width} × {height} pixels). Lower --max-pixels if you run out of memory."
        )
