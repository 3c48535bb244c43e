"""What every reader of official files needs: a file in another format becomes a sentence, not a traceback.

``text_in``, ``whole_in`` and their like read one field of an entry.  They raise ``KeyError`` where it lacks and
``ValueError`` where it is of another type, for ``official_format`` to tell: a number among the answers, or a null for a
question, is damage and not to be read as a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evalkit.data import is_valid_id, shown
from evalkit.errors import UserError

WRONG = (AttributeError, IndexError, OverflowError, RecursionError, TypeError, ValueError)
"""What code that takes a parsed file apart raises where the file is not as it expects, other than ``KeyError``."""

LARGEST = 10**15
"""Official numbers are far smaller."""

FAR = 1e9
"""Beyond any image, in pixels."""


@contextmanager
def official_format(task: str, where: str, expected: str) -> Iterator[None]:
    """Around code that takes parsed files apart: a missing key or an odd value in it raises ``UserError``.

    ``where`` names the files and ``expected`` what they should be, both for the sentence.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{task}: no {_said(error)} in {where}; expected {expected}.") from error
    except WRONG as error:
        raise UserError(f"{task}: {where}: not the official format ({_said(error)}); expected {expected}.") from error


def _said(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if len(said) <= 200 else f"{said[:197]}..."


def required(texts: Any, what: str, where: str, *, task: str) -> tuple[str, ...]:
    """``texts``, the ``what`` (``answers``, ``captions``) that a sample is scored against.

    Raises:
        UserError: there are none, or one is no text; the sentence names ``where``.
    """
    listed = isinstance(texts, list | tuple)
    odd = [text for text in texts if not isinstance(text, str)] if listed else [texts]
    if odd or not texts:
        why = f" ({shown(odd[0])} is no {'text' if listed else 'list'})" if odd else ""
        raise UserError(
            f"{task}: {where} has no {what} to score against{why}; the file is damaged, or holds a split whose {what} "
            "are not public."
        )
    return tuple(texts)


def list_in(entry: Any, key: str) -> list[Any]:
    """The list that is ``entry[key]``."""
    return list_of(entry[key], key)


def text_in(entry: Any, key: str) -> str:
    """The text that is ``entry[key]``."""
    value = entry[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {shown(value)}, no text")
    return value


def name_in(entry: Any, key: str) -> str:
    """The name of a file that is ``entry[key]``; whether it leads where it should is for ``below`` to say."""
    value = entry[key]
    if not is_valid_id(value):
        raise ValueError(f"{key} is {shown(value)}, no name of a file")
    return str(value)


def texts_in(entry: Any, key: str) -> tuple[str, ...]:
    """The list of texts that is ``entry[key]``."""
    found = list_of(entry[key], key)
    for value in found:
        if not isinstance(value, str):
            raise ValueError(f"{key} has {shown(value)} in it, which is no text")
    return tuple(found)


def truth_in(entry: Any, key: str) -> bool:
    """The true or false that is ``entry[key]``."""
    value = entry[key]
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {shown(value)}, neither true nor false")
    return value


def whole_in(entry: Any, key: str) -> int:
    """The whole number, from 0, that ``entry[key]`` is or says."""
    return whole_of(entry[key], key)


def whole_of(value: Any, what: str) -> int:
    """The whole number, from 0, that ``value`` is or says; ``what`` is its name."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    if type(number) is not int or not 0 <= number < LARGEST:
        raise ValueError(f"{what} is {shown(value)}, no whole number")
    return number


def id_in(entry: Any, key: str) -> str:
    """The whole number or short text that is ``entry[key]``, as a text."""
    return id_of(entry[key], key)


def id_of(value: Any, what: str) -> str:
    """A whole number or short text that stands for a question or an image, as a text; ``what`` is its name."""
    if type(value) is int and abs(value) < LARGEST:
        return str(value)
    if not is_valid_id(value):
        raise ValueError(f"{what} is {shown(value)}, no whole number and no short text")
    return str(value)


def is_coordinate(value: Any) -> bool:
    """Whether ``value`` is a number that can say where something lies in an image, in pixels."""
    return type(value) in (int, float) and -FAR < value < FAR


def list_of(value: Any, what: str) -> list[Any]:
    """``value``, which is a list; ``what`` is its name."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {shown(value)}, no list")
    return value
