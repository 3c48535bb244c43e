"""The two kinds of errors that end a command, with their exit codes."""

from __future__ import annotations


class UserError(Exception):
    """The user's mistake (exit code 2): one sentence that says what, where, and what to do."""


class RunFailed(Exception):
    """Something that evalkit relies on failed (exit code 1): one sentence; what was computed is kept."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its type; at most 300 characters."""
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
