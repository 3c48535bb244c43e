"""Responses from the results of planned requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.model.video_frames import FrameImage
from evalkit.reasoning import REASONING
from evalkit.reasoning_tokens import count_reasoning, reasoning_end
from evalkit.types import ImageSize, Request, Response

from .continuations import Tokens
from .planned import PlannedRequest, describe_error

log = logging.getLogger(__name__)

PROMPT_END = 200
"""Characters of the prompt's end that a response keeps; longer than any reasoning marker."""


@dataclass(frozen=True)
class Outcome:
    """The result of one planned request, from the engine or from ``generate``.

    Attributes:
        tokens: the generated tokens; those after a stop token may be among them.
        mean_losses: for ranked continuations, the mean cross-entropy of each option of the branch.
        image_sizes: per image, the size in the file and after resizing.
        seconds: its share of the time of its batch.
        broken: whether logits were NaN.
    """

    planned: PlannedRequest
    tokens: tuple[int, ...] = ()
    mean_losses: tuple[float, ...] = ()
    prompt_tokens: int = 0
    image_sizes: tuple[ImageSize, ...] = ()
    seconds: float = 0.0
    broken: bool = False
    error: BaseException | None = None


class Responses:
    """Decodes generated tokens, and merges the branches of requests with continuations.

    Args:
        stops: returns the stop tokens of a request.
    """

    def __init__(self, tokenizer: Any, stops: Callable[[PlannedRequest], Sequence[int]]) -> None:
        self.tokenizer = tokenizer
        self.stops = stops
        # Finished branches of requests with unfinished ones, by request id.
        self._parts: dict[str, list[tuple[Response, list[tuple[float, int, Tokens]]]]] = {}

    def clear(self) -> None:
        """Forget the branches of an interrupted run."""
        self._parts.clear()

    def has_stop_string(self, planned: PlannedRequest, tokens: Sequence[int]) -> bool:
        """Whether an answer contains one of its stop strings."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=False)
        return any(string in text for string in planned.request.decoding.stop)

    def add(self, outcome: Outcome) -> Iterator[Response]:
        """The response or error response of a request; nothing while it has unfinished branches."""
        planned = outcome.planned
        error = outcome.error
        if error is None and outcome.broken:
            error = ArithmeticError("the model's logits are NaN; try another --dtype")
        if error is not None:
            yield from self._merge(planned, error_response(planned.request, error))
            return
        common = Response(
            id=planned.request.id,
            prompt_tokens=outcome.prompt_tokens,
            image_sizes=own_image_sizes(planned, outcome.image_sizes),
            video_inputs=tuple(video.input for video in planned.videos),
            seconds=outcome.seconds,
        )
        if planned.branch is not None:
            yield from self._merge(planned, common, outcome.mean_losses)
            return
        tokens, ended = truncate_at_stop(outcome.tokens, self.stops(planned))
        if planned.request.decoding.stop:
            end = next((n for n in range(1, len(tokens) + 1) if self.has_stop_string(planned, tokens[:n])), None)
            tokens, ended = tokens[:end], ended or end is not None
        text = self.tokenizer.decode(tokens, skip_special_tokens=False)
        for string in planned.request.decoding.stop:
            text = text.partition(string)[0]
        prompt_end = planned.prompt[-PROMPT_END:]
        end = reasoning_end(text, prompt_end, planned.request.markers or REASONING, ended=ended)
        yield replace(
            common, text=text, tokens=tuple(tokens), finish="stop" if ended else "length", prompt_end=prompt_end,
            reasoning_tokens=count_reasoning(tokens, end, self._characters),
        )  # fmt: skip

    def _characters(self, tokens: Sequence[int]) -> int:
        return len(self.tokenizer.decode(tokens, skip_special_tokens=False))

    def _merge(self, planned: PlannedRequest, part: Response, mean_losses: Sequence[float] = ()) -> Iterator[Response]:
        """The response once all branches of its request are finished: the likeliest option, or the first error."""
        if planned.branch is None:
            yield part
            return
        request = planned.request
        options = planned.branch.options
        ranked = [(mean, *option) for mean, option in zip(mean_losses, options, strict=True)] if not part.error else []
        parts = self._parts.setdefault(request.id, [])
        parts.append((part, ranked))
        if len(parts) < planned.parts:
            return
        del self._parts[request.id]
        error = next((part for part, _ in parts if part.error is not None), None)
        if error is not None:
            yield error
            return
        _, index, tokens = min(rank for _, ranked in parts for rank in ranked)  # the first of equal ones
        seconds = sum(part.seconds for part, _ in parts)
        yield replace(part, text=request.continuations[index], tokens=tokens, seconds=seconds)


def own_image_sizes(planned: PlannedRequest, sizes: Sequence[ImageSize]) -> tuple[ImageSize, ...]:
    """The sizes of the request's images without those that are frames of its videos."""
    if not planned.videos_as_images:
        return tuple(sizes)
    images = planned.request.images
    return tuple(size for image, size in zip(images, sizes, strict=True) if not isinstance(image, FrameImage))


def error_response(request: Request, error: BaseException) -> Response:
    """The response of a request that failed; logs a warning."""
    message = describe_error(request, error)
    log.warning("sample %s: %s", request.id, message)
    return Response(id=request.id, finish="error", error=message)


def truncate_at_stop(tokens: Sequence[int], stops: Sequence[int]) -> tuple[Sequence[int], bool]:
    """The tokens before the first stop token, and whether there was one."""
    for at, token in enumerate(tokens):
        if token in stops:
            return tokens[:at], True
    return tokens, False
