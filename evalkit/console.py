"""Output to terminals, pipes and files: width, and characters that an encoding lacks.

A terminal gets tables that fit its width.  Elsewhere nothing is wrapped, unless ``COLUMNS`` is set.  A character that
the output's encoding lacks is replaced (``±`` by ``+/-``, ``ü`` by ``u``, others by ``?``): it never raises.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

UNLIMITED = 1_000_000
"""Width of output that is not a terminal, in columns."""

SUBSTITUTES = {
    "±": "+/-", "−": "-", "–": "-", "—": "-", "…": "...", "·": ".", "×": "x", "→": "->", "≈": "~", "≥": ">=", "≤": "<=",
    "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "⟨": "<", "⟩": ">", "✓": "+", "✗": "x", "│": "|", "─": "-",
    "━": "-", "╸": "-", "╺": "-", "α": "alpha", "\N{NO-BREAK SPACE}": " ", "\N{REPLACEMENT CHARACTER}": "?",
}  # fmt: skip
"""ASCII for the characters that evalkit's own messages and tables use."""

HANDLER = "evalkit.substitute"
"""Name of the codec error handler that writes ``ascii_for`` of a character."""


def ascii_for(character: str) -> str:
    """ASCII for one character: its substitute, its base letter, or a question mark."""
    if "\u2800" <= character <= "\u28ff":
        return "*"  # Braille: a spinner
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return SUBSTITUTES.get(character) or base or "?"


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(ascii_for, error.object[error.start : error.end])), error.end


codecs.register_error(HANDLER, _substitute)


def replace_unencodable() -> None:
    """Make stdout and stderr replace characters that their encodings lack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def encodable(text: str, encoding: str) -> str:
    """``text`` as a stream of this encoding will show it, for layouts that depend on its length."""
    if text.isascii():
        return text
    try:
        return text.encode(encoding, HANDLER).decode(encoding)
    except LookupError:
        return text


def new_console(*, stderr: bool = False, highlight: bool = True) -> Console:
    """A console on stdout or stderr; without a terminal, it does not wrap."""
    from .text_console import TextConsole

    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return TextConsole(stderr=stderr, highlight=highlight)
    width = None if os.environ.get("COLUMNS", "").isdecimal() else UNLIMITED
    # Not interactive even if FORCE_COLOR is set: a log gets colours, but no lines that are redrawn.
    return TextConsole(stderr=stderr, highlight=highlight, width=width, force_interactive=False)


def print_document(text: str, format: str) -> None:
    """Print a file's content on stdout.  JSON and HTML keep every character, escaped where stdout is not UTF-8.

    Args:
        format: ``json``, ``html``, or another one, whose characters are replaced if the encoding lacks them.
    """
    if not is_utf8(sys.stdout):
        if format == "json":
            text = re.sub(r"[^\x00-\x7f]", lambda found: _json_escape(found[0]), text)
        elif format == "html":
            text = text.encode("ascii", "xmlcharrefreplace").decode()
    print(text, end="")


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def is_utf8(stream: TextIO) -> bool:
    """Whether a stream writes UTF-8; a stream without an encoding accepts any text."""
    name = getattr(stream, "encoding", None)
    try:
        return name is None or codecs.lookup(name).name == "utf-8"
    except LookupError:
        return False
