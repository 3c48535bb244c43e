"""Where another harness gave a sample another score, and why."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.types import Prediction, Sample

from .foreign import ForeignAnswer
from .ids import plain

EXTRACTION, NORMALISATION, RULE, REFERENCES = "extraction", "normalisation", "rule", "references"
UNKNOWN = "extraction or rule"
MISSING, OUTSIDE, UNSCORED, FAILED = "missing", "outside the split", "unscored", "failed"
REASONS: Mapping[str, str] = {
    EXTRACTION: "another text was read in the answer",
    NORMALISATION: "the text equals a reference but for case, punctuation or spaces",
    RULE: "the same text was compared by another rule",
    REFERENCES: "the harness compares with another reference",
    UNKNOWN: "the harness did not record what it read in the answer",
    MISSING: "the harness has no answer to the sample",
    OUTSIDE: "the sample of the harness's is not in this split",
    UNSCORED: "the harness gave the answer no score",
    FAILED: "there is no answer to score",
}
"""Every reason, explained."""
DENOMINATOR = (MISSING, OUTSIDE, UNSCORED, FAILED)
"""The reasons that change how many samples a mean is over."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Compared:
    """A sample's two scores, as fractions of the best one; None where there is none.

    Attributes:
        reason: of ``REASONS``, if the scores differ; else empty.
        ours_read, theirs_read: what was read in the answer; None for nothing, or if it is not recorded.
    """

    id: str
    ours: float | None
    theirs: float | None
    reason: str
    ours_read: Any
    theirs_read: str | None

    def to_dict(self) -> dict[str, Any]:
        """The line of the run folder's file."""
        return {
            "id": self.id, "ours": self.ours, "theirs": self.theirs, "reason": self.reason or None,
            "ours_read": self.ours_read, "theirs_read": self.theirs_read,
        }  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What a harness recorded of the answers to one sample: the mean of their scores, and the first answer."""

    score: float | None
    first: ForeignAnswer


def by_sample(
    ids: Sequence[str], answers: Sequence[ForeignAnswer], fractions: Sequence[float | None]
) -> dict[str, Given]:
    """What was recorded of each sample, by id."""
    scores: dict[str, list[float]] = defaultdict(list)
    first: dict[str, ForeignAnswer] = {}
    for one, answer, fraction in zip(ids, answers, fractions, strict=True):
        if fraction is not None:
            scores[one].append(fraction)
        if one not in first or answer.repeat < first[one].repeat:
            first[one] = answer
    return {one: Given(math.fsum(s) / len(s) if (s := scores[one]) else None, answer) for one, answer in first.items()}


def compare_sample(sample: Sample, prediction: Prediction, ours: float | None, given: Given | None) -> Compared:
    """The two scores of a sample, and why they differ.

    Args:
        ours: None if the sample is not scored.
        given: None if the harness has no answer to it.
    """
    read = prediction.value
    if given is None:
        return Compared(sample.id, ours, None, MISSING, None, None)
    theirs, extracted = given.score, given.first.extracted
    if ours is None:
        reason = FAILED
    elif theirs is None:
        reason = UNSCORED
    elif math.isclose(ours, theirs, abs_tol=TOLERANCE):
        reason = ""
    else:
        reason = _reason(sample, read, given.first)
    return Compared(sample.id, ours, theirs, reason, read, extracted)


def outside(id: str, given: Given) -> Compared:
    """A sample of the harness's that is not in the split."""
    return Compared(id, None, given.score, OUTSIDE, None, given.first.extracted)


def _reason(sample: Sample, read: Any, answer: ForeignAnswer) -> str:
    ours = "" if read is None else str(read)
    right = {plain(text) for text in _right(sample)}
    if answer.extracted is None:
        if not isinstance(read, str) or plain(ours) != plain(answer.text):
            return EXTRACTION if read is None and answer.text.strip() else UNKNOWN
        theirs = ours
        if plain(ours) not in right:
            return UNKNOWN
    else:
        theirs = answer.extracted
    if plain(ours) != plain(theirs):
        return EXTRACTION
    if answer.target is not None and right and not _targets(answer.target) & right and _is_text(sample):
        return REFERENCES
    return NORMALISATION if plain(ours) in right else RULE


def _is_text(sample: Sample) -> bool:
    return all(isinstance(one, str) for one in sample.references)


def _targets(target: str) -> set[str]:
    """The references in a recorded one, which may be a list as Python writes it."""
    return {plain(target), *(plain(part) for part in target.strip("[]").split(","))}


def _right(sample: Sample) -> list[str]:
    """The references as texts; for multiple choice, the option's text too."""
    texts = [one for one in sample.references if isinstance(one, str)]
    options = [option if isinstance(option, str) else "" for option in sample.options]
    letters = [ord(text) - ord("A") for text in texts if len(text) == 1 and text.isascii() and text.isupper()]
    return texts + [options[place] for place in letters if 0 <= place < len(options) and options[place]]


# -------------------------------------------------------------------------------------------------------------- totals


@dataclass(frozen=True)
class Totals:
    """The two means of a task, and what each reason contributes to their difference.

    Attributes:
        ours, theirs: means of the samples' scores in percent; None without any.
        counts: samples by reason.
        points: by reason, what it adds to our mean over theirs; they sum to ``ours - theirs``.
    """

    ours: float | None
    theirs: float | None
    n_ours: int
    n_theirs: int
    counts: Mapping[str, int]
    points: Mapping[str, float]


def totals(compared: Sequence[Compared]) -> Totals:
    """The means over the samples that each has scored.

    A sample that both have scored adds its difference, over the number of our samples.  What remains is due to the
    different samples that the means are over.
    """
    mine = [one.ours for one in compared if one.ours is not None]
    given = [one.theirs for one in compared if one.theirs is not None]
    counts = Counter(one.reason for one in compared if one.reason)
    if not mine or not given:
        return Totals(_mean(mine), _mean(given), len(mine), len(given), counts, {})
    ours, theirs = math.fsum(mine) / len(mine), math.fsum(given) / len(given)
    points: dict[str, float] = defaultdict(float)
    for one in compared:
        if one.ours is not None and one.theirs is not None and one.reason:
            points[one.reason] += 100 * (one.ours - one.theirs) / len(mine)
    rest = 100 * (ours - theirs) - math.fsum(points.values())
    if abs(rest) > TOLERANCE:
        points["denominator"] = rest
    return Totals(100 * ours, 100 * theirs, len(mine), len(given), counts, points)


def _mean(values: Sequence[float]) -> float | None:
    return 100 * math.fsum(values) / len(values) if values else None
