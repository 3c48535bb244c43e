"""Reading official files: a file in another format becomes one sentence, not a traceback.

``text_in``, ``integer_in`` etc. read one field of an entry.  They raise ``KeyError`` if it is missing and
``ValueError`` if it has another type, which ``official_format`` turns into a message: a number among the answers, or a
null for a question, is an error and is not converted to text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evalkit.data import is_valid_id, shown
from evalkit.errors import UserError

WRONG = (AttributeError, IndexError, OverflowError, RecursionError, TypeError, ValueError)
"""Exceptions, besides ``KeyError``, of code that reads a parsed file in an unexpected format."""

LARGEST = 10**15
"""Limit of integers; official ones are far smaller."""

FAR = 1e9
"""Limit of coordinates in pixels."""


@contextmanager
def official_format(task: str, where: str, expected: str) -> Iterator[None]:
    """A context for code that reads parsed files: a missing key or an unexpected value raises ``UserError``.

    Args:
        where: the files, for the message.
        expected: the official file, for the message.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{task}: no {_message(error)} in {where}; expected {expected}.") from error
    except WRONG as error:
        raise UserError(
            f"{task}: {where}: not the official format ({_message(error)}); expected {expected}."
        ) from error


def _message(error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if len(message) <= 200 else f"{message[:197]}..."


def required(texts: Any, what: str, where: str, *, task: str) -> tuple[str, ...]:
    """``texts``, the references of a sample.

    Args:
        what: their name (``answers``, ``captions``), for messages.

    Raises:
        UserError: there are none, or one is not a text; the message names ``where``.
    """
    listed = isinstance(texts, list | tuple)
    odd = [text for text in texts if not isinstance(text, str)] if listed else [texts]
    if odd or not texts:
        why = f" ({shown(odd[0])} is not a {'text' if listed else 'list'})" if odd else ""
        raise UserError(
            f"{task}: {where} has no {what} to score against{why}; the file is corrupt, or holds a split whose {what} "
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
        raise ValueError(f"{key} is {shown(value)}, not a text")
    return value


def name_in(entry: Any, key: str) -> str:
    """The file name that is ``entry[key]``; ``image_in`` checks that it stays inside its folder."""
    value = entry[key]
    if not is_valid_id(value):
        raise ValueError(f"{key} is {shown(value)}, not a file name")
    return str(value)


def some_texts_in(entry: Any, *keys: str) -> dict[str, str]:
    """The texts ``entry[key]`` by key, without keys that are missing or null."""
    return {key: text_in(entry, key) for key in keys if entry.get(key) is not None}


def texts_in(entry: Any, key: str) -> tuple[str, ...]:
    """The list of texts that is ``entry[key]``."""
    found = list_of(entry[key], key)
    for value in found:
        if not isinstance(value, str):
            raise ValueError(f"{key} has {shown(value)} in it, which is not a text")
    return tuple(found)


def boolean_in(entry: Any, key: str) -> bool:
    """The boolean that is ``entry[key]``."""
    value = entry[key]
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {shown(value)}, neither true nor false")
    return value


def integer_in(entry: Any, key: str) -> int:
    """The integer in ``entry[key]``, from 0: a number or a text of digits."""
    return integer_of(entry[key], key)


def integer_of(value: Any, what: str) -> int:
    """The integer in ``value``, from 0: a number or a text of digits; ``what`` is its name."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    if type(number) is not int or not 0 <= number < LARGEST:
        raise ValueError(f"{what} is {shown(value)}, not an integer")
    return number


def id_in(entry: Any, key: str) -> str:
    """The integer or short text that is ``entry[key]``, as a text."""
    return id_of(entry[key], key)


def id_of(value: Any, what: str) -> str:
    """The id of a question or an image, an integer or short text, as a text; ``what`` is its name."""
    if type(value) is int and abs(value) < LARGEST:
        return str(value)
    if not is_valid_id(value):
        raise ValueError(f"{what} is {shown(value)}, neither an integer nor a short text")
    return str(value)


def is_coordinate(value: Any) -> bool:
    """Whether ``value`` can be a coordinate in pixels."""
    return type(value) in (int, float) and -FAR < value < FAR


def list_of(value: Any, what: str) -> list[Any]:
    """``value`` if it is a list; ``what`` is its name."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {shown(value)}, not a list")
    return value
