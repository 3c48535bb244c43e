"""Streamed replies come to what a server without streaming sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalkit.model.server.events import is_stream, reply_of


def events(*contents: Any, done: bool = True) -> bytes:
    lines = [f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n" for content in contents]
    return "".join([": keep-alive\n\n", *lines, "data: [DONE]\n\n" if done else ""]).encode()


def piece(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_pieces_are_joined() -> None:
    body = events(
        piece(role="assistant", content=""), piece(reasoning_content="h"), piece(reasoning_content="m"), piece(content="re"),
        piece(content="d"), piece("stop"), {"choices": [], "usage": {"prompt_tokens": 7}},
    )  # fmt: skip
    assert is_stream("text/event-stream; charset=utf-8", body)
    reply = reply_of(body)
    message = {"role": "assistant", "content": "red", "reasoning_content": "hm"}
    assert reply["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert reply["usage"] == {"prompt_tokens": 7}


def test_tokens_and_log_probabilities_are_joined() -> None:
    tops = [{"token": "a", "logprob": -0.1, "top_logprobs": []}]
    one = piece(content="a")
    one["choices"][0] |= {"token_ids": [5], "logprobs": {"content": tops}}
    reply = reply_of(events(one, one, piece("length")))
    assert reply["choices"][0]["token_ids"] == [5, 5]
    assert reply["choices"][0]["logprobs"] == {"content": tops * 2}


def test_ends_of_streams() -> None:
    assert reply_of(events(piece(content="red")))["choices"][0]["message"]["content"] == "red"
    assert reply_of(events(piece("stop", content="red"), done=False))["choices"][0]["finish_reason"] == "stop"
    with pytest.raises(ValueError, match="ended before the answer did"):
        reply_of(events(piece(content="re"), done=False))
    with pytest.raises(ValueError, match="not JSON|Expecting|JSON"):
        reply_of(events("{"))
    error = {"error": {"message": "overloaded", "code": 502}}
    assert reply_of(events(piece(content="re"), error)) == error
    assert (
        reply_of(events(piece("stop", content="red")).replace(b"\n", b"\r\n"))["choices"][0]["finish_reason"] == "stop"
    )


def test_other_replies_are_no_streams() -> None:
    assert not is_stream("application/json", b'{"choices": []}')
    assert is_stream("application/json", b'data: {"choices": []}\n\n')
