"""Pointing accuracy: the share of points inside the box of what is to be pointed to.

Benchmarks: ScreenSpot (Cheng et al., "SeeClick", 2024, arXiv 2401.10935), ScreenSpot-v2 (Wu et al., "OS-Atlas", 2024,
arXiv 2410.23218) and ScreenSpot-Pro (Li et al., 2025, arXiv 2504.07981).  Official scorers:
``pretrain/screenspot_test.py`` of njucckevin/SeeClick (commit 0ef37ac) and ``eval_screenspot_pro.py`` of
likaixin2000/ScreenSpot-Pro-GUI-Grounding (commit bd8bbbb): a point on the border is inside, and an answer without a
point is wrong.

Variants, by name:

- ``point_in_box``: the headline is the mean over samples, as leaderboards have it.
- ``point_in_box_macro``: the headline is the unweighted mean of the cells platform × type, as SeeClick's table has it.
- ``point_in_box_vlmevalkit``: open-compass/VLMEvalKit (commit e8e78f0) for ScreenSpot and its v2: the right and lower
  edges of boxes are one pixel further in (x + w - 1).  Not followed: where a file has categories, its text and icon
  accuracies count every cell as often as it has samples, so that cells are weighted by their size squared.

Deviation: the scorers compare fractions of the image; here pixels are compared, within a ten-millionth of a pixel, so
that a point on a border is inside whatever its coordinates were divided by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.aggregation import Mean, MeanOfGroups
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Box, Kind, Point, Sample, Scores

from ._scoring import breakdowns, means

ROUNDING = 1e-7
"""Pixels by which a point may be outside: dividing by the image's size and multiplying again loses about 1e-12."""
CELL = "cell"
"""The entry of ``meta`` that names a sample's platform and type, as ``mobile text``."""
KEYS = ("platform", "group", "application", "type", CELL)
"""The entries of ``meta`` by which there are breakdowns."""


def is_inside(point: Point, box: Box) -> bool:
    """Whether ``point`` is inside ``box``, its borders included; both in pixels of the original image."""
    x, y = point
    return box[0] - ROUNDING <= x <= box[2] + ROUNDING and box[1] - ROUNDING <= y <= box[3] + ROUNDING  # false for NaN


class PointInBox(Metric):
    """Accuracy and parse rate in percent.

    ``references`` is the box (x1, y1, x2, y2) in pixels that must contain the point.  Where samples carry ``meta`` of
    ``KEYS`` there is also an ``accuracy[…]`` for each value found, and ``accuracy_macro``, the unweighted mean of the
    cells, if every sample has one.  Columns: ``accuracy`` and ``parse_rate``, each 0 or 100.

    Args:
        macro: whether ``accuracy_macro`` is the headline.
        inset: pixels by which the right and lower edges of boxes are further in.
    """

    running_score = True
    meta_keys = (CELL,)
    right_column = "accuracy"

    def __init__(self, name: str = "point_in_box", *, macro: bool = False, inset: int = 0) -> None:
        self.name = name
        self.macro = macro
        self.inset = inset

    @property
    def signature(self) -> str:
        return f"{self.name}|borders:inside|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that every sample has one box; see ``Metric``.  Raises ``UserError``."""
        if kind != "pointing":
            raise UserError(f"{self.name}: this metric scores points, and the task asks for none; choose another")
        for sample in samples:
            self._box(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has exactly one box."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdowns(KEYS, answers, per_sample)
        values |= more
        headline = "accuracy"
        if self.macro or (answers and all(CELL in answered.sample.meta for answered in answers)):
            macro = MeanOfGroups("accuracy", key=CELL)
            meta = {answered.sample.id: answered.sample.meta for answered in answers}
            values["accuracy_macro"] = self._macro(macro, per_sample, meta)
            declared["accuracy_macro"] = macro
        if self.macro:
            headline = "accuracy_macro"
        return Scores(headline, values, per_sample, self.signature, declared)

    def _macro(
        self, macro: Mean, per_sample: Mapping[str, Mapping[str, float]], meta: Mapping[str, Mapping[str, Any]]
    ) -> float:
        try:
            return float(macro.compute("accuracy_macro", per_sample, meta) or 0.0)
        except KeyError as error:
            raise UserError(
                f"{self.name}: a sample has no {error}, the platform and type whose mean is the headline; use the "
                "metric point_in_box"
            ) from error

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        box = self._box(answered.sample)
        point: Any = answered.prediction.value
        if point is not None and (isinstance(point, str) or len(point) != 2):
            raise UserError(
                f"{self.name}: the answer to sample {answered.sample.id!r} was parsed as {point!r}, which is not a "
                "point: the task's kind does not match its metric"
            )
        return {
            "accuracy": 100.0 * (point is not None and is_inside((point[0], point[1]), box)),
            "parse_rate": 100.0 * answered.prediction.parsed,
        }

    def _box(self, sample: Sample) -> Box:
        """The sample's box.  Raises ``UserError`` if it has none, or several."""
        if len(sample.references) != 1:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has {len(sample.references)} boxes, expected one; check the "
                "annotation file, or choose a split whose annotations are public"
            )
        box = sample.references[0]
        if not isinstance(box, list | tuple) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the reference {box!r}, which is not a box; check the "
                "annotation file"
            )
        x1, y1, x2, y2 = box
        return x1, y1, x2 - self.inset, y2 - self.inset


METRICS = {
    metric.name: metric
    for metric in (
        PointInBox(),
        PointInBox("point_in_box_macro", macro=True),
        PointInBox("point_in_box_vlmevalkit", inset=1),
    )
}
