"""Temporal grounding: how well stated spans of time meet the reference spans: R@1 at IoU 0.3, 0.5, 0.7, and mean IoU.

Paper of the measure: Gao et al., "TALL: Temporal Activity Localization via Language Query", ICCV 2017 (arXiv
1705.02101), which has "R@n, IoU=m".  There is no single official scorer; lmms-eval's (commit 75571cf,
``tasks/charades_sta/utils.py``) is the one that published numbers of vision-language models are compared with.  It
agrees with this one: an IoU of exactly the threshold counts, and where the spans overlap, its intersection over *hull*
is the intersection over union.

Deviation: a span that ends before it begins meets nothing here; lmms-eval's reading rule exchanges its ends, and so
does ``lmms-eval-span`` (``evalkit/time_spans.py``), so that its scores are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from evalkit.aggregation import Mean
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores, TimeSpan

from ._scoring import breakdown, means

THRESHOLDS = (0.3, 0.5, 0.7)
"""The smallest IoU of an answer that counts, one value each."""
RECALLS = {f"r1@{threshold}": threshold for threshold in THRESHOLDS}


def time_iou(a: TimeSpan, b: TimeSpan) -> float:
    """Intersection over union of two spans (start, end) in seconds, in [0, 1]; 0 for one that ends before it begins."""
    if not all(map(math.isfinite, (*a, *b))):
        return 0.0
    both = min(a[1], b[1]) - max(a[0], b[0])
    return both / (max(a[1], b[1]) - min(a[0], b[0])) if both > 0 else 0.0


def is_span(value: Any) -> bool:
    """Whether a reference or a prediction is a span of time."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(v) in (int, float) for v in value)


class TemporalIoU(Metric):
    """Mean IoU, R@1 at three thresholds, and parse rate, all in percent.

    ``references`` is the span (start, end) in seconds.  An answer without a span has the IoU 0.  Where samples carry
    ``meta["category"]``, there is also a ``mean_iou[…]`` for each.  Columns: ``iou`` (0 to 100), ``r1@0.3``,
    ``r1@0.5``, ``r1@0.7`` and ``parse_rate`` (0 or 100).
    """

    name = "temporal_iou"
    running_score = True
    signature = "temporal_iou|thresholds:0.3,0.5,0.7|unread:0|v1"
    headline = "mean_iou"
    aggregation = MappingProxyType({"mean_iou": Mean("iou")})

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that every sample has one span; see ``Metric``.  Raises ``UserError``."""
        if kind != "temporal_grounding":
            raise UserError(
                f"{self.name}: this metric scores spans of time, and the task asks for none; choose another metric"
            )
        for sample in samples:
            self._reference(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has exactly one span."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, (*RECALLS, "parse_rate"))
        values["mean_iou"] = means(per_sample, ("iou",))["iou"]
        more, declared = breakdown("category", answers, per_sample, "iou", name="mean_iou")
        return Scores(self.headline, values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, in percent."""
        reference = self._reference(answered.sample)
        found: Any = answered.prediction.value
        if found is not None and not is_span(found):
            raise UserError(
                f"{self.name}: the answer to sample {answered.sample.id!r} was parsed as {found!r}, which is not a "
                "span of time: the task's kind does not match its metric"
            )
        iou = 0.0 if found is None else time_iou((found[0], found[1]), reference)
        recalls = {name: 100.0 * (iou >= threshold) for name, threshold in RECALLS.items()}
        return {"iou": 100.0 * iou, **recalls, "parse_rate": 100.0 * answered.prediction.parsed}

    def _reference(self, sample: Sample) -> TimeSpan:
        """The sample's span.  Raises ``UserError`` if it has none, or several."""
        if len(sample.references) != 1:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has {len(sample.references)} spans of time, expected one; check "
                "the annotation file, or choose a split whose annotations are public"
            )
        span = sample.references[0]
        if not is_span(span):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the reference {span!r}, which is not a span of time; check "
                "the annotation file"
            )
        return float(span[0]), float(span[1])


METRIC = TemporalIoU()
