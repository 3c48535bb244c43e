"""IoU of spans of time, against values by hand and against intersection over hull, and what is refused."""

from __future__ import annotations

import math
import random

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.temporal_iou import METRIC, time_iou
from evalkit.types import Answered, Prediction, Sample, TimeSpan


def answered(number: int, span: TimeSpan | str | None, reference: object = (10.0, 20.0)) -> Answered:
    return Answered(Sample(str(number), (), "?", (reference,), str(number)), Prediction(span))


@pytest.mark.parametrize(
    ("span", "iou"),
    [((10, 20), 1), ((15, 20), 0.5), ((0, 40), 0.25), ((20, 30), 0), ((0, 5), 0), ((20, 10), 0), ((12, 12), 0),
     ((math.nan, 20), 0), ((10, math.inf), 0)],
)  # fmt: skip
def test_iou(span: TimeSpan, iou: float) -> None:
    assert time_iou(span, (10, 20)) == pytest.approx(iou)
    assert time_iou((10, 20), span) == pytest.approx(iou)


def test_agrees_with_intersection_over_hull() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        a, b = sorted(rng.uniform(0, 30) for _ in "ab"), sorted(rng.uniform(0, 30) for _ in "ab")
        hull = max(a[1], b[1]) - min(a[0], b[0])
        assert time_iou((a[0], a[1]), (b[0], b[1])) == pytest.approx(max(min(a[1], b[1]) - max(a[0], b[0]), 0) / hull)


def test_thresholds_count_what_reaches_them() -> None:
    answers = [
        answered(0, (10, 13)),
        answered(1, (10, 15)),
        answered(2, (10, 17)),
        answered(3, None),
        answered(4, (10, 20)),
    ]
    found = score_answers(METRIC, answers)
    assert found.headline == "mean_iou"
    assert found.values["mean_iou"] == pytest.approx((30 + 50 + 70 + 0 + 100) / 5)
    assert [found.values[f"r1@{threshold}"] for threshold in (0.3, 0.5, 0.7)] == [80, 60, 40]
    assert found.values["parse_rate"] == 80


def test_without_samples() -> None:
    assert math.isnan(METRIC.score([]).values["mean_iou"])


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="the task asks for none"):
        check_metric(METRIC, [answered(0, None).sample], "vqa", "x/y")
    with pytest.raises(UserError, match="has 0 spans of time, expected one"):
        check_metric(METRIC, [Sample("1", (), "?", (), "1")], "temporal_grounding", "x/y")
    with pytest.raises(UserError, match="which is not a span of time"):
        check_metric(METRIC, [answered(0, None, "10 - 20").sample], "temporal_grounding", "x/y")
    with pytest.raises(UserError, match="which is not a span of time"):
        METRIC.score([answered(0, "10 - 20")])
