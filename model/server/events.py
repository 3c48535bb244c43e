"""Streamed replies: a stream of server-sent events as the reply that a server without streaming gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evalkit.jsonl import parse

TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
"""The fields of a message whose pieces are joined."""


def is_stream(content_type: str, body: bytes) -> bool:
    """Whether a reply is a stream of events."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream" or body.lstrip()[:6] == b"data: "


def reply_of(body: bytes) -> Any:
    """The reply that a stream of events makes up.

    Raises:
        ValueError: it is no such stream, or it ended before the answer did.
    """
    reply: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant"}, "finish_reason": None}
    ended = False
    for event in _events(body):
        if event is None:
            ended = True
            break
        if event.get("error"):
            return {"error": event["error"]}
        reply |= {key: value for key, value in event.items() if key != "choices" and value is not None}
        for one in event.get("choices") or ():
            if isinstance(one, dict) and one.get("index", 0) == 0:
                _add(choice, one)
    if not ended and choice["finish_reason"] is None:
        raise ValueError("the stream of events ended before the answer did")
    return {**reply, "choices": [choice]}


def _events(body: bytes) -> Iterator[dict[str, Any] | None]:
    """The events' contents; None for the one that ends the stream."""
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].lstrip() for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines).strip()
        if data == b"[DONE]":
            yield None
        elif data:
            event = parse(data)
            if isinstance(event, dict):
                yield event


def _add(choice: dict[str, Any], one: dict[str, Any]) -> None:
    """Add a piece to the choice."""
    delta = one.get("delta") or one.get("message") or {}
    message = choice["message"]
    for key, value in delta.items() if isinstance(delta, dict) else ():
        if isinstance(value, str) and key in TEXTS:
            message[key] = (message.get(key) or "") + value
        elif isinstance(value, list) and key == "content":  # parts
            message[key] = [*(message.get(key) or []), *value]
        elif value is not None and key not in message:
            message[key] = value
    for key in ("finish_reason", "stop_reason"):
        if one.get(key) is not None:
            choice[key] = one[key]
    if isinstance(one.get("token_ids"), list):
        choice["token_ids"] = [*choice.get("token_ids", []), *one["token_ids"]]
    logprobs = one.get("logprobs")
    if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
        known = choice.setdefault("logprobs", {"content": []})
        known["content"] += logprobs["content"]
