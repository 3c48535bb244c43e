"""Reading JSON that came from outside: one strict reader, whose errors name the file, the line and the key.

``json.loads`` accepts constants that JSON does not have (``NaN``, ``Infinity``), numbers beyond a float's range
(``1e999``), and a key given twice, of which it keeps the last value.  Each of these could change a score without a
word, so all are errors.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from evalkit.collection import collection_paused
from evalkit.errors import UserError

BOM = b"\xef\xbb\xbf"
MAX_DIGITS = 308
"""The maximum length of an integer, in digits: larger ones exceed a float's range."""
SHOWN_KEY = 60
LARGE = 1 << 20
"""Bytes from which on a value has so many objects that Python's garbage collection takes as long as parsing."""

_DIGITS_TO_ZERO = bytes.maketrans(b"123456789E", b"000000000e")
_OPENED_BY_SHELL = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""The folder of the shell's ``<(command)`` pipes."""


class Number(float):
    """A number of a JSON file with its spelling, such as ``3.10``."""

    literal: str

    def __new__(cls, literal: str) -> Number:
        found = super().__new__(cls, _float(literal))
        found.literal = literal
        return found


def parse(raw: bytes, *, constants: bool = False, spelled: bool = False, own: bool = False) -> Any:
    """The JSON value of ``raw`` (UTF-8).

    Args:
        own: evalkit wrote it: names of files that are not UTF-8 may be in it, as lone surrogates.
        constants: accept ``NaN``, ``Infinity`` and ``-Infinity``, which transformers writes into ``config.json``.
        spelled: numbers with a fraction or an exponent are a ``Number``.

    Raises:
        ValueError: it is not JSON, not text, nested too deeply, or has a key twice or a number that is none.
    """
    try:
        text = raw.removeprefix(BOM).decode(errors="surrogatepass" if own else "strict")
        if constants:
            decoder = _LENIENT
        elif spelled:
            decoder = SPELLED
        else:
            decoder = _CHECKED if _may_overflow(raw) else _FAST
        with collection_paused() if len(raw) >= LARGE else nullcontext():
            value = decoder.decode(text)
        if not own and (b"\\ud" in raw or b"\\uD" in raw):  # half a surrogate pair, which JSON can spell
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeError as error:
        raise ValueError(f"no valid Unicode: {error.reason}") from None  # type: ignore[attr-defined]
    except _NotANumber as error:
        raise ValueError(f"it has {error}" if constants else _place_of(error, text)) from None
    return value


def read_file(path: Path) -> bytes:
    """The content of a regular file: a pipe would block, and a device may have no end.

    Raises:
        OSError: it cannot be read, or is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            if not str(path).startswith(_OPENED_BY_SHELL):
                raise OSError(errno.EINVAL, "it is not a regular file", str(path))
            os.set_blocking(descriptor, True)
        return file.read()


def read_json(path: Path, *, constants: bool = False, own: bool = False) -> Any:
    """The JSON value in a file (see ``parse``).  Raises ``OSError`` or ``ValueError``."""
    return parse(read_file(path), constants=constants, own=own)


def read_bytes(path: Path, what: str) -> bytes:
    """A file's content.  Raises ``UserError`` if it cannot be read; ``what`` is how messages refer to the file."""
    try:
        return read_file(path)
    except OSError as error:
        raise UserError(f"{what} {path}: the file cannot be read ({error.strerror}).") from error


def objects(
    content: bytes, name: str, *, spelled: bool = False, own: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every line that is not blank; ``spelled`` and ``own`` as for ``parse``.

    Raises:
        UserError: a line is not a JSON object; the message names ``name`` and the line.
    """
    for number, raw in enumerate(content.splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            value = parse(raw, spelled=spelled, own=own)
        except ValueError as error:
            raise UserError(f"{name}, line {number}: not valid JSON ({error}); expected one object a line.") from error
        if not isinstance(value, dict):
            raise UserError(f"{name}, line {number}: expected a JSON object, not {type(value).__name__}.")
        yield number, value


# ------------------------------------------------------------------------------------------------------------ decoders


class _NotANumber(ValueError):
    """A constant that JSON does not have, or a number beyond a float's range."""


def _may_overflow(raw: bytes) -> bool:
    """Whether ``raw`` can contain a number beyond a float's range; a Python call per number would be slow."""
    zeros = raw.translate(_DIGITS_TO_ZERO)
    return b"0e000" in zeros or b"0e+000" in zeros or (len(raw) > MAX_DIGITS and _LONG_NUMBER in zeros)


_LONG_NUMBER = b"0" * (MAX_DIGITS + 1)


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {_shown(key)} is given twice")
            seen.add(key)
    return found


def _shown(key: str) -> str:
    return repr(key) if len(key) <= SHOWN_KEY else f"{key[:SHOWN_KEY]!r}…"


def _no_constant(name: str) -> NoReturn:
    raise _NotANumber(f"{name}, which is not a number")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _NotANumber("a number beyond the range of a float")
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _NotANumber(f"a number of {len(digits):,} digits")
    return int(digits)


_FAST = json.JSONDecoder(object_pairs_hook=_without_twice, parse_constant=_no_constant)
_CHECKED = json.JSONDecoder(
    object_pairs_hook=_without_twice, parse_constant=_no_constant, parse_float=_float, parse_int=_int
)
SPELLED = json.JSONDecoder(
    object_pairs_hook=_without_twice, parse_constant=_no_constant, parse_float=Number, parse_int=_int
)
"""Decodes as ``parse`` does with ``spelled``."""
_LENIENT = json.JSONDecoder(object_pairs_hook=_without_twice, parse_float=_float, parse_int=_int)


def _place_of(error: _NotANumber, text: str) -> str:
    """What is wrong, with the key that has it: the text is read once more, since hooks do not know the key."""
    try:
        _LOCATING.decode(text)
    except (ValueError, RecursionError) as found:
        if isinstance(found, _NotANumber):
            return str(found)
    return f"it has {error}"


def _marking(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """``read``, which returns its refusal instead of raising it."""

    def marked(text: str) -> Any:
        try:
            return read(text)
        except _NotANumber as error:
            return error

    return marked


def _name_bad(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    for key, value in pairs:
        rest = [value]
        while rest:
            one = rest.pop()
            if isinstance(one, _NotANumber):
                raise _NotANumber(f"{_shown(key)} is {one}")
            if isinstance(one, list):
                rest += one
    return dict(pairs)


_LOCATING = json.JSONDecoder(
    object_pairs_hook=_name_bad,
    parse_constant=_marking(_no_constant),
    parse_float=_marking(_float),
    parse_int=_marking(_int),
)
