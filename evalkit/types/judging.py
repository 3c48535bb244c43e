"""What a judged metric asks a judge, and what comes back: prompts, scales, questions, verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .answers import Answered
from .messages import Message

VerdictValue = float | str | tuple[float, ...]
"""A score, a label (or an extracted text), or the scores of several answers."""
Problem = Literal["", "error", "unreadable", "out of range", "truncated"]
"""Why there is no verdict: the judge failed, its reply states none, states one that the scale does not have, or was cut
off by the token limit; empty if there is one."""


@dataclass(frozen=True)
class Scale:
    """The verdicts that a prompt allows: numbers from ``low`` to ``high``, or one of ``labels``.

    Attributes:
        whole: whether only whole numbers are verdicts.
    """

    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    labels: tuple[str, ...] = ()

    def holds(self, value: VerdictValue) -> bool:
        """Whether ``value``, or each of several scores, is on the scale."""
        if isinstance(value, tuple):
            return bool(value) and all(self.holds(one) for one in value)
        if isinstance(value, str) or self.labels:
            return value in self.labels
        return math.isfinite(value) and self.low <= value <= self.high and not (self.whole and value != int(value))

    def describe(self) -> str:
        """For signatures: ``0-1``, ``1-10``, or the labels."""
        return ",".join(self.labels) or f"{self.low:g}-{self.high:g}"


@dataclass(frozen=True)
class JudgePrompt:
    """One kind of question to a judge: how it is identified, and how replies are read.

    Attributes:
        name: with its version, for signatures: ``mm-vet-1``.  Change it whenever a verdict could change.
        source: whose prompt and parse rule it is, and how they differ from the published ones.
        read: the verdict in a reply without reasoning and special tokens; None if the reply states none.  Replies are
            untrusted: it must not raise, and takes time linear in their length.
        scale: the verdicts that are allowed; None for a text, such as an extracted answer.
        scores: how many numbers a verdict has; more than one for comparisons of several answers.
        max_new_tokens: the limit of a reply.
        leading: whether the verdict opens the reply, so that it can be read from one that was cut off.
    """

    name: str
    source: str
    read: Callable[[str], VerdictValue | None]
    scale: Scale | None = Scale()
    scores: int = 1
    max_new_tokens: int = 512
    leading: bool = False


@dataclass(frozen=True)
class JudgeQuestion:
    """A question about an answer.

    Attributes:
        key: tells the questions about one sample apart, such as the two orders of a comparison; without ``#``.
        messages: the conversation that the judge continues; images are parts of it, as in any prompt.
    """

    key: str
    prompt: JudgePrompt
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Verdict:
    """A judge's reply to a question.

    Attributes:
        value: the verdict; None if there is a ``problem``.
        text: the raw reply.
        error: what failed, if the problem is an error.
    """

    value: VerdictValue | None
    text: str = ""
    problem: Problem = ""
    error: str = ""

    @property
    def score(self) -> float:
        """The verdict that is a number.  Raises ``TypeError`` if it is something else."""
        if not isinstance(self.value, int | float):
            raise TypeError(f"the verdict is {self.value!r}, not a number")
        return float(self.value)


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer with the verdicts on it, by the questions' keys; none for an answer that could not be parsed."""

    answered: Answered
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
