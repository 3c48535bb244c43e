"""Replies of the chat completions API: each field is validated once, here, and everything else uses these values.

A reply without an answer, or with a field of another type, is a ``RequestFailed``: the request is sent again.  What a
server only reports about an answer (counts, token ids) is unknown if it cannot be right, and the answer is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.data import shown
from evalkit.reasoning import REASONING, cut_off_inside, split
from evalkit.reasoning_tokens import reasoning_end, with_opening
from evalkit.types import Request, Response

from .errors import RequestFailed

FINISHED = {"stop", "eos_token", "eos", "stop_sequence", "end_turn", "end", "completed", "complete", "finished"}
TRUNCATED = {
    "length", "max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit", "max_new_tokens",
    "max_completion_tokens", "model_context_window_exceeded",
}  # fmt: skip
"""Finish reasons in lower case, without the prefix ``finish_reason_`` that some servers put before them."""
END_OF_TURN = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|eom_id|end_of_turn|END_OF_TURN_TOKEN)\|>|<end_of_(?:turn|utterance)>"
)
"""Tokens that end a turn.  If a server does not stop at them, the model continues with further turns."""
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
LONGEST_ANSWER = 1_000_000
"""Characters of an answer with its reasoning; no model generates as many."""
MAX_COUNT = 2**53
"""Larger counts have no exact value in many readers of JSON."""
MAX_TOKEN = 2**31
FINGERPRINT_LENGTH = 80
LAST_TOKENS = 40
"""The tokens that are kept of a prompt's end; more than the longest marker of reasoning has."""
KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Reply:
    """A reply with an answer, or with the reason why there is none.

    Attributes:
        text: the answer; None if the server gives null.
        reasoning: what the server reports as reasoning, beside the answer or as parts of it.
        refusal: the model's refusal to answer.
        reason: how the answer ended, as the server spells it; None if it does not say.
        error: what went wrong with the answer.
        tokens: its token ids, with the one that ended the turn; empty if unknown.
        stopped_by_string: whether a stop string ended it.
        prompt_tokens: the prompt's length in tokens; 0 if unknown.
        new_tokens: the number of generated tokens; 0 if unknown.
        reasoning_tokens: how many of them the server counts as reasoning; None if it does not say.
        last_prompt: the prompt's last token ids; empty if unknown.
        fingerprint: of the server's configuration; empty if unknown.
    """

    text: str | None
    reasoning: str
    refusal: str
    reason: str | None
    error: str
    tokens: tuple[int, ...]
    stopped_by_string: bool
    prompt_tokens: int
    new_tokens: int
    reasoning_tokens: int | None
    last_prompt: tuple[int, ...]
    fingerprint: str

    @classmethod
    def parse(cls, content: Any) -> Reply:
        """The reply in the JSON that a server sent.

        Raises:
            RequestFailed: there is no answer in it, or a field that an answer depends on has another type.
        """
        choice = first_choice(content)
        message = choice["message"]
        error = choice.get("error")
        error = error.get("message") if isinstance(error, dict) else error
        reply = cls(
            _answer(message.get("content")),
            _reasoning(message),
            _optional_text(message, "refusal", "message") or "",
            _optional_text(choice, "finish_reason", "choices[0]"),
            error if isinstance(error, str) else "",
            _token_ids(choice.get("token_ids")),
            isinstance(choice.get("stop_reason"), str),
            prompt_tokens(content),
            _count(content, "completion_tokens") or 0,
            _count(content, "completion_tokens_details", "reasoning_tokens"),
            _token_ids(content.get("prompt_token_ids"))[-LAST_TOKENS:],
            _short_text(content.get("system_fingerprint")),
        )
        length = len(reply.text or "") + len(reply.reasoning)
        if length > LONGEST_ANSWER:
            raise RequestFailed(f"the answer has {length:,} characters; no model generates as many")
        if reply.reason is None and not (reply.text or reply.refusal or reply.error):
            raise RequestFailed("the reply has neither an answer nor a finish_reason")
        return reply

    @property
    def finish(self) -> str:
        """``reason`` in lower case without its prefix; empty if there is none."""
        return "" if self.reason is None else self.reason.strip().lower().removeprefix("finish_reason_")


