"""The metrics of a task: its own or the registered ones, and breakdowns that hold for any metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from evalkit import registry
from evalkit.aggregation import Aggregation, Mean, MeanWhere, labels_of
from evalkit.errors import UserError
from evalkit.interfaces import Metric, Task
from evalkit.types import Answered, Scores


def metric_of(task: Task, name: str) -> Metric:
    """The metric called ``name``: the task's own, else the registered one.  Raises ``UserError`` if there is none."""
    own = task.own_metrics.get(name)
    return registry.metrics.get(name) if own is None else own


def with_breakdowns(scores: Scores, answers: Sequence[Answered], keys: Sequence[str]) -> Scores:
    """``scores`` with the headline by each value of the entries ``keys`` of ``meta``: ``accuracy[level=hard]``.

    A value that the metric gives itself is not given twice.

    Raises:
        UserError: the headline is no mean over samples, so that it has no parts.
    """
    declared = scores.aggregation_of(scores.headline)
    if not keys or not answers:
        return scores
    if not isinstance(declared, Mean) or declared.unit:
        raise UserError(
            f"breakdowns: {scores.headline} is computed from all samples together ({scores.signature.split('|')[0]}), "
            "so that it has no parts; leave breakdowns out, or choose a metric that is a mean over samples"
        )
    column = declared.column or scores.headline
    known = {(one.key, one.value) for one in scores.aggregation.values() if isinstance(one, MeanWhere)}
    values = dict(scores.values)
    aggregation: dict[str, Aggregation] = dict(scores.aggregation)
    for key in keys:
        groups: dict[str, list[float]] = {}
        for answered in answers:
            for label in labels_of(answered.sample.meta.get(key)):
                groups.setdefault(label, []).append(scores.per_sample[answered.sample.id][column])
        for label in sorted(groups):
            if (key, label) not in known:
                name = f"{scores.headline}[{key}={label}]"
                values[name] = fmean(groups[label])
                aggregation[name] = MeanWhere(column, declared.maximum, key=key, value=label)
    return replace(scores, values=values, aggregation=aggregation)
