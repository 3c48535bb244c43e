"""Grounding accuracy: the share of referring expressions whose box is found with an IoU of at least 0.5.

Papers: Yu et al., "Modeling Context in Referring Expressions", 2016 (arXiv 1608.00272: RefCOCO, RefCOCO+); Mao et al.,
"Generation and Comprehension of Unambiguous Object Descriptions", 2016 (arXiv 1511.02283: RefCOCOg).

There is no single official scorer.  This one agrees with what published numbers are computed with, torchvision's and
MDETR's ``box_iou`` (``util/box_ops.py``, commit ea09acc4), which Qwen-VL's ``evaluate_grounding.py`` (commit aa00ed04)
thresholds at 0.5, which itself counts as correct.  Width is ``x2 - x1``, without "+ 1 pixel"; boxes are not clipped to
the image and corners are not sorted.

Deviations, each on purpose:

- *float64*: those scorers compute in torch float32.  Within rounding of 0.5 the two may differ; the more
  precise one decides here.
- *undefined is 0*: two empty boxes have the IoU 0 / 0, which is NaN there; here it is 0.  Both are misses.
- An inverted or degenerate box is a miss.  (Signed areas give 0, -0 or NaN for it, since its intersection is empty.)

Not followed: MDETR's own ``RefExpEvaluator``, which thresholds the generalised IoU, and ``computeIoU`` of
lichengunc/refer, which treats an overlap of at most one pixel as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from evalkit.aggregation import Mean
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Box, Kind, Sample, Scores

from ._scoring import mean

THRESHOLD = 0.5
"""The smallest IoU that counts as found."""


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes ``(x1, y1, x2, y2)`` in pixels, in [0, 1].

    0.0 where it is undefined: a box without area (inverted, degenerate, so small that the area underflows, or with a
    NaN for a coordinate), or infinite areas.  Source of the formula: ``torchvision.ops.box_iou``, in float64.
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    # Inverted and degenerate boxes return here: their intersection with any box has no positive extent.
    if not (width > 0 and height > 0):
        return 0.0
    intersection = width * height
    union = _area(a) + _area(b) - intersection  # NaN if a coordinate is NaN
    return intersection / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _is_box(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(v, int | float) for v in value)


def _wrong_count(sample: Sample) -> UserError:
    return UserError(
        f"iou: sample {sample.id!r} has {len(sample.references)} boxes, expected one; "
        "check the annotation file, or choose a split whose annotations are public"
    )


class BoxIoU(Metric):
    """Accuracy at IoU >= 0.5, mean IoU and parse rate, all in percent.

    ``references`` is the box to be found.  An answer without a box that can be parsed is a miss with IoU 0 and lowers
    ``parse_rate``; an inverted box is only a miss.  Columns: ``acc@0.5`` (0 or 100), ``iou`` (0 to
    100) and ``parse_rate`` (0 or 100), whose means are the values ``acc@0.5``, ``mean_iou`` and ``parse_rate``.
    """

    name = "iou"
    running_score = True
    right_column = f"acc@{THRESHOLD}"
    signature = f"iou|threshold:{THRESHOLD}|plus1:no|precision:float64|v1"
    headline = f"acc@{THRESHOLD}"
    aggregation = MappingProxyType({"mean_iou": Mean("iou")})

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that every sample has one box; see ``Metric``.  Raises ``UserError``."""
        if kind != "grounding":
            raise UserError(f"{self.name}: this metric scores boxes, and the task asks for text; choose another metric")
        for sample in samples:
            if len(sample.references) != 1:
                raise _wrong_count(sample)
            box = sample.references[0]
            if not isinstance(box, list | tuple) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
                raise UserError(
                    f"{self.name}: sample {sample.id!r} has the reference {box!r}, which is not a box; "
                    "check the annotation file"
                )

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has exactly one box."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = {
            self.headline: mean([row[self.headline] for row in per_sample.values()]),
            "mean_iou": mean([row["iou"] for row in per_sample.values()]),
            "parse_rate": mean([row["parse_rate"] for row in per_sample.values()]),
        }
        return Scores(headline=self.headline, values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, in percent."""
        sample = answered.sample
        box: Any = answered.prediction.value
        if len(sample.references) != 1:
            raise _wrong_count(sample)
        if box is not None and not _is_box(box):
            what = "text" if isinstance(box, str) else "a point" if len(box) == 2 else "labelled boxes"
            raise UserError(
                f"{self.name}: the answer to sample {sample.id!r} was parsed as {what}, {box!r}; "
                "this metric scores boxes: the task's kind does not match its metric"
            )
        iou = 0.0 if box is None else box_iou(box, sample.references[0])
        return {
            self.headline: 100.0 * (iou >= THRESHOLD),
            "iou": 100.0 * iou,
            "parse_rate": 100.0 * answered.prediction.parsed,
        }


METRIC = BoxIoU()
