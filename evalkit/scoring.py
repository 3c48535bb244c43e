"""Scoring the answers of a job, or writing the file for the official server where references are not public."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from evalkit import registry
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.jobs import Job, Record, check_submission
from evalkit.types import Answered, Scores


@dataclass(frozen=True)
class Submission:
    """The file for the official server, in place of a score, if a split's answers are not public."""

    file: str
    content: str


@dataclass(frozen=True)
class Result:
    """The outcome of a job.

    Attributes:
        scores: the metric's result; None if the split's answers are not public.
        submission: the file for the official server, if there are no scores.
        n: number of samples scored; those with ``errors`` are excluded.
        unparsed: number of answers without a prediction; they count as wrong.
        truncated: number of answers that reached the token limit.
    """

    job: Job
    scores: Scores | None
    n: int
    unparsed: int
    truncated: int
    errors: int
    seconds: float
    clusters: dict[str, str] = field(default_factory=dict)
    submission: Submission | None = None

    @property
    def complete(self) -> bool:
        return self.errors == 0


def score_job(job: Job, records: Sequence[Record]) -> Result:
    """Score a job's records with its task's metric, or write the submission if the answers are not public."""
    good = [r for r in records if r.response.finish != "error"]
    public = job.task.splits[job.split].answers
    metric = registry.metrics.get(job.task.metric)
    return Result(
        job=job,
        scores=score_answers(metric, [Answered(r.sample, r.prediction) for r in good]) if public else None,
        n=len(good),
        unparsed=sum(not r.prediction.parsed for r in good),
        truncated=sum(r.response.finish == "length" for r in good),
        errors=len(records) - len(good),
        seconds=sum(r.response.seconds for r in records),
        clusters={r.sample.id: r.sample.cluster for r in good},
        submission=None if public else submit(job, records),
    )


def score_answers(metric: Metric, answers: Sequence[Answered]) -> Scores:
    """The metric's scores with everything that it declares of them.

    Raises:
        UserError: the answers cannot be scored, or the per-sample scores do not give a value as declared.
    """
    scores = metric.score(answers)
    scores = replace(scores, aggregation={**metric.aggregation, **scores.aggregation})
    meta = {answered.sample.id: answered.sample.meta for answered in answers}
    for name, value in scores.values.items():
        declared = scores.aggregation_of(name)
        try:
            agrees = declared.agrees(name, value, scores.per_sample, meta)
        except KeyError as error:
            raise UserError(
                f"the metric {metric.name} declares {name} as {type(declared).__name__}, but a sample has no {error}; "
                "correct the metric's per-sample scores, or its aggregation (evalkit.aggregation)."
            ) from error
        if not agrees:
            raise UserError(
                f"the metric {metric.name} gives {name} = {value:g}, but its samples give "
                f"{declared.compute(name, scores.per_sample, meta):g} ({type(declared).__name__}); declare how the "
                "value is computed (evalkit.aggregation; Corpus if not from per-sample scores)."
            )
    return scores


def submit(job: Job, records: Sequence[Record]) -> Submission:
    """The file for the official server of a split without public answers.

    Raises:
        UserError: the task writes none.
    """
    check_submission(job.task, job.split)
    return Submission(*job.task.submission([Answered(r.sample, r.prediction) for r in records]))
