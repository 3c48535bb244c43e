"""The digest of a split's annotations, which says whether two scores were computed from the same ones."""

from __future__ import annotations

from collections.abc import Iterable

from evalkit.fingerprint import of_samples
from evalkit.interfaces import Task
from evalkit.task_metrics import metric_of
from evalkit.types import Sample


def digest_of_annotations(task: Task, samples: Iterable[Sample]) -> str:
    """The digest of every question with its options, references and what else the task's metrics score by.

    Raises:
        UserError: a metric that the task names does not exist.
    """
    names = {task.metric, *(rule.metric for rule in task.rules.values() if rule.metric)}
    keys = {key for name in names for key in metric_of(task, name).meta_keys}
    return of_samples(samples, sorted(keys))
