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
from typing import Any

from evalkit.types import Message, Request, Response, TextPart

from .chat_api import ChatAPI
from .http import BadRequest, FatalError, RequestFailed
from .replies import first_choice, prompt_tokens

TOP_TOKENS = 20
"""The most that servers return."""
NO_LOGPROBS = (
    "the server returns no log probabilities, so multiple-choice options cannot be ranked; use --choice generate"
)

Post = Callable[[Request, Mapping[str, Any]], Awaitable[Any]]
"""Sends a request with further fields and returns the reply."""


async def rank_options(request: Request, chat: ChatAPI, post: Post) -> Response:
    """The likeliest of a request's continuations.

    Raises:
        FatalError: the server returns no log probabilities.
        BadRequest: it does not return those that are needed.
    """
    options = request.continuations
    prompt = 0
    if all(len(option) == 1 for option in options):
        reply = await post(request, {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_TOKENS})
        prompt = prompt_tokens(reply)
        best = _best_first_token(reply, options)
        if best is not None:
            return Response(request.id, best, prompt_tokens=prompt)
    means = []
    for option in options:
        reply = await post(*_with_answer(request, option))
        means.append(_mean_cross_entropy(reply, option))
    if not means or any(math.isnan(mean) for mean in means):
        raise RequestFailed("log probabilities that are not numbers")
    return Response(request.id, options[means.index(min(means))], prompt_tokens=prompt or prompt_tokens(reply))


def _best_first_token(reply: Any, options: Sequence[str]) -> str | None:
    """The likeliest option among the likeliest first tokens; None if no option is among them."""
    logprobs = first_choice(reply).get("logprobs")
    places = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not places:
        raise FatalError(NO_LOGPROBS)
    try:
        tops = [(str(top["token"]), float(top["logprob"])) for top in places[0]["top_logprobs"]]
    except (KeyError, TypeError, ValueError):
        raise RequestFailed("log probabilities in an unknown format") from None
    by_option = {option: logprob for option, logprob in tops if option in options}
    if not by_option:
        return None
    return max(options, key=lambda option: by_option.get(option, -math.inf))  # a tie goes to the first


def _with_answer(request: Request, option: str) -> tuple[Request, dict[str, Any]]:
    """The request with ``option`` as the beginning of the assistant's turn, and the fields to send with it."""
    continued = replace(request, messages=(*request.messages, Message("assistant", (TextPart(option),))))
    return continued, {
        "max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True,
    }  # fmt: skip


def _mean_cross_entropy(reply: Any, option: str) -> float:
    """The mean cross-entropy (nats per token) of the tokens at the prompt's end that spell ``option``."""
    places = reply.get("prompt_logprobs")
    if not places:
        raise BadRequest(
            f"no option is among the {TOP_TOKENS} likeliest first tokens, and the server does not return "
            "prompt_logprobs"
        )
    total, count, spelled = 0.0, 0, ""
    for place in reversed(places):
        if spelled == option or not place:
            break
        try:
            entry = next(iter(place.values()))
            spelled = str(entry["decoded_token"]) + spelled
            total -= float(entry["logprob"])
        except (KeyError, TypeError, ValueError, StopIteration, AttributeError):
            raise RequestFailed("log probabilities in an unknown format") from None
        count += 1
    if spelled != option:
        raise BadRequest(f"the prompt's last tokens do not spell {option!r} ({spelled!r})")
    return total / count
