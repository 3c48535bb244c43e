"""Reads pickles of plain data without executing code.

The REFER annotations (``refs(unc).p``) are pickles written by Python 2.  A pickle can name any function and call it;
one of dicts, lists, strings and numbers never needs to.  So every opcode that would look up a name is refused.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from evalkit.errors import UserError
from evalkit.jsonl import read_bytes


# Python's own unpickler, not the one in C: that one makes room for the largest memo index that a file names (64 GB for
# a few corrupt bytes).  It takes 3.4 s instead of 1.3 s for a file of RefCOCO's size.
class _PlainUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def load_plain_pickle(path: Path) -> Any:
    """The dicts, lists, strings and numbers in ``path``; Python 2 byte strings are read as UTF-8, else as Latin-1.

    Raises:
        UserError: the file is corrupt, or asks for anything but plain data (nothing of it is executed).
    """
    content = read_bytes(path, "the annotations")
    for encoding in ("utf-8", "latin-1"):
        try:
            return _PlainUnpickler(io.BytesIO(content), encoding=encoding).load()
        except UnicodeDecodeError:
            continue
        except Exception as error:  # a corrupt pickle raises nearly anything: EOFError, KeyError, IndexError, …
            why = "".join(c if c.isprintable() else " " for c in str(error)[:200])  # it may quote the file
            raise UserError(
                f"{path} is not a readable annotation pickle ({why}); "
                "download it again from the official source. Nothing in it was executed."
            ) from error
    raise UserError(f"{path} has text in an unknown encoding; download it again from the official source.")
