"""Answers windows of requests: with the engine where it supports them, else with the model's own ``generate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Event

import torch

from evalkit.model.hf.generate import GenerateRunner
from evalkit.model.hf.planned import PlannedRequest
from evalkit.model.hf.planning_thread import PlanningThread, WindowPlan
from evalkit.model.hf.processor import Inputs
from evalkit.model.hf.responses import Outcome
from evalkit.types import Request, image_key

from .engine import Engine
from .requests import sequence_outcome, supports
from .sequence import Sequence as EngineSequence


def plan_window(requests: Sequence[Request], inputs: Inputs, engine: Engine | None) -> WindowPlan:
    """Render and tokenize the prompts, and choose what answers each; reads the content of images in data set rows."""
    plan = WindowPlan()
    for request in requests:
        for image in request.images:
            image_key(image)  # reads the content: here, ahead of time
        try:
            for row in inputs.plan(request):
                fits = engine is not None and supports(engine, row)
                (plan.for_engine if fits else plan.for_generate).append(row)
        except (OSError, ValueError) as error:
            plan.failed.append((request, error))
    return plan


def answer_window(
    plan: WindowPlan,
    following: PlanningThread,
    stop: Event | None,
    *,
    engine: Engine | None,
    plain: GenerateRunner,
    sequence: Callable[[PlannedRequest], EngineSequence],
) -> Iterator[Outcome]:
    """An outcome per planned request of a window; the engine also begins with those of the following ones."""
    if plan.for_generate:
        if engine is not None:
            engine.free_memory()  # generate needs it
        yield from plain.answer(plan.for_generate, stop)
    if engine is None or not plan.for_engine or (stop is not None and stop.is_set()):
        return

    def more() -> list[EngineSequence]:
        coming = following.poll()
        return [] if coming is None else [sequence(row) for row in coming.for_engine]

    finished = engine.generate([sequence(row) for row in plan.for_engine], stop, more)
    while True:
        with torch.inference_mode():  # not in the caller's code
            done = next(finished, None)
        if done is None:
            return
        yield sequence_outcome(done)
