"""Rank the options of multiple-choice questions by likelihood, if the server returns log probabilities.

If all options are single characters, such as option letters, one request for the likeliest first tokens
(``top_logprobs``) decides: the first option among them is the likeliest.  Otherwise, or if no option is among them,
each option is sent as the beginning of the assistant's turn, with a request for the log probabilities of its tokens
(``prompt_logprobs``, which vLLM supports); the option with the lowest mean cross-entropy per token is the response, as
in the ``hf`` backend.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from evalkit.types import Message, Request, Response, TextPart

from .errors import BadRequest, FatalError, RequestFailed
from .replies import first_choice, prompt_tokens

TOP_TOKENS = 20
"""The most that servers return."""
NO_LOGPROBS = (
    "the server returns no log probabilities, so multiple-choice options cannot be ranked; use --choice generate"
)
ROUNDING = 0.01
"""Log probabilities are at most 0, but for rounding in half precision."""
UNKNOWN_FORMAT = "log probabilities in an unknown format"

Post = Callable[[Request, Mapping[str, Any], Callable[[Any], Any]], Awaitable[Any]]
"""Sends a request with further fields until a reply can be parsed, and returns what the function makes of it."""


async def rank_options(request: Request, post: Post) -> Response:
    """The likeliest of a request's continuations.

    Raises:
        FatalError: the server returns no log probabilities.
        BadRequest: it does not return those that are needed.
    """
    options = request.continuations
    prompt = 0
    if all(len(option) == 1 for option in options):
        fields = {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_TOKENS}
        best, prompt = await post(request, fields, lambda reply: _best_first_token(reply, options))
        if best is not None:
            return Response(request.id, best, prompt_tokens=prompt)
    means = []
    for option in options:
        mean, length = await post(*_with_answer(request, option), partial(_mean_cross_entropy, option=option))
        means.append(mean)
        prompt = prompt or length
    return Response(request.id, options[means.index(min(means))], prompt_tokens=prompt)


def _best_first_token(reply: Any, options: Sequence[str]) -> tuple[str | None, int]:
    """The likeliest option among the likeliest first tokens (None if no option is), and the prompt's tokens."""
    logprobs = first_choice(reply).get("logprobs")
    places = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not places:
        raise FatalError(NO_LOGPROBS)
    first = places[0] if isinstance(places, list) else None
    tops = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(tops, list):
        raise RequestFailed(UNKNOWN_FORMAT)
    by_option: dict[str, float] = {}
    for top in tops:
        token, logprob = _entry(top, "token")
        if token in options:
            by_option[token] = logprob
    if not by_option:
        return None, prompt_tokens(reply)
    best = max(options, key=lambda option: by_option.get(option, -math.inf))  # a tie goes to the first
    return best, prompt_tokens(reply)


def _entry(value: Any, name: str) -> tuple[str, float]:
    """A token's text, which is in the field ``name``, and its log probability.

    Raises:
        RequestFailed: it has none, or one that is no number.
    """
    token, logprob = (value.get(name), value.get("logprob")) if isinstance(value, dict) else (None, None)
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        raise RequestFailed(UNKNOWN_FORMAT)
    if logprob > ROUNDING:
        raise RequestFailed(f"a log probability of {logprob:g}, above 0")
    return token, float(logprob)


def _with_answer(request: Request, option: str) -> tuple[Request, dict[str, Any]]:
    """The request with ``option`` as the beginning of the assistant's turn, and the fields to send with it."""
    continued = replace(request, messages=(*request.messages, Message("assistant", (TextPart(option),))))
    return continued, {
        "max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True,
    }  # fmt: skip


def _mean_cross_entropy(reply: Any, option: str) -> tuple[float, int]:
    """The mean cross-entropy (nats per token) of the tokens at the prompt's end that spell ``option``, and its length.

    Raises:
        BadRequest: the server does not return log probabilities of the prompt, or they are not those of the option.
        RequestFailed: they have an unknown format.
    """
    first_choice(reply)
    places = reply.get("prompt_logprobs")
    if not places:
        raise BadRequest(
            f"no option is among the {TOP_TOKENS} likeliest first tokens, and the server does not return "
            "prompt_logprobs"
        )
    if not isinstance(places, list):
        raise RequestFailed(UNKNOWN_FORMAT)
    total, count, spelled = 0.0, 0, ""
    for place in reversed(places):
        if len(spelled) >= len(option) or not place:
            break
        if not isinstance(place, dict):
            raise RequestFailed(UNKNOWN_FORMAT)
        token, logprob = _entry(next(iter(place.values())), "decoded_token")
        spelled = token + spelled
        total -= logprob
        count += 1
    if spelled != option:
        raise BadRequest(f"the prompt's last tokens do not spell {option!r} ({spelled[-80:]!r})")
    return total / count, prompt_tokens(reply)
