"""Planned requests as sequences of the engine, and finished sequences as outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from evalkit.model.hf.planned import PlannedRequest
from evalkit.model.hf.responses import Outcome
from evalkit.model.hf.sampler import TokenSampler, needs_sampler
from evalkit.types import ImageSize

from .engine import Engine
from .sequence import Sequence as EngineSequence


def supports(engine: Engine, planned: PlannedRequest) -> bool:
    """Whether the engine supports the request; beam search needs ``generate``."""
    if planned.request.decoding.num_beams != 1 or (planned.encoded_videos and not engine.supports_videos):
        return False
    return engine.supports_several_images or len(planned.sizes) <= 1


def sequence_outcome(sequence: EngineSequence) -> Outcome:
    """The result of a finished sequence."""
    planned = sequence.request
    assert isinstance(planned, PlannedRequest)
    if sequence.error is not None:
        return Outcome(planned, error=sequence.error)
    images = zip(planned.sizes, sequence.processed_images, strict=True)
    scored = sequence.branch is not None and not sequence.broken
    return Outcome(
        planned,
        tokens=tuple(sequence.tokens),
        mean_losses=tuple(sequence.mean_losses) if scored else (),
        prompt_tokens=sequence.prompt_tokens,
        image_sizes=tuple(ImageSize(size, image.encoded_size or size) for size, image in images),
        seconds=sequence.seconds,
        broken=sequence.broken,
    )


def engine_sequence(
    planned: PlannedRequest,
    stop_tokens: Sequence[int],
    has_stop_string: Callable[[PlannedRequest, Sequence[int]], bool],
) -> EngineSequence:
    """The engine's sequence for a planned request."""
    decoding, branch = planned.request.decoding, planned.branch
    sequence = EngineSequence(
        planned,
        planned.ids,
        planned.request.images,
        planned.tokens,
        decoding.max_new_tokens if branch is None else len(branch.forced) + 1,
        stop_tokens=tuple(stop_tokens),
        videos=planned.encoded_videos,
        branch=branch,
    )
    if branch is None:
        sequence.min_new_tokens = decoding.min_new_tokens
        if needs_sampler(decoding):
            sequence.sampler = TokenSampler(decoding, planned.request.id, planned.ids)
        if decoding.stop:
            sequence.hits_stop_string = partial(has_stop_string, planned)
    return sequence
