"""The two ways a command ends badly, told apart by their exit codes."""

from __future__ import annotations


class UserError(Exception):
    """The user's mistake (exit code 2): one sentence that says what, where, and what to do."""


class RunFailed(Exception):
    """Something that evalkit relies on failed (exit code 1): one sentence; what was computed is kept."""
