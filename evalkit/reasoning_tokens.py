"""How many of an answer's tokens are reasoning."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from evalkit.reasoning import REASONING, Markers, opened_by, split


def with_opening(text: str, prompt_end: str, markers: Sequence[Markers] = REASONING) -> str:
    """A raw answer that begins with the marker of its reasoning, also where the prompt has written that marker."""
    opening = opened_by(prompt_end, markers)
    if opening and text.lstrip().startswith(opening.strip()):
        opening = ""  # the model opened it again
    return opening + text


def reasoning_end(
    text: str, prompt_end: str = "", markers: Sequence[Markers] = REASONING, *, ended: bool | None = True
) -> int:
    """The number of characters of ``text`` up to the end of its reasoning, markers included; 0 without reasoning.

    Args:
        prompt_end: the end of the prompt, which may have opened the reasoning.
        ended: whether the model ended its turn (``split``).
    """
    parts = split(with_opening(text, prompt_end, markers), markers, ended=ended)
    if parts.rule == "none":
        return 0
    return max(0, len(text) - len(parts.answer)) if parts.complete else len(text)


def count_reasoning(
    tokens: Sequence[int], end: int, length: Callable[[Sequence[int]], int]
) -> int:  # fmt: skip
    """The number of leading ``tokens`` whose text has at least ``end`` characters.

    Args:
        end: see ``reasoning_end``.
        length: returns the number of characters that tokens decode to.
    """
    if not end:
        return 0
    return min(len(tokens), bisect_left(range(len(tokens) + 1), end, key=lambda count: length(tokens[:count])))
