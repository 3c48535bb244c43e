"""What comes of rows, as responses to requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from evalkit.types import Request, Response

from .continuations import Tokens
from .outcome import Outcome
from .processor import Planned, explained

log = logging.getLogger(__name__)


class Responses:
    """Reads rows' tokens as text, and puts the parts of requests with continuations together.

    Args:
        stops: the tokens that end a request's answer.
    """

    def __init__(self, tokenizer: Any, stops: Callable[[Planned], Sequence[int]]) -> None:
        self.tokenizer = tokenizer
        self.stops = stops
        # The parts of requests whose other parts are still to come, by id.
        self._parts: dict[str, list[tuple[Response, list[tuple[float, int, Tokens]]]]] = {}

    def clear(self) -> None:
        """Forget the parts of a run that nobody saw to its end."""
        self._parts.clear()

    def enough(self, planned: Planned, tokens: Sequence[int]) -> bool:
        """Whether an answer has one of the strings that end it."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=False)
        return any(string in text for string in planned.request.decoding.stop)

    def of(self, outcome: Outcome) -> Iterator[Response]:
        """What can be said now: the response, its error, or nothing while other parts are still to come."""
        planned = outcome.planned
        error = outcome.error
        if error is None and outcome.broken:
            error = ArithmeticError("the model's output is not a number (NaN); another --dtype may help")
        if error is not None:
            yield from self._whole(planned, failed(planned.request, error))
            return
        common = Response(
            id=planned.request.id,
            prompt_tokens=outcome.prompt_tokens,
            image_sizes=outcome.image_sizes,
            seconds=outcome.seconds,
        )
        if planned.branch is not None:
            yield from self._whole(planned, common, outcome.entropies)
            return
        tokens, ended = cut(outcome.tokens, self.stops(planned))
        if planned.request.decoding.stop:
            heard = next((n for n in range(1, len(tokens) + 1) if self.enough(planned, tokens[:n])), None)
            tokens, ended = tokens[:heard], ended or heard is not None
        text = self.tokenizer.decode(tokens, skip_special_tokens=False)
        for string in planned.request.decoding.stop:
            text = text.partition(string)[0]
        yield replace(common, text=text, tokens=tuple(tokens), finish="stop" if ended else "length")

    def _whole(self, planned: Planned, part: Response, entropies: Sequence[float] = ()) -> Iterator[Response]:
        """The response, once all parts of its request are there: the likeliest continuation, or the first error."""
        if planned.branch is None:
            yield part
            return
        request = planned.request
        options = planned.branch.options
        ranked = [(mean, *option) for mean, option in zip(entropies, options, strict=True)] if not part.error else []
        parts = self._parts.setdefault(request.id, [])
        parts.append((part, ranked))
        if len(parts) < planned.parts:
            return
        del self._parts[request.id]
        failed = next((part for part, _ in parts if part.error is not None), None)
        if failed is not None:
            yield failed
            return
        _, place, tokens = min(rank for _, ranked in parts for rank in ranked)  # of equal ones, the first
        seconds = sum(part.seconds for part, _ in parts)
        yield replace(part, text=request.continuations[place], tokens=tokens, seconds=seconds)


def failed(request: Request, error: BaseException) -> Response:
    """The response of a request that could not be answered."""
    said = explained(request, error)
    log.warning("sample %s: %s", request.id, said)
    return Response(id=request.id, finish="error", error=said)


def cut(tokens: Sequence[int], stops: Sequence[int]) -> tuple[Sequence[int], bool]:
    """The tokens before the first one that ends an answer, and whether there was one."""
    for at, token in enumerate(tokens):
        if token in stops:
            return tokens[:at], True
    return tokens, False
