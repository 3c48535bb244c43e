"""Few-shot examples of a plan, and the image sizes that its model sees."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from evalkit.checkpoint import Checkpoint
from evalkit.few_shot import ShotSelector, with_answers
from evalkit.interfaces import BackendFactory
from evalkit.jobs import Job
from evalkit.options import RunSettings
from evalkit.types import ImageSize, Sample, Shot, Size

from .lazy_backend import LazyBackend
from .plan import Plan

Resizer = Callable[[Size], ImageSize]


def resizer_of(plan: Plan, checkpoint: Checkpoint, factory: BackendFactory) -> Resizer:
    """The resizing of the model's own image processor, else of its family's usual one."""

    @cache
    def resizer() -> Resizer:  # lazy: only boxes in examples need it, and loading a processor takes time
        own = factory.resizer(checkpoint)
        if own is not None:
            return cache(own)
        return partial(plan.family.image_size, min_pixels=checkpoint.min_pixels, max_pixels=checkpoint.max_pixels)

    return lambda size: resizer()(size)


def shots_of(
    plan: Plan, job: Job, settings: RunSettings, resizer: Resizer, backend: LazyBackend | None
) -> Callable[[Sample], tuple[Shot, ...]]:
    """A function that returns a sample's few-shot examples with their answers."""
    if not plan.shots:
        return lambda sample: ()
    selector = ShotSelector(
        plan.pools[job.name],
        plan.shots,
        settings.shots_by,
        settings.seed,
        None if backend is None else backend.opened,
    )

    def shots(sample: Sample) -> tuple[Shot, ...]:
        return with_answers(selector.select(sample), job.prompt_spec, plan.family, resizer)

    return shots
