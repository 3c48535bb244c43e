"""Scores of judged answers: those whose verdicts are all there, with a note about the others.

A judge's failures are errors, as a model's are: those samples are not scored, and the same command asks again.  A reply
that states no verdict would be the same if it was asked for again.  Its answer is left out if the metric says so, with
the values between which the score would be if it was scored; otherwise there is no score.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.jobs import Job, Record
from evalkit.judged_contract import score_verdicts
from evalkit.judging import Judgement
from evalkit.metric_contract import describe
from evalkit.scoring import Result, counted, with_reading
from evalkit.task_metrics import metric_of, with_breakdowns
from evalkit.types import Answered, Scores

log = logging.getLogger("evalkit")

PHRASES = {"unreadable": "unreadable", "out of range": "out of the scale", "truncated": "cut off by the token limit"}


def judged_metric(job: Job) -> JudgedMetric:
    """The metric of a judged job."""
    metric = metric_of(job.task, job.metric)
    assert isinstance(metric, JudgedMetric)
    return metric


def score_judged_job(job: Job, records: Sequence[Record], judgement: Judgement) -> Result:
    """Score a job's records by the verdicts on them.

    Never raises because of the metric: a failure is in the result, so that other jobs keep their scores.
    """
    metric = judged_metric(job)
    good = [record for record in records if record.response.finish != "error"]
    problems = {record.sample.id: judgement.problem(record.sample.id) for record in good}
    judged = [record for record in good if not problems[record.sample.id]]
    counts = Counter(problem for problem in problems.values() if problem)
    failed = counts.pop("error", 0)
    unjudged = sum(counts.values())
    scores, failure = None, refusal(metric, judged, good, judgement, counts)
    if failure is None:
        try:
            answers = [Answered(r.sample, r.prediction) for r in judged]
            scores = with_breakdowns(score_verdicts(metric, judgement.of(answers)), answers, job.task.breakdown_keys)
            notes = [*scores.notes, *_left_out(metric, scores, len(judged), counts)]
            signature = metric.signed(scores.signature, judgement.judge)
            signature = with_reading(signature, job.task.kind, job.reading)
            scores = replace(scores, signature=signature, notes=notes)
        except UserError as error:
            failure = str(error)
        except Exception as error:
            log.info("%s: scoring failed", job.name, exc_info=error)
            failure = f"the metric {job.metric} failed: {describe(error)}."
    found = counted(job, records, judged)
    return replace(found, scores=scores, failure=failure, errors=found.errors + failed, unjudged=unjudged)


def refusal(
    metric: JudgedMetric,
    judged: Sequence[Record],
    good: Sequence[Record],
    judgement: Judgement,
    counts: Counter[str],
) -> str | None:
    """Why there is no score, as a sentence; None if there is one."""
    if judgement.missing:
        return (
            f"{judgement.missing:,} answers have no recorded verdict for today's questions; ask a judge with --judge."
        )
    unjudged = sum(counts.values())
    if unjudged and not any(record.prediction.parsed for record in judged):
        return f"none of {len(good):,} answers has a verdict of the judge {judgement.judge}: {_phrase(counts)}."
    if unjudged and not metric.leaves_out_unjudged:
        return (
            f"the judge {judgement.judge} gave no verdict on {unjudged:,} of {len(good):,} answers "
            f"({_phrase(counts)}), and {metric.name} leaves none out."
        )
    return None


def _left_out(metric: JudgedMetric, scores: Scores, judged: int, counts: Counter[str]) -> list[str]:
    """The note about answers that have no verdict."""
    unjudged = sum(counts.values())
    if not unjudged:
        return []
    total = judged + unjudged
    answers = "1 answer is" if unjudged == 1 else f"{unjudged:,} answers are"
    note = f"{answers} left out of {total:,}, because the judge's verdict is missing ({_phrase(counts)})"
    value = scores.values[scores.headline]
    if metric.unjudged_range is None or math.isnan(value):
        return [note]
    low, high = ((judged * value + unjudged * end) / total for end in metric.unjudged_range)
    return [f"{note}; with them, {scores.headline} would be between {low:.2f} and {high:.2f}"]


def _phrase(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {PHRASES.get(problem, problem)}" for problem, count in counts.most_common())
