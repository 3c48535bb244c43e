"""Continuations ranked by likelihood, as far as a server tells likelihoods.

Where all are single characters, as letters are, the likeliest first tokens are asked for (``top_logprobs``): the first
option among them is the likeliest of all options, and one reply says so.  Else, or where none of them is there, each
option is put into the assistant's mouth and the server asked how likely its tokens were (``prompt_logprobs``, which
vLLM has); the one with the lowest mean cross-entropy per token is the response, as in the ``hf`` backend.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.types import Message, Request, Response, TextPart

from .chat_api import Chat, first_choice, prompt_tokens
from .http import Broken, Fatal, Refused

TOP = 20
"""As many as servers give."""
NO_LIKELIHOODS = "the server tells no likelihoods, so lettered questions cannot be ranked; use --choice generate"

Post = Callable[[Request, Mapping[str, Any]], Awaitable[Any]]
"""Sends a request with more fields; gives the reply."""


async def ranked(request: Request, chat: Chat, post: Post) -> Response:
    """The likeliest continuation.

    Raises:
        Fatal: the server tells no likelihoods.
        Refused: it does not tell enough of them.
    """
    options = request.continuations
    prompt = 0
    if all(len(option) == 1 for option in options):
        reply = await post(request, {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP})
        prompt = prompt_tokens(reply)
        found = _first(reply, options)
        if found is not None:
            return Response(request.id, found, prompt_tokens=prompt)
    means = []
    for option in options:
        reply = await post(*_spoken(request, option))
        means.append(_mean(reply, option))
    if not means or any(math.isnan(mean) for mean in means):
        raise Broken("likelihoods that are no numbers")
    return Response(request.id, options[means.index(min(means))], prompt_tokens=prompt or prompt_tokens(reply))


def _first(reply: Any, options: Sequence[str]) -> str | None:
    """The likeliest option among the likeliest first tokens."""
    told = first_choice(reply).get("logprobs")
    places = told.get("content") if isinstance(told, dict) else None
    if not places:
        raise Fatal(NO_LIKELIHOODS)
    try:
        tops = [(str(top["token"]), float(top["logprob"])) for top in places[0]["top_logprobs"]]
    except (KeyError, TypeError, ValueError):
        raise Broken("likelihoods in a form that is not known") from None
    likely = {option: logprob for option, logprob in tops if option in options}
    if not likely:
        return None
    return max(options, key=lambda option: likely.get(option, -math.inf))  # of equal ones, the first


def _spoken(request: Request, option: str) -> tuple[Request, dict[str, Any]]:
    """The request with ``option`` as what the assistant has begun to say."""
    said = replace(request, messages=(*request.messages, Message("assistant", (TextPart(option),))))
    return said, {
        "max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True,
    }  # fmt: skip


def _mean(reply: Any, option: str) -> float:
    """The mean cross-entropy (nats) of the tokens at the prompt's end that spell ``option``."""
    places = reply.get("prompt_logprobs")
    if not places:
        raise Refused(
            f"none of the options is among the {TOP} likeliest first tokens, and the server does not tell how likely "
            "the tokens of a prompt are"
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
            raise Broken("likelihoods in a form that is not known") from None
        count += 1
    if spelled != option:
        raise Refused(f"the tokens of {option!r} do not stand by themselves at the prompt's end ({spelled!r})")
    return total / count
