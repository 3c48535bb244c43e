"""Decoding overrides from the command line or from Python (``--temperature`` etc.)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.options import OPTIONS, RunSettings


def decoding_overrides(
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    presence_penalty: float = 0.0,
    repetition_penalty: float = 1.0,
    num_beams: int = 1,
    stop: Sequence[str] = (),
    max_new_tokens: int | None = None,
    seed: int = 0,
    options: bool = False,
) -> dict[str, Any]:
    """The fields of ``evalkit.types.Decoding`` that replace the protocol's; empty if none do.

    Args:
        options: whether errors name options (``--top-p 2``) or arguments (``top_p=2``).

    Raises:
        UserError: an impossible value, or one without effect.
    """

    def named(name: str, value: Any) -> str:
        return f"{OPTIONS[name].flag} {value}" if options else f"{name}={value!r}"

    numbers = {
        "temperature": temperature, "top_p": top_p, "top_k": top_k, "presence_penalty": presence_penalty,
        "repetition_penalty": repetition_penalty, "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
    }  # fmt: skip
    for name, number in numbers.items():
        if advice := OPTIONS[name].advice(number):
            raise UserError(f"{named(name, number)}: {advice}.")
    if isinstance(stop, str) or not all(isinstance(string, str) and string for string in stop):
        raise UserError(f"{named('stop', stop)}: give strings that are not empty.")
    if temperature == 0 and (top_p != 1 or top_k != 0):
        unused = named("top_p", top_p) if top_p != 1 else named("top_k", top_k)
        raise UserError(f"{unused}: has no effect at temperature 0; set a temperature, or drop it.")
    if temperature > 0 and num_beams > 1:
        raise UserError(f"{named('num_beams', num_beams)}: beam search does not sample; drop the temperature.")
    penalty = "presence_penalty" if presence_penalty != 0 else "repetition_penalty"
    if num_beams > 1 and (presence_penalty != 0 or repetition_penalty != 1):
        value = presence_penalty if presence_penalty != 0 else repetition_penalty
        raise UserError(
            f"{named(penalty, value)}: beam search does not apply it; drop {named('num_beams', num_beams)}."
        )
    values: Mapping[str, tuple[Any, Any]] = {
        "temperature": (float(temperature), 0.0), "top_p": (float(top_p), 1.0), "top_k": (top_k, 0),
        "presence_penalty": (float(presence_penalty), 0.0), "repetition_penalty": (float(repetition_penalty), 1.0),
        "num_beams": (num_beams, 1), "stop": (tuple(stop), ()), "max_new_tokens": (max_new_tokens, None),
    }  # fmt: skip
    overrides = {name: value for name, (value, default) in values.items() if value != default}
    return overrides | ({"seed": seed} if temperature > 0 else {})


def settings_overrides(settings: RunSettings) -> dict[str, Any]:
    """The decoding overrides of a run's settings; see ``decoding_overrides``."""
    return decoding_overrides(
        temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k,
        presence_penalty=settings.presence_penalty, repetition_penalty=settings.repetition_penalty,
        num_beams=settings.num_beams, stop=settings.stop, max_new_tokens=settings.max_new_tokens, seed=settings.seed,
        options=True,
    )  # fmt: skip


def is_default(name: str, value: Any) -> bool:
    """Whether an argument of ``decoding_overrides`` is not given, or is its default."""
    return value is None or value == OPTIONS[name].default


def check_repeats(repeats: int, temperature: float, *, options: bool = False) -> None:
    """Check the number of answers to each sample.

    Args:
        options: whether errors name options (``--repeats 8``) or arguments (``repeats=8``).

    Raises:
        UserError: it is below 1, or the answers would all be the same.
    """
    option = OPTIONS["repeats"]
    named = f"{option.flag} {repeats}" if options else f"repeats={repeats!r}"
    if advice := option.advice(repeats):
        raise UserError(f"{named}: {advice}.")
    if repeats > 1 and temperature == 0:
        example = "--temperature 0.7" if options else "temperature=0.7"
        raise UserError(f"{named}: greedy decoding gives the same answer each time; add {example}, or drop it.")


def format_overrides(overrides: Mapping[str, Any]) -> str:
    """The overrides as a signature has them: ``temperature=0.7,seed=0``; empty if there are none."""
    return ",".join(f"{name}={_format(value)}" for name, value in overrides.items())


def unescape(strings: Sequence[str]) -> tuple[str, ...]:
    r"""Stop strings as typed in a shell: ``\n`` and ``\t`` become a newline and a tab."""
    return tuple(string.replace("\\n", "\n").replace("\\t", "\t") for string in strings)


def _format(value: Any) -> str:
    # Escaped, since a bar separates the parts of a signature.
    return "+".join(map(repr, value)).replace("|", r"\x7c") if isinstance(value, tuple) else str(value)
