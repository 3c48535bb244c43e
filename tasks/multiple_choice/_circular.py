"""Benchmarks that ask each question several times, with its options rotated (``metrics/circular_accuracy.py``).

In VLMEvalKit's files the rows of a question have the same ``index`` modulo a million: 457 is the original, 1000457 the
first rotation.  A question is one cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.data import shown
from evalkit.letters import GRAMMAR
from evalkit.types import ScoringRule

from ._tables import ChoiceTable, Row

STEP = 1_000_000


class CircularTable(ChoiceTable):
    """A benchmark of such rows."""

    metric = "circular_accuracy"
    complete_clusters = True
    rules: Mapping[str, ScoringRule] = {
        "plain": ScoringRule(
            GRAMMAR, "circular_accuracy_plain", 'accuracy over the unrotated rows, "vanilla" in tables'
        ),
    }

    def cluster(self, row: Row) -> str:
        return str(_index(row) % STEP)

    def meta(self, row: Row) -> dict[str, Any]:
        return {**super().meta(row), "group": self.cluster(row), "rotation": _index(row) // STEP}


def _index(row: Row) -> int:
    if not (row.index.isascii() and row.index.isdecimal()):
        raise ValueError(f"the index is {shown(row.index)}, not a whole number")
    return int(row.index)
