"""The base class of metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from evalkit.aggregation import Aggregation
from evalkit.types import Answered, Kind, Sample, Scores


class Metric(ABC):
    """Scores the answers of a split; needs no torch.

    Attributes:
        running_score: whether a sample's score depends on no other sample, so that a run can show the score so far.
        meta_keys: the entries of ``Sample.meta`` that scores depend on, beyond breakdowns: two scores are of the same
            annotations only if these are equal too.
        aggregation: how values come from the per-sample scores, by name; ``Scores.aggregation`` adds to it what depends
            on the samples.  Default: the mean of the column named like the value, on a scale from 0 to 100.
        right_column: the column of per-sample scores that is 100 for a right answer and 0 for a wrong one, from which
            pass@k is computed with ``--repeats``; empty if answers can be partly right.
    """

    name: str
    running_score: bool = False
    meta_keys: Sequence[str] = ()
    aggregation: Mapping[str, Aggregation] = MappingProxyType({})
    right_column: str = ""

    @property
    def signature(self) -> str:
        """The signature of its scores; empty if it depends on the samples.  Shows which stored scores are outdated."""
        return ""

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that ``samples`` can be scored and that everything needed is there; called before a model is loaded.

        By default, made-up answers to the first samples are scored.  Override it if that is slow, or to check every
        sample's references.

        Raises:
            UserError: they cannot be scored.
        """
        from evalkit.metric_contract import try_out

        try_out(self, samples, kind)

    def configured(self, options: Mapping[str, Any]) -> Metric:
        """This metric with options, such as a variant, under a name of its own, since its scores are other ones.

        Raises:
            ValueError: an unknown option, or an impossible value; the message says what there is.
        """
        if options:
            raise ValueError(f"the metric {self.name} has no options")
        return self

    @abstractmethod
    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score all answers; one without a prediction counts as wrong.  Without answers, the values are NaN."""
