"""Replies of the chat completions API: the answer, the reasoning before it, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.reasoning import split
from evalkit.types import Request, Response

from .http import RequestFailed

FINISHED = {"stop", "eos_token", "eos", "stop_sequence", "end_turn", "end", "completed", "complete", "finished"}
TRUNCATED = {
    "length", "max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit", "max_new_tokens",
    "max_completion_tokens", "model_context_window_exceeded",
}  # fmt: skip
"""Finish reasons in lower case, without the prefix ``finish_reason_`` that some servers put before them."""
END_OF_TURN = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|eom_id|end_of_turn|END_OF_TURN_TOKEN)\|>|<end_of_(?:turn|utterance)>"
)
"""Tokens that end a turn.  A server that does not stop at them lets the model go on with turns of its own."""
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


def response_of(request: Request, reply: Any, prompt_end: str = "") -> Response:
    """The response in a reply, without image sizes and time.

    Reasoning that the server reports separately is put before the answer, between ``<think>`` and ``</think>``, as most
    models generate it.  It is never part of the answer.

    Args:
        prompt_end: the end of the prompts that the server renders, if known.

    Raises:
        RequestFailed: the reply contains no answer.
    """
    choice = first_choice(reply)
    message = choice["message"]
    text, reasoning = _text(message.get("content")), _reasoning(message)
    refusal = message.get("refusal") if isinstance(message.get("refusal"), str) else ""
    reason = choice.get("finish_reason")
    name = reason.strip().lower().removeprefix("finish_reason_") if isinstance(reason, str) else ""
    truncated = name in TRUNCATED
    if not truncated and name not in FINISHED and not (reason is None and (text or refusal)):
        return Response(request.id, finish="error", error=_why(choice, refusal, reason)[:300])
    text = text or refusal or ""  # a refusal is the model's answer
    tokens = _tokens(choice, ended=not truncated)
    if (end := END_OF_TURN.search(text)) is not None:
        text, truncated = text[: end.start()], False
    for string in request.decoding.stop:
        text = text.partition(string)[0]
    if reasoning:
        text = f"<think>{reasoning}" + ("" if truncated and not text else f"</think>{text}")
    elif not _continues(text, truncated=truncated):
        prompt_end = ""
    return Response(
        request.id, text, tokens, "length" if truncated else "stop", prompt_tokens=prompt_tokens(reply),
        prompt_end="" if reasoning else prompt_end,
    )  # fmt: skip


def _continues(text: str, *, truncated: bool) -> bool:
    """Whether a text without separate reasoning goes on with reasoning that the prompt may have opened.

    A server may have removed finished reasoning, and then the text is the answer.
    """
    parts = split(text)
    return parts.rule == "closed" or (truncated and parts.rule == "none")


def _text(content: Any) -> str:
    """The answer in a message's content, which is a text or a list of parts; reasoning and others are left out."""
    if isinstance(content, str):
        return content
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in (content if isinstance(content, list) else ())
        if isinstance(part, str) or (isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"))
    ]
    return "".join(text for text in texts if isinstance(text, str))


def _reasoning(message: Mapping[str, Any]) -> str:
    """The reasoning that a server reports beside the answer, or as parts of it."""
    for name in REASONING_FIELDS:
        value = message.get(name)
        if isinstance(value, str) and value.strip():
            return value
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(text for part in parts for text in _reasoning_texts(part))


def _reasoning_texts(part: Mapping[str, Any]) -> Iterator[str]:
    kind = str(part.get("type", "text"))
    if "reason" not in kind and "think" not in kind:
        return
    for name in ("text", "thinking", "reasoning", "summary", "content"):
        value = part.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (str(one["text"]) for one in value if isinstance(one, dict) and "text" in one)


def _why(choice: Mapping[str, Any], refusal: str, reason: Any) -> str:
    """Why an answer did not end as answers do."""
    error = choice.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(refusal or message or f"the server ended the answer with {reason!r}")


def first_choice(reply: Any) -> dict[str, Any]:
    """The first choice of a reply.  Raises ``RequestFailed`` if there is none."""
    try:
        choice = reply["choices"][0]
        assert isinstance(choice, dict)
        assert isinstance(choice["message"], dict)
    except (KeyError, IndexError, TypeError, AssertionError):
        raise RequestFailed(f"the reply has no choices ({str(reply)[:80]!r})") from None
    return choice


def prompt_tokens(reply: Any) -> int:
    """The prompt's length in tokens; 0 if the server does not report it."""
    usage = reply.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else 0


def _tokens(choice: Mapping[str, Any], *, ended: bool) -> tuple[int, ...]:
    """The answer's token ids without the one that ended the turn; empty if the server does not return them."""
    tokens = choice.get("token_ids")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return ()
    by_string = isinstance(choice.get("stop_reason"), str)
    return tuple(tokens[:-1] if ended and tokens and not by_string else tokens)
