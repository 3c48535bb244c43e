"""Values from files that came from outside: shown in messages, checked as names, followed to images."""

from __future__ import annotations

import os
import re
import reprlib
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.images import PathImage

# Characters not allowed in file names or question ids: they break the lines of messages, or cannot be encoded.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_NAME = 255  # bytes, on most file systems

_brief = reprlib.Repr()
_brief.maxlevel = 2
_brief.maxstring = _brief.maxother = 80


def shown(value: Any) -> str:
    """A value from a file, for a message: on one line and at most 120 characters."""
    try:
        text = _brief.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:117]}..."


def is_valid_id(value: Any) -> bool:
    """Whether a value from a file is a short text on one line, so that it can be a file name or an id."""
    return isinstance(value, str) and not _FORBIDDEN.search(value) and 0 < len(value.encode()) <= _LONGEST_NAME


def image_in(folder: Path, name: Any, *, task: str) -> PathImage:
    """The image in ``folder`` that annotations call ``name``.

    Raises:
        UserError: the name is invalid, or it leads out of the folder.
    """
    return PathImage(path_in(folder, name_inside(name, str(folder), task=task)))


def name_inside(name: Any, folder: str, what: str = "image", *, task: str) -> str:
    """The normalized name of a file in ``folder`` that annotations call ``name``.

    Only the name is checked, not the disk: symbolic links inside the folder work.

    Args:
        what: the file is, for messages.

    Raises:
        UserError: the name is invalid, or it leads out of the folder.
    """
    inside = os.path.normpath(name) if is_valid_id(name) else os.curdir
    if inside == os.curdir:
        raise UserError(
            f"{task}: the annotations name the {what} {shown(name)}, which no file in {folder} can be called; "
            "the file is corrupt and was not used."
        )
    if inside.split(os.sep, 1)[0] in ("", os.pardir):
        raise UserError(
            f"{task}: the annotations name the {what} {shown(name)}, which is outside {folder}; "
            "the file is corrupt or hostile and was not used."
        )
    # The normalized path is opened: "link/../x" as written would lead to the parent of the link's target.
    return inside


def path_in(folder: Path, name: str) -> str:
    """``str(folder / name)``, several times as fast for ordinary names: splits have hundreds of thousands of them."""
    root = str(folder)
    ordinary = root != "." and not name.startswith((".", "/")) and not name.endswith("/")
    if ordinary and "//" not in name and "/." not in name:
        return f"{root.rstrip(os.sep)}{os.sep}{name}"
    return str(folder / name)
