"""Scoring the answers of a job, or writing the file for the official server where references are not public."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from evalkit.collection import collection_paused
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric, Metric
from evalkit.jobs import Job, Record, check_submission
from evalkit.metric_contract import TRIED, check_metric, describe, made_up, score_answers
from evalkit.repeats import VOTED, combine, vote
from evalkit.task_metrics import metric_of, with_breakdowns
from evalkit.types import Answered, Kind, Prediction, Scores
from evalkit.unparsed import reason

log = logging.getLogger("evalkit")


@dataclass(frozen=True)
class Submission:
    """The file for the official server, in place of a score, if a split's answers are not public."""

    file: str
    content: str


@dataclass(frozen=True)
class Result:
    """The outcome of a job.

    Attributes:
        scores: the metric's result; None if the split's answers are not public, or could not be scored.
        submission: the file for the official server, if there are no scores.
        n: number of samples scored; those with ``errors`` are excluded.
        unparsed: number of answers without a prediction; they count as wrong.
        unjudged: number of answers that are left out of the score because the judge's reply states no verdict.
        awaits_judge: whether the score needs a judge's verdicts, which have not been asked for.
        unparsed_reason: why nearly no answer could be parsed, as far as it shows; empty if most were.
        truncated: number of answers that reached the token limit, or whose reasoning does not end.
        reasoning_tokens: the mean number of tokens that are reasoning; None if no answer has reasoning, or it is
            unknown for one that has.
        errors: number of samples of which an answer failed.
        failure: why there is neither a score nor a submission, as a sentence; None if there is one.
        repeats: the scores of each repeat, which ``scores`` combines; empty with one answer to each sample.
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
    failure: str | None = None
    unparsed_reason: str = ""
    unjudged: int = 0
    awaits_judge: bool = False
    reasoning_tokens: float | None = None
    repeats: Sequence[Scores] = ()

    @property
    def answers(self) -> int:
        """The number of answers scored."""
        return self.n * self.job.repeats

    @property
    def complete(self) -> bool:
        """Whether every sample has an answer, and they could be scored."""
        return self.errors == 0 and self.failure is None


@collection_paused()
def score_job(job: Job, records: Sequence[Record]) -> Result:
    """Score a job's records with its task's metric, or write the submission if the answers are not public.

    Records of a judged job are not scored: the result says that they await a judge.  Samples of which an answer failed
    are not scored: every repeat is scored over the same samples.

    Never raises because of the metric: a failure is in the result, so that other jobs keep their scores.

    Raises:
        UserError: the answers are not public, and the task writes no submission.
    """
    failed = {r.sample.id for r in records if r.response.finish == "error"}
    good = [r for r in records if r.sample.id not in failed]
    public = job.task.splits[job.split].answers
    scores, submission, failure = None, None, None
    repeats: Sequence[Scores] = ()
    check_submission(job.task, job.split)
    awaits_judge = public and is_judged(job)
    try:
        if awaits_judge:
            pass
        elif public:
            scores, repeats = score_records(metric_of(job.task, job.metric), job, good)
            scores = replace(scores, signature=with_reading(scores.signature, job.task.kind, job.reading))
        else:
            submission = submit(job, records)
    except UserError as error:
        failure = str(error)
    except Exception as error:
        log.info("%s: scoring failed", job.name, exc_info=error)
        what = f"the metric {job.metric}" if public else "writing the file for the official server"
        failure = f"{what} failed: {describe(error)}."
    return replace(
        counted(job, records, good),
        scores=scores,
        submission=submission,
        failure=failure,
        awaits_judge=awaits_judge,
        repeats=repeats,
    )


def counted(job: Job, records: Sequence[Record], scored: Sequence[Record]) -> Result:
    """The result of a job without a score.

    Args:
        scored: the records that are scored, or are to be.
    """
    return Result(
        job=job,
        scores=None,
        n=len(scored) // job.repeats,
        unparsed=sum(not r.prediction.parsed for r in scored),
        truncated=sum(r.truncated for r in scored),
        errors=len({r.sample.id for r in records if r.response.finish == "error"}),
        seconds=sum(r.response.seconds for r in records),
        clusters={r.sample.id: r.sample.cluster for r in scored},
        unparsed_reason=reason(job, scored),
        reasoning_tokens=mean_reasoning_tokens(scored),
    )


def is_judged(job: Job) -> bool:
    """Whether a job's answers are scored by a judge."""
    return isinstance(metric_of(job.task, job.metric), JudgedMetric)


