"""Progress counters of a job, and their text."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from evalkit.interfaces import Backend
from evalkit.jobs import Job, Record
from evalkit.types import Request, Size

from .eta import TimeEstimate
from .running_score import RunningScore, RunningScorer


@dataclass(frozen=True)
class JobProgress:
    """A job at one moment.

    Attributes:
        done: samples with an answer, those ``kept`` from before and those that failed included.
        unparsed: answers that could not be parsed; ``errors`` are samples that failed.
        tokens: prompt (with images) and answer tokens of the new answers; shared prefixes count each time.
        seconds: since the first request was submitted, with the model loaded.
        left: estimated seconds remaining, or None.
        by_tokens: whether ``left`` is estimated from tokens; else from the number of samples.
        memory: bytes, if the backend reports it.
        unit: what is counted: ``samples``, or ``answers`` if there are several to each.
    """

    total: int
    kept: int
    done: int
    unparsed: int
    errors: int
    tokens: int
    seconds: float
    left: float | None
    by_tokens: bool
    score: RunningScore | None
    memory: int | None
    unit: str = "samples"

    @property
    def new(self) -> int:
        return self.done - self.kept

    @property
    def samples_per_second(self) -> float | None:
        return self.new / self.seconds if self.new and self.seconds > 0 else None

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None

    @property
    def time_left(self) -> str:
        """``about 4 min left``; empty if unknown."""
        if self.left is None or self.done == self.total:
            return ""
        return f"about {duration(self.left)} left" + ("" if self.by_tokens else " (by count)")

    @property
    def speed(self) -> list[str]:
        """``12.3 samples/s`` and ``1,204 tokens/s``."""
        found = ((self.samples_per_second, f"{self.unit}/s"), (self.tokens_per_second, "tokens/s"))
        return [f"{brief(value)} {unit}" for value, unit in found if value is not None]

    @property
    def trouble(self) -> list[str]:
        """``3 unparsed`` and ``1 error``, if there are any."""
        found = []
        if self.unparsed:
            found.append(f"{self.unparsed:,} unparsed")
        if self.errors:
            found.append(f"{self.errors:,} error{'s' if self.errors > 1 else ''}")
        return found

    @property
    def occupied(self) -> list[str]:
        """``1.2 GB``, if known."""
        return [] if self.memory is None else [f"{self.memory / 1e9:.1f} GB"]


class JobCounters:
    """Counts a job's answers.

    Args:
        kept: answers from earlier.
        sizes: known image sizes, by name.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        job: Job,
        kept: Collection[Record],
        sizes: Mapping[str, Size],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job = job
        self._sizes = sizes
        self._clock = clock
        self._kept = len(kept)
        self._done = len(kept)
        self._errors = 0
        self._unparsed = sum(not record.prediction.parsed for record in kept)
        self._tokens = 0
        self._began: float | None = None
        self._ended: float | None = None
        self._pace: TimeEstimate | None = None
        self._by_tokens = False
        self._backend: Backend | None = None
        self._memory: int | None = None
        self._score = RunningScorer(job)
        for record in kept:
            self._score.add(record)

    def begin(self, requests: Sequence[Request], backend: Backend) -> None:
        """Start the clock: the open backend is about to get the pending requests."""
        self._backend = backend
        tokens = backend.estimate_tokens(requests, self._sizes)
        self._by_tokens = tokens is not None
        costs = [1] * len(requests) if tokens is None else tokens
        self._began = self._clock()
        self._pace = TimeEstimate({r.id: cost for r, cost in zip(requests, costs, strict=True)}, self._began)

    def add(self, record: Record) -> None:
        """Count a new answer."""
        failed = record.response.finish == "error"
        self._done += 1
        self._errors += failed
        self._unparsed += not failed and not record.prediction.parsed
        self._tokens += record.response.prompt_tokens + len(record.response.tokens)
        self._score.add(record)
        if self._pace is not None:
            self._pace.answered(record.key, self._clock())

    def update(self, *, ended: bool = False) -> None:
        """Update the running score (every few seconds) and the memory use."""
        self._score.update(now=ended)
        if self._backend is not None:
            self._memory = self._backend.memory()
        if ended:
            self._ended = self._clock()

    def progress(self) -> JobProgress:
        """The current state."""
        now = self._clock() if self._ended is None else self._ended
        return JobProgress(
            total=self.job.answers,
            kept=self._kept,
            done=self._done,
            unparsed=self._unparsed,
            errors=self._errors,
            tokens=self._tokens,
            seconds=0.0 if self._began is None else now - self._began,
            left=None if self._pace is None else self._pace.left(now),
            by_tokens=self._by_tokens,
            score=self._score.score,
            memory=self._memory,
            unit="samples" if self.job.repeats == 1 else "answers",
        )


def duration(seconds: float) -> str:
    """``41 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def brief(value: float) -> str:
    """A rate with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