def response_of(request: Request, reply: Reply, prompt_end: str = "") -> Response:
    """The response in a reply, without image sizes and time.

    Reasoning that the server reports separately is put before the answer, between ``<think>`` and ``</think>``, as most
    models generate it.  It is never part of the answer.

    Args:
        prompt_end: the end of the prompts that the server renders, if known.
    """
    truncated = reply.finish in TRUNCATED
    given = reply.text or reply.refusal  # a refusal is the model's answer
    if not truncated and reply.finish not in FINISHED and not (reply.reason is None and given):
        why = reply.refusal or reply.error or f"the server ended the answer with {reply.reason!r}"
        return Response(request.id, finish="error", error=why[:300])
    text = given
    tokens = reply.tokens
    if tokens and not truncated and not reply.stopped_by_string:
        tokens = tokens[:-1]  # the one that ended the turn
    if (end := END_OF_TURN.search(text)) is not None:
        text, truncated = text[: end.start()], False
    for string in request.decoding.stop:
        text = text.partition(string)[0]
    if reply.reasoning:
        text = f"<think>{reply.reasoning}" + ("" if truncated and not text else f"</think>{text}")
    elif not _continues(text, truncated=truncated):
        prompt_end = ""
    markers = request.markers or REASONING
    if reply.reason is None and end is None and cut_off_inside(with_opening(text, prompt_end, markers), markers, None):
        truncated = True  # the server does not say how it ended
    prompt_end = "" if reply.reasoning else prompt_end
    end_of_reasoning = reasoning_end(text, prompt_end, markers, ended=not truncated)
    return Response(
        request.id, text, tokens, "length" if truncated else "stop", prompt_tokens=reply.prompt_tokens,
        prompt_end=prompt_end, counted=reply.new_tokens,
        reasoning_tokens=_reasoning_tokens(reply, end_of_reasoning, len(text), len(tokens) or reply.new_tokens),
    )  # fmt: skip


def _reasoning_tokens(reply: Reply, end: int, length: int, new_tokens: int) -> int | None:
    """How many of an answer's tokens are reasoning; None if the server would have to be asked.

    Args:
        end: where the reasoning ends in the answer, which has ``length`` characters and ``new_tokens`` tokens.
    """
    if not end:
        return 0
    if reply.reasoning_tokens:  # some report 0 where they do not separate it
        return min(reply.reasoning_tokens, new_tokens or reply.reasoning_tokens)
    return new_tokens or None if end == length else None


def _continues(text: str, *, truncated: bool) -> bool:
    """Whether a text without separate reasoning continues reasoning that the prompt may have opened.

    A server may have removed finished reasoning, and then the text is the answer.
    """
    parts = split(text)
    return parts.rule == "closed" or (truncated and parts.rule == "none")


# -------------------------------------------------------------------------------------------------------------- fields


def kind_of(value: Any) -> str:
    """A JSON value's type in words."""
    return KINDS.get(type(value), "a number")


def first_choice(content: Any) -> Mapping[str, Any]:
    """The first choice of a reply, which has a message.  Raises ``RequestFailed`` if there is none."""
    if not isinstance(content, dict):
        raise RequestFailed(f"the reply is {kind_of(content)}, not an object")
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices:
        raise RequestFailed(f"the reply has no choices ({shown(content)})")
    choice = choices[0]
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise RequestFailed(f"the reply's first choice has no message ({shown(choice)})")
    return choice


def prompt_tokens(content: Mapping[str, Any]) -> int:
    """The prompt's length in tokens; 0 if the server does not report it, or reports what it cannot be."""
    return _count(content, "prompt_tokens") or 0


def _count(content: Mapping[str, Any], *path: str) -> int | None:
    """A count in ``usage``; None if the server does not report it, or reports what it cannot be."""
    found: Any = content.get("usage")
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if type(found) is int and 0 <= found <= MAX_COUNT else None


def _optional_text(fields: Mapping[str, Any], name: str, where: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise RequestFailed(f"{where}.{name} is {kind_of(value)}, not a text")


def _short_text(value: Any) -> str:
    return " ".join(value[:FINGERPRINT_LENGTH].split()) if isinstance(value, str) else ""


def _token_ids(value: Any) -> tuple[int, ...]:
    """Token ids; none if one cannot be one."""
    if not isinstance(value, list) or not all(type(token) is int and 0 <= token < MAX_TOKEN for token in value):
        return ()
    return tuple(value)


def _answer(content: Any) -> str | None:
    """The answer in a message's content, which is a text or a list of parts; reasoning and others are left out.

    Raises:
        RequestFailed: it is neither, or a part with text has another value.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestFailed(f"message.content is {kind_of(content)}, not a text")
    texts: list[str] = []
    for part in content:
        if isinstance(part, dict):
            if part.get("type", "text") not in ("text", "output_text"):
                continue
            part = part.get("text")
        if not isinstance(part, str):
            raise RequestFailed(f"a part of message.content is {kind_of(part)}, not a text")
        texts.append(part)
    return "".join(texts) if texts else None


def _reasoning(message: Mapping[str, Any]) -> str:
    """The reasoning that a server reports next to the answer, or as parts of it."""
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
            yield from (one["text"] for one in value if isinstance(one, dict) and isinstance(one.get("text"), str))
