"""What multiple-choice benchmarks share: the right option's letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.data import shown
from evalkit.errors import UserError
from evalkit.tasks._files import integer_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter(index: Any, options: Sequence[str], *, task: str, where: str) -> str:
    """The letter of the right option: ``A`` for index 0.  ``index`` is a whole number, or a text that says one.

    Raises:
        UserError: it is the index of no option, so that the question could not be scored.
    """
    try:
        number = integer_of(index, "the right option")
    except ValueError:
        number = -1
    if not 0 <= number < len(options):
        raise UserError(
            f"{task}: {where} has {len(options)} options but calls {shown(index)} the right one (counted from 0), "
            "so it cannot be scored; download it again."
        )
    if len(options) > len(LETTERS):
        raise UserError(f"{task}: {where} has {len(options)} options; there are letters for {len(LETTERS)}.")
    return LETTERS[number]


def check_letter(answer: Any, options: Sequence[Any], *, task: str, where: str) -> str:
    """``answer``, the letter of the right option.

    Raises:
        UserError: it is the letter of no option, so that the question could not be scored.
    """
    if len(options) > len(LETTERS):
        raise UserError(f"{task}: {where} has {len(options)} options; there are letters for {len(LETTERS)}.")
    if not isinstance(answer, str) or len(answer) != 1 or answer not in LETTERS[: len(options)]:
        raise UserError(
            f"{task}: {where} has {len(options)} options but calls {shown(answer)} the right one, so it cannot be "
            "scored; download it again."
        )
    return answer
