"""Per-sample scores read back: ``TASK.SPLIT.scores.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import UserError
from evalkit.jsonl import objects, read_bytes
from evalkit.results.stats.clustered import Floats, Measured

from .score_row import ScoreRow
from .seal import digest_of_content


@dataclass(frozen=True)
class SampleScores:
    """The headline score of each sample of a split, in the order of the file; all fields have the same length.

    Attributes:
        corpus: whether the headline is not a mean of per-sample scores; ``values`` are then NaN.
        statistics: each sample's, if the headline is a function of their sums.
        slopes: of that function at the sums; as many as a sample has statistics.
    """

    ids: Sequence[str]
    values: Sequence[float]
    clusters: Sequence[str]
    strata: Sequence[str] | None
    corpus: bool = False
    statistics: Sequence[Sequence[float]] = ()
    slopes: Sequence[float] = ()

    def checked(self, value: float) -> SampleScores:
        """These scores if ``value`` is their mean; else without values: an older evalkit took such scores for means."""
        if not self.ids or math.isclose(self.measured().mean, value, rel_tol=1e-6, abs_tol=1e-6):
            return self
        nothing = [math.nan] * len(self.ids)
        return replace(self, values=nothing, strata=None, corpus=True)

    @cached_property
    def place(self) -> Mapping[str, int]:
        return {sample: place for place, sample in enumerate(self.ids)}

    def measured(self, ids: Sequence[str] | None = None) -> Measured:
        """The samples ``ids`` in that order, else all."""
        places = range(len(self.ids)) if ids is None else [self.place[sample] for sample in ids]
        return Measured.of(
            [self.values[i] for i in places],
            [self.clusters[i] for i in places],
            None if self.strata is None else [self.strata[i] for i in places],
        )

    def of(self, ids: Sequence[str]) -> SampleScores:
        """The scores of the samples ``ids``, in that order, as a mean over them."""
        places = [self.place[sample] for sample in ids]
        values, clusters = [self.values[i] for i in places], [self.clusters[i] for i in places]
        return SampleScores(list(ids), values, clusters, None, self.corpus)

    def comparable(self, other: SampleScores) -> bool:
        """Whether both are functions of sums of the same statistics, as far as their number shows."""
        return bool(self.slopes) and len(self.slopes) == len(other.slopes)

    def sums(self, ids: Sequence[str]) -> Floats:
        """(ids, columns), the statistics of the samples ``ids``."""
        return np.array([self.statistics[self.place[sample]] for sample in ids], dtype=np.float64)


def numbers(values: Any, count: int) -> list[float]:
    """``count`` finite numbers from a file.  Raises ``ValueError`` for anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"{values!r} are not {count} statistics")
    return [number(value) for value in values]


def number(value: Any) -> float:
    """A finite number from a file.  Raises ``ValueError`` for anything else, such as the text "NaN"."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a score")
    return float(value)


def read_sample_scores(path: Path, row: ScoreRow) -> SampleScores:
    """The per-sample scores in ``path`` behind the value of ``row``, a row of the same run's ``scores.json``.

    Raises:
        UserError: the file is missing or corrupt, or is not the one that was written with ``row``.
    """
    content = read_bytes(path, "the scores")
    advice = f"'evalkit rescore {path.parent}' writes"
    ids, values, clusters, strata, statistics = [], [], [], [], []
    line_number = count = 0
    try:
        lines = list(objects(content, str(path), own=True))
        slopes = numbers(row.slopes, len(row.slopes))
        corpus = row.aggregation in ("sums", "weights", "corpus") or not any(row.metric in line for _, line in lines)
        for line_number, line in lines:  # noqa: B007
            count += 1
            if row.aggregation in ("subset", "weighted") and row.metric not in line:
                continue
            ids.append(str(line["id"]))
            values.append(math.nan if corpus else number(line[row.metric]))
            clusters.append(str(line["cluster"]))
            strata.append(line.get("stratum"))
            if slopes:
                statistics.append(numbers(line["statistics"], len(slopes)))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}, line {line_number} is corrupt ({error!r}); {advice} it again.") from error
    if len(set(ids)) != len(ids) or count != row.n:
        raise UserError(f"{path} has {count:,} samples and scores.json says {row.n:,}; {advice} both again.")
    if row.scores is not None and row.scores != digest_of_content(content):
        raise UserError(f"{path} was changed since evalkit wrote it (its checksum is wrong); {advice} it again.")
    groups = None if None in strata or not strata else [str(s) for s in strata]
    return SampleScores(ids, values, clusters, groups, corpus, statistics, slopes)
