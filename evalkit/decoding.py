"""Decoding overrides from the command line or the API (``--temperature`` etc.)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.errors import UserError


def changes(
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    num_beams: int = 1,
    stop: Sequence[str] = (),
    max_new_tokens: int | None = None,
    seed: int = 0,
    options: bool = False,
) -> dict[str, Any]:
    """The fields of ``evalkit.types.Decoding`` that replace the protocol's; empty if none do.

    Args:
        options: whether errors name the command line's options (``--top-p 2``) or arguments (``top_p=2``).

    Raises:
        UserError: an impossible value, or one that would have no effect.
    """

    def said(name: str, value: Any) -> str:
        return f"--{name.replace('_', '-')} {value}" if options else f"{name}={value!r}"

    if not (_number(temperature) and 0 <= temperature < math.inf):
        raise UserError(f"{said('temperature', temperature)}: give 0 (greedy) or a larger number.")
    if not (_number(top_p) and 0 < top_p <= 1):
        raise UserError(f"{said('top_p', top_p)}: give a share of the probability, above 0 and at most 1.")
    counts: Sequence[tuple[str, Any, int, str]] = (
        ("top_k", top_k, 0, "0 (all tokens) or a number of tokens"),
        ("num_beams", num_beams, 1, "1 (no beams) or a number of beams"),
        ("max_new_tokens", 1 if max_new_tokens is None else max_new_tokens, 1, "1 or more"),
    )
    for name, count, least, meaning in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise UserError(f"{said(name, count)}: give {meaning}.")
    if isinstance(stop, str) or not all(isinstance(string, str) and string for string in stop):
        raise UserError(f"{said('stop', stop)}: give strings that are not empty.")
    if temperature == 0 and (top_p != 1 or top_k != 0):
        what = said("top_p", top_p) if top_p != 1 else said("top_k", top_k)
        raise UserError(f"{what}: nothing is drawn at temperature 0; give a temperature, or leave it out.")
    if temperature > 0 and num_beams > 1:
        raise UserError(f"{said('num_beams', num_beams)}: beam search draws nothing; leave the temperature out.")
    given: Mapping[str, tuple[Any, Any]] = {
        "temperature": (float(temperature), 0.0), "top_p": (float(top_p), 1.0), "top_k": (top_k, 0),
        "num_beams": (num_beams, 1), "stop": (tuple(stop), ()), "max_new_tokens": (max_new_tokens, None),
    }  # fmt: skip
    found = {name: value for name, (value, usual) in given.items() if value != usual}
    return found | ({"seed": seed} if temperature > 0 else {})


def described(changed: Mapping[str, Any]) -> str:
    """In a signature's words: ``temperature=0.7,seed=0``; empty where nothing is changed."""
    return ",".join(f"{name}={_plain(value)}" for name, value in changed.items())


def unescaped(strings: Sequence[str]) -> tuple[str, ...]:
    r"""Stop strings as a shell gives them: ``\n`` and ``\t`` are a line's end and a tab."""
    return tuple(string.replace("\\n", "\n").replace("\\t", "\t") for string in strings)


def _plain(value: Any) -> str:
    # A bar would end this part of a signature.
    return "+".join(map(repr, value)).replace("|", r"\x7c") if isinstance(value, tuple) else str(value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
