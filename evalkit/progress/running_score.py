"""Running score over the answers so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.aggregation import Mean
from evalkit.errors import UserError
from evalkit.jobs import Job, Record
from evalkit.metric_contract import score_answers
from evalkit.results.stats.clustered import Measured
from evalkit.results.stats.error_bars import ends_of
from evalkit.task_metrics import metric_of
from evalkit.types import Answered

EVERY_SECONDS = 3.0
SHARE = 0.03
"""Largest share of the run's time spent on computing it."""


@dataclass(frozen=True)
class RunningScore:
    """A score with its 95 % interval, in the metric's unit; ``half`` is None where the interval is not symmetric.

    Without an interval (fewer than two images) both ends are None.
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    half: float | None = None

    def __str__(self) -> str:
        text = f"{self.metric} {self.value:.1f}"
        if self.half is not None:
            return f"{text} ± {self.half:.1f}"
        return text if self.low is None else f"{text} [{self.low:.1f}, {self.high:.1f}]"


class RunningScorer:
    """Scores answers as they arrive, if a sample's score does not depend on other samples.

    A metric declares this by ``running_score``; CIDEr, for one, needs all answers.  Each answer is scored once.
    """

    def __init__(self, job: Job) -> None:
        metric = metric_of(job.task, job.metric)
        public = job.task.splits[job.split].answers
        self._metric = metric if public and metric.running_score else None
        self._repeated = job.repeats > 1
        self._new: list[Record] = []
        self._name = ""
        self._values: list[float] = []
        self._clusters: list[str] = []
        self._strata: list[str] = []
        self._scale: float | None = None
        self._due = 0.0
        self.score: RunningScore | None = None

    def add(self, record: Record) -> None:
        """Add an answer; failed ones are not scored."""
        if self._metric is not None and record.response.finish != "error":
            self._new.append(record)

    def update(self, *, now: bool = False) -> RunningScore | None:
        """The score so far, recomputed if that is due (or if ``now``)."""
        began = time.monotonic()
        if self._new and (now or began >= self._due):
            try:
                self._score_new()
                self.score = self._estimate()
            except Exception:  # reported at the end, when the split is scored
                self._metric, self.score = None, None
            self._new.clear()
            ended = time.monotonic()
            self._due = ended + max(EVERY_SECONDS, (ended - began) / SHARE)
        return self.score

    def _score_new(self) -> None:
        by_repeat: dict[int, list[Record]] = {}
        for record in self._new:
            by_repeat.setdefault(record.repeat, []).append(record)
        for records in by_repeat.values():
            self._score_records(records)

    def _score_records(self, records: Sequence[Record]) -> None:
        """Score records of different samples."""
        assert self._metric is not None
        scores = score_answers(self._metric, [Answered(record.sample, record.prediction) for record in records])
        self._name = name = scores.headline
        mean = scores.aggregation_of(name)
        if not isinstance(mean, Mean):
            raise UserError(f"{self._metric.name}: {name} is not a mean of the samples' scores.")
        self._scale = mean.maximum
        for sample in (record.sample for record in records):
            group = mean.group(sample.meta)
            if group is not None:
                self._values.append(scores.per_sample[sample.id][mean.column or name])
                self._clusters.append(sample.cluster)
                self._strata.append(group)

    def _estimate(self) -> RunningScore:
        measured = Measured.of(self._values, self._clusters, self._strata)
        ends = ends_of(measured, scale=self._scale, repeated=self._repeated)
        if ends is None:
            return RunningScore(self._name, measured.mean)
        return RunningScore(self._name, measured.mean, ends.low, ends.high, ends.half)
