"""A row of ``scores.json``: one task split's score with its interval, counts and signature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .signature import Signature

NUMBER = (int, float)
REQUIRED: Mapping[str, tuple[type, ...]] = {
    "task": (str,), "split": (str,), "metric": (str,), "value": (*NUMBER, type(None)), "n": (int,), "unparsed": (int,),
    "errors": (int,), "truncated": (int,), "limited": (bool,), "signature": (str,),
}  # fmt: skip
"""The keys that every version of evalkit has written, and their types."""
OPTIONAL: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("stderr", "ci95", "low", "high", "seconds", "reasoning_tokens"), NUMBER),
    **dict.fromkeys(("interval", "annotations", "journal", "scores", "samples", "submission", "failure"), (str,)),
    "verdicts": (str,), "clusters": (int,), "unjudged": (int,), "values": (Mapping,), "intervals": (Mapping,),
    "chosen": (str,), "repeats": (list,), "slopes": (list, tuple), "estimate": (Mapping,),
}  # fmt: skip
"""The types of the other keys, which may also be null."""
UNEVEN = ("wilson", "hall")
"""The kinds of intervals that are not symmetric."""


ESTIMATE: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("value", "stderr", "low", "high"), NUMBER), "ci95": (*NUMBER, type(None)),
    "interval": (str,), "size": (int,), "references": (int,), "subset": (str,), "doubt": (str, type(None)),
}  # fmt: skip
"""The keys of an estimate and their types."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """The score of a task's split, or the mean of a group of splits.

    Attributes:
        metric: the name of the headline value.
        value: in the unit that the field prints; None without a score.
        stderr: the clustered standard error, in the same unit.
        ci95: half of the 95 % interval, if that is symmetric.
        low, high: the ends of the 95 % interval: those of the bootstrap with ``ci95`` (so not exactly value ± ci95), or
            Wilson's or Hall's.
        interval: how ``low`` and ``high`` were found, ``bootstrap``, ``wilson`` or ``hall``; None without an interval.
        values: every value of the metric by name; None for NaN.
        intervals: the interval of each, with the keys ``stderr``, ``ci95``, ``low``, ``high`` and ``interval``.
        n: scored samples.
        clusters: images among them; None in old files, as the following digests.
        unparsed: answers that could not be parsed; of all repeats, as ``truncated``.
        errors: samples that failed and are not among ``n``.
        truncated: answers cut off by the token limit.
        reasoning_tokens: the mean number of tokens of reasoning; None without reasoning, or if unknown.
        limited: whether only a part of the split was run (``--limit``).
        chosen: how that part was chosen, as options, if the number of samples does not say it:
            ``--where 'level >= 3'``.
        annotations: digest of the questions and references.
        journal: digest of the journal that the score was computed from.
        scores: digest of the file of per-sample scores.
        verdicts: digest of the file of a judge's verdicts; None if no judge was asked.
        unjudged: answers left out of ``n`` because the judge's reply states no verdict.
        samples: digest of the sample ids.
        seconds: computing time.
        submission: the file for the official server, where the references are not public.
        failure: why the answers could not be scored; None if they were.
        notes: the metric's sentences for readers.
        aggregation: how the value comes from the samples, unless it is the mean of its per-sample scores or a mean of
            such means: ``subset`` (the mean over some samples), ``weighted`` (a weighted sum of means, of which the
            per-sample scores are contributions), ``sums`` (a function of summed statistics), ``weights`` (of the
            samples' weights, such as an average precision) or ``corpus`` (of all samples together).
        repeats: the value in each repeat, whose mean is ``value``; empty with one answer to each sample.
        slopes: of a function of summed statistics at the sums, for paired tests; empty for other values, and where they
            are not defined.
        estimate: of the complete split's score, if a subset file's samples were run (``results/subsets``): ``value``
            and interval with the keys of ``intervals``, ``size`` of the split, number of ``references``, ``subset``
            (digest of the file) and ``doubt``, why it is not to be trusted; None for other runs.
        extra: keys of the file that this version does not know.
        missing: keys that the file does not have.
    """

    task: str
    split: str
    metric: str
    value: float | None
    stderr: float | None = None
    ci95: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    n: int
    clusters: int | None = None
    unparsed: int
    errors: int
    truncated: int
    reasoning_tokens: float | None = None
    limited: bool
    chosen: str | None = None
    annotations: str | None = None
    journal: str | None = None
    scores: str | None = None
    samples: str | None = None
    signature: str
    seconds: float | None = None
    submission: str | None = None
    failure: str | None = None
    notes: Sequence[str] = ()
    verdicts: str | None = None
    unjudged: int = 0
    aggregation: str | None = None
    repeats: Sequence[float] = ()
    slopes: Sequence[float] = ()
    estimate: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()

    @classmethod
    def from_dict(cls, content: Any) -> ScoreRow:
        """The row that ``to_dict`` wrote, in this or an older version.

        Raises:
            ValueError: a key is missing or of another type; the message names it.
        """
        if not isinstance(content, Mapping):
            raise ValueError("a result is not an object")
        for key, types in REQUIRED.items():
            if key not in content:
                raise ValueError(f"a result has no {key!r}")
            _check_type(key, content[key], types)
        for key, types in OPTIONAL.items():
            if content.get(key) is not None:
                _check_type(key, content[key], types)
        if not all(isinstance(value, NUMBER) for value in content.get("repeats") or ()):
            raise ValueError(f"'repeats' of a result is {content['repeats']!r}")
        if content.get("estimate") is not None:
            for key, types in ESTIMATE.items():
                _check_type(f"estimate {key}", content["estimate"].get(key), types)
        counts = [content[key] for key in ("n", "unparsed", "errors", "truncated")]
        if min(counts) < 0:
            raise ValueError("a count of a result is negative")
        known = [name for name in NAMES if name in content]
        return cls(
            **{name: content[name] for name in known},
            extra={key: value for key, value in content.items() if key not in NAMES},
            missing=frozenset(NAMES) - frozenset(known),
        )

    def to_dict(self) -> dict[str, Any]:
        """The row as ``scores.json`` has it."""
        known = {name: getattr(self, name) for name in NAMES if name not in self.missing}
        for optional in (
            "failure",
            "notes",
            "aggregation",
            "chosen",
            "slopes",
            "journal",
            "scores",
            "verdicts",
            "unjudged",
            "reasoning_tokens",
            "repeats",
            "estimate",
        ):
            if not known.get(optional):
                known.pop(optional, None)
        return {**known, **self.extra}

    def with_submission(self, file: str | None) -> ScoreRow:
        """The row with the name of the file for the official server."""
        return replace(self, submission=file, missing=self.missing - {"submission"})

    @property
    def answers_each(self) -> int:
        """The number of scored answers to each sample."""
        return max(1, len(self.repeats))

    @property
    def answers(self) -> int:
        """The number of scored answers."""
        return self.n * self.answers_each

    @property
    def score(self) -> float:
        """The value; NaN without a score."""
        return math.nan if self.value is None else float(self.value)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval; None without one."""
        return None if self.low is None or self.high is None else (float(self.low), float(self.high))

    @property
    def is_uneven(self) -> bool:
        """Whether the interval is not symmetric, so that its ends are shown."""
        return self.interval in UNEVEN

    @property
    def presented(self) -> ScoreRow:
        """The row as it is shown: with the estimate of the complete split's score in place of the subset's own."""
        if self.estimate is None:
            return self
        keys = ("value", "stderr", "ci95", "low", "high", "interval")
        return replace(self, **{key: self.estimate[key] for key in keys})

    @property
    def name(self) -> str:
        """``task/split``."""
        return f"{self.task}/{self.split}"

    @property
    def parsed_signature(self) -> Signature:
        return Signature.parse(self.signature)

    def interval_of(self, metric: str) -> Mapping[str, Any]:
        """The interval of a value, with the keys of ``intervals``; empty if it has none."""
        if metric != self.metric:
            return self.intervals.get(metric, {})
        return {key: getattr(self, key) for key in ("stderr", "ci95", "low", "high", "interval")}


def _check_type(key: str, value: Any, types: tuple[type, ...]) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError(f"{key!r} of a result is {value!r}")


NAMES = tuple(f.name for f in fields(ScoreRow) if f.name not in ("extra", "missing"))