def mean_reasoning_tokens(records: Sequence[Record]) -> float | None:
    """``Result.reasoning_tokens``."""
    counts: list[int | None] = []
    found = False
    for record in records:
        reasons = record.parts.rule != "none"
        found = found or reasons
        counts.append(record.response.reasoning_tokens if reasons else 0)
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if found and len(known) == len(counts) else None


def score_records(metric: Metric, job: Job, records: Sequence[Record]) -> tuple[Scores, Sequence[Scores]]:
    """The scores of records, and those of each repeat if there are several.

    Raises:
        UserError: they cannot be scored.
    """
    by_repeat = [
        [Answered(r.sample, r.prediction) for r in records if r.repeat == repeat]
        for repeat in range(1, job.repeats + 1)
    ]

    def scored(answers: Sequence[Answered]) -> Scores:
        return with_breakdowns(score_answers(metric, answers), answers, job.task.breakdown_keys)

    if len(by_repeat) == 1:
        return scored(by_repeat[0]), ()
    repeats = [scored(answers) for answers in by_repeat]
    voted = None
    if all((answered.sample.kind or job.task.kind) in VOTED for answered in by_repeat[0]):
        voted = scored(votes(by_repeat))
    meta = {answered.sample.id: answered.sample.meta for answered in by_repeat[0]}
    return combine(repeats, meta, right=metric.right_column, voted=voted), repeats


def votes(by_repeat: Sequence[Sequence[Answered]]) -> list[Answered]:
    """Each sample with the majority's prediction; every repeat has the same samples in the same order."""
    return [
        Answered(same[0].sample, vote([answered.prediction for answered in same]))
        for same in zip(*by_repeat, strict=True)
    ]


def with_reading(signature: str, kind: Kind, rule: str | None) -> str:
    """A metric's signature after the rule that read letters, yes and no, points, boxes or times, if one did."""
    what = {"yes_no": "yes-no", "pointing": "points", "detection": "boxes", "temporal_grounding": "times"}.get(
        kind, "letters"
    )
    return signature if rule is None else f"{what}:{rule}|{signature}"


def check_scorable(job: Job) -> None:
    """Check that a job's answers can be scored, before a model is loaded.

    Raises:
        UserError: the metric does not fit the samples, or something that it needs, such as a judge, is missing.
    """
    if is_judged(job) and not job.judge:
        raise UserError(
            f"{job.name}: its answers are scored by a judge (metric {job.metric}); name a model that judges with "
            "--judge MODEL, or a server with --judge-base-url."
        )
    if is_judged(job) and job.repeats > 1:
        raise UserError(
            f"{job.name}: --repeats: a judge is asked about one answer to each sample (metric {job.metric}); drop "
            "--repeats."
        )
    if job.task.splits[job.split].answers:
        check_metric(metric_of(job.task, job.metric), job.samples, job.task.kind, job.name)
        if job.task.breakdown_keys and not is_judged(job):
            _check_breakdowns(job)


def _check_breakdowns(job: Job) -> None:
    """Score made-up answers with the task's breakdowns.  Raises ``UserError`` if the metric has no parts."""
    few = job.samples[:TRIED]
    answers = [Answered(s, Prediction(made_up(s, s.kind or job.task.kind)[0])) for s in few]
    try:
        with_breakdowns(score_answers(metric_of(job.task, job.metric), answers), answers, job.task.breakdown_keys)
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from error


def submit(job: Job, records: Sequence[Record]) -> Submission:
    """The file for the official server of a split without public answers."""
    return Submission(*job.task.submission([Answered(r.sample, r.prediction) for r in records]))
