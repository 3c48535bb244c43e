"""Shared by judged metrics: texts of prompts, messages, and readers of verdicts.

Readers get a judge's reply without reasoning and special tokens.  They never raise, and read only what a reply states
in the form that its prompt asks for: a verdict inside other text is none.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from evalkit.types import ImagePart, ImageRef, Message, TextPart

LONGEST = 100_000
"""Characters of a reply that are read."""

_NUMBER = re.compile(r"-?(?:\d{1,6}(?:\.\d{1,12})?|\.\d{1,12})")


@cache
def prompt_text(name: str) -> str:
    """The text of ``judge_prompts/NAME.txt``."""
    return (files("evalkit.metrics") / "judge_prompts" / f"{name}.txt").read_text(encoding="utf-8")


def user(text: str, *images: ImageRef) -> tuple[Message, ...]:
    """One turn with a text, and images after it."""
    return (Message("user", (TextPart(text), *map(ImagePart, images))),)


def number(text: str) -> float | None:
    """The number that ``text`` is; None if it is something else, such as ``1e3``, ``inf``, ``0.`` or ``1_0``."""
    return float(text) if _NUMBER.fullmatch(text) else None


def first_word_number(reply: str) -> float | None:
    """The number that is the first word of a reply; None if it is another word."""
    words = reply[:LONGEST].split(maxsplit=1)
    return number(words[0]) if words else None


def only_number(reply: str) -> float | None:
    """The number that is all of a reply."""
    return number(reply[:LONGEST].strip())


def some_text(reply: str) -> str | None:
    """A reply without the white space around it; None if nothing is left."""
    return reply[:LONGEST].strip() or None
