"""What other harnesses recorded, in one form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POSITION = "position"
"""In place of a field's name: the number of an answer's sample in its split, from 0."""
GRADES = {"C": 1.0, "CORRECT": 1.0, "I": 0.0, "INCORRECT": 0.0, "P": 0.5, "N": 0.0, "TRUE": 1.0, "FALSE": 0.0}
"""Scores that are written as words."""


@dataclass(frozen=True, slots=True)
class ForeignAnswer:
    """A raw answer, and what the harness made of it.

    Attributes:
        place: its line or entry, for messages.
        text: as the model gave it.
        fields: what may be the id of its sample, by the name of the field.
        position: of its sample in the split, from 0; None if it is not recorded.
        prompt: the question, or the complete prompt; empty if it is not recorded.
        repeat: its number among the answers to its sample, from 1.
        score: what the harness gave it, a fraction of the best if ``ForeignResults.percent`` is false; None if none.
        extracted: what the harness read in it; None if that is not recorded.
        target: the reference; None if it is not recorded.
        error: why there is no answer; None if there is one.
    """

    place: str
    text: str
    fields: Mapping[str, str]
    position: int | None = None
    prompt: str = ""
    repeat: int = 1
    score: float | None = None
    extracted: str | None = None
    target: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class ForeignResults:
    """The results of one task of another harness.

    Attributes:
        harness, version: the version is None where the files do not record it.
        task, model: as the harness calls them; None where it does not.
        metric: which of the harness's scores of a sample ``ForeignAnswer.score`` is; empty if there is none.
        stated: the scores of the complete task, as the harness wrote them.
        files: everything that was read.
        notes: messages for the user.
    """

    harness: str
    version: str | None
    task: str
    model: str | None
    answers: Sequence[ForeignAnswer]
    metric: str = ""
    stated: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The harness with its version."""
        return f"{self.harness} {self.version or '(version not recorded)'}"

    def fractions(self) -> list[float | None]:
        """The score of each answer as a fraction of the best one; None where it has none, or none on such a scale."""
        scores = [answer.score for answer in self.answers]
        known = [score for score in scores if score is not None]
        if not known or min(known) < 0 or max(known) > 100:
            return [None] * len(scores)
        best = 100.0 if max(known) > 1 else 1.0
        return [None if score is None else score / best for score in scores]


def as_score(value: Any) -> float | None:
    """A score as a number; None if it is none, or not finite."""
    if isinstance(value, str):
        graded = GRADES.get(value.strip().upper())
        if graded is not None:
            return graded
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def as_text(value: Any) -> str | None:
    """A recorded text or number as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    return None


def id_fields(row: Any, prefix: str = "") -> dict[str, str]:
    """The short texts and whole numbers of an object, which may be ids, by name."""
    found: dict[str, str] = {}
    if isinstance(row, Mapping):
        for key, value in list(row.items())[:MOST_FIELDS]:
            if isinstance(value, float) and value.is_integer():  # pandas writes ids so if one is missing
                value = int(value)
            if (
                isinstance(value, str | int)
                and not isinstance(value, bool)
                and 0 < len(text := str(value)) <= LONGEST_ID
            ):
                found[f"{prefix}{key}"] = text
    return found


MOST_FIELDS, LONGEST_ID = 200, 300
