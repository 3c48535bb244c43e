"""Streamed replies: a stream of server-sent events as the reply that a server without streaming gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .parsing import parse_reply

TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
"""The fields of a message whose pieces are joined."""


def is_stream(content_type: str, body: bytes) -> bool:
    """Whether a reply is a stream of events."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream" or body.lstrip()[:6] == b"data: "


def reply_of(body: bytes) -> Any:
    """The reply that a stream of events makes up.

    Raises:
        ValueError: it is no such stream, its pieces do not fit together, or it ended before the answer did.
    """
    reply: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant"}, "finish_reason": None}
    pieces: dict[str, list[Any]] = {}
    ended = False
    for event in _events(body):
        if event is None:
            ended = True
            break
        if event.get("error"):
            return {"error": event["error"]}
        reply |= {key: value for key, value in event.items() if key != "choices" and value is not None}
        choices = event.get("choices") or []
        if not isinstance(choices, list):
            raise ValueError("the choices of an event are no list")
        for one in choices:
            if isinstance(one, dict) and one.get("index", 0) == 0:
                _add(choice, pieces, one)
    if not ended and choice["finish_reason"] is None:
        raise ValueError("the stream of events ended before the answer did")
    choice["message"] |= {name: _joined(name, parts) for name, parts in pieces.items()}
    return {**reply, "choices": [choice]}


def _events(body: bytes) -> Iterator[dict[str, Any] | None]:
    """The events' contents; None for the one that ends the stream."""
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].lstrip() for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines).strip()
        if data == b"[DONE]":
            yield None
        elif data:
            event = parse_reply(data)
            if isinstance(event, dict):
                yield event


def _add(choice: dict[str, Any], pieces: dict[str, list[Any]], one: dict[str, Any]) -> None:
    """Add an event's piece to the choice; ``pieces`` are those of the message's texts."""
    delta = one.get("delta") or one.get("message") or {}
    for key, value in delta.items() if isinstance(delta, dict) else ():
        if key in TEXTS and value is not None:
            pieces.setdefault(key, []).append(value)
        elif value is not None:
            choice["message"].setdefault(key, value)
    for key in ("finish_reason", "stop_reason"):
        if one.get(key) is not None:
            choice[key] = one[key]
    if isinstance(one.get("token_ids"), list):
        choice.setdefault("token_ids", []).extend(one["token_ids"])
    logprobs = one.get("logprobs")
    if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
        choice.setdefault("logprobs", {"content": []})["content"].extend(logprobs["content"])


def _joined(name: str, pieces: list[Any]) -> Any:
    """The value of a message's field: its texts joined, or its lists of parts; a value of another type as it is."""
    if name == "content" and all(isinstance(piece, list) for piece in pieces):
        return [part for piece in pieces for part in piece]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    if len(texts) == len(pieces) or name not in ("content", "refusal"):
        return "".join(texts)
    if len(pieces) == 1:
        return pieces[0]
    raise ValueError(f"the pieces of {name} are of different types")
