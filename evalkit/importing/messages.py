"""The texts of chat messages, in the form that inspect and EvalScope share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text_of(content: Any) -> str | None:
    """The texts of a message's content, reasoning left out; None if it is neither a text nor a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def question_of(messages: Any) -> str:
    """The texts of the user's messages; empty if there are none."""
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list):
        return ""
    asked = [one.get("content") for one in messages if isinstance(one, Mapping) and one.get("role") == "user"]
    return "\n".join(text for content in asked if (text := text_of(content)))


def answer_of(output: Any) -> str | None:
    """The text of a model's output, of its first choice; None if there is none."""
    if not isinstance(output, Mapping):
        return None
    choices = output.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        message = choices[0].get("message")
        if isinstance(message, Mapping) and (text := text_of(message.get("content"))) is not None:
            return text
    completion = output.get("completion")
    return completion if isinstance(completion, str) else None


def error_of(error: Any) -> str | None:
    """The first line of a recorded error; None if there is none."""
    if isinstance(error, Mapping):
        error = error.get("message")
    if not error:
        return None
    return (str(error).strip().splitlines() or ["an error"])[0][:200]
