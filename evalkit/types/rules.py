"""Scoring rules: how a task's answers are read and scored under a name, such as a harness's revision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from evalkit.letters import Options, Reading

ReadAnswer: TypeAlias = "Callable[[str, Options], Reading]"
"""Reads a final answer: the letter of one of the options, or ``yes`` or ``no``, or None."""


@dataclass(frozen=True)
class ScoringRule:
    """One way to score a task's answers.

    Attributes:
        reading: the name, in signatures, of the rule that reads option letters, yes and no, points, labelled boxes, or
            spans of time; empty for answers that are texts or a box.
        metric: the name of the metric; empty for the task's.
        about: whose rule it is and how it differs, for ``evalkit tasks``.
        read: the rule ``reading``; None for the one that evalkit has under this name (``evalkit.letters``,
            ``evalkit.yes_no``), for points, labelled boxes and spans of time.
        verbatim: for answers that are texts: whether the metric gets the final answer as it is, because it extracts a
            part itself; otherwise it gets what markers such as ``\\boxed{…}`` hold.
    """

    reading: str = ""
    metric: str = ""
    about: str = ""
    read: ReadAnswer | None = None
    verbatim: bool = False
