"""Base classes of everything a plugin provides: tasks, metrics, model families and backends.

A class that is missing something required is refused when it is loaded (``evalkit.registry``).  Optional abilities
have defaults here; a plugin overrides those that it has.
"""

from __future__ import annotations

from .backend import Backend, BackendFactory, RequestBatch, WorkerPool
from .family import Family
from .judged import JudgedMetric
from .metric import Metric
from .task import Task

__all__ = ["Backend", "BackendFactory", "Family", "JudgedMetric", "Metric", "RequestBatch", "Task", "WorkerPool"]
