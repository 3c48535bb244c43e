"""Points in boxes: borders, cells, and means that are what their names say."""

from __future__ import annotations

import math

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.point_in_box import METRICS, is_inside
from evalkit.types import Answered, Point, Prediction, Sample

BOX = (10.0, 20.0, 30.0, 40.0)


def answered(number: int, point: Point | str | None, cell: str = "", **meta: str) -> Answered:
    found = {"platform": cell.split()[0], "type": cell.split()[1], "cell": cell} if cell else {}
    return Answered(Sample(str(number), (), "?", (BOX,), str(number), meta={**found, **meta}), Prediction(point))


@pytest.mark.parametrize(
    ("point", "inside"),
    [((10, 20), True), ((30, 40), True), ((20, 30), True), ((9.999, 30), False), ((20, 40.001), False),
     ((math.nan, 30), False), ((math.inf, 30), False), ((10 - 1e-12, 20), True)],
)  # fmt: skip
def test_borders_are_inside(point: Point, inside: bool) -> None:
    assert is_inside(point, BOX) is inside


ANSWERS = [
    answered(0, (20, 30), "mobile text"),
    answered(1, (0, 0), "mobile text"),
    answered(2, None, "mobile text"),
    answered(3, (20, 30), "web icon"),
]


def test_micro_and_macro() -> None:
    found = score_answers(METRICS["point_in_box"], ANSWERS)
    assert found.headline == "accuracy"
    assert found.values["accuracy"] == 50
    assert found.values["parse_rate"] == 75
    assert found.values["accuracy[mobile text]"] == pytest.approx(100 / 3)
    assert found.values["accuracy[mobile]"] == pytest.approx(100 / 3)
    assert found.values["accuracy[icon]"] == 100
    assert found.values["accuracy_macro"] == pytest.approx((100 / 3 + 100) / 2)
    macro = score_answers(METRICS["point_in_box_macro"], ANSWERS)
    assert macro.headline == "accuracy_macro"
    assert macro.values == found.values


def test_macro_needs_cells() -> None:
    with pytest.raises(UserError, match="a sample has no 'cell'"):
        score_answers(METRICS["point_in_box_macro"], [*ANSWERS, answered(4, None)])
    assert "accuracy_macro" not in score_answers(METRICS["point_in_box"], [*ANSWERS, answered(4, None)]).values


def test_edges_of_vlmevalkit_are_a_pixel_further_in() -> None:
    last = [answered(0, (30, 30), "web text"), answered(1, (29, 39), "web text")]
    assert score_answers(METRICS["point_in_box"], last).values["accuracy"] == 100
    assert score_answers(METRICS["point_in_box_vlmevalkit"], last).values["accuracy"] == 50


def test_without_samples() -> None:
    assert math.isnan(METRICS["point_in_box"].score([]).values["accuracy"])


def test_what_is_refused() -> None:
    metric = METRICS["point_in_box"]
    with pytest.raises(UserError, match="the task asks for none"):
        check_metric(metric, [ANSWERS[0].sample], "vqa", "x/y")
    with pytest.raises(UserError, match="has 0 boxes, expected one"):
        check_metric(metric, [Sample("1", (), "?", (), "1")], "pointing", "x/y")
    with pytest.raises(UserError, match="which is not a box"):
        check_metric(metric, [Sample("1", (), "?", ("a",), "1")], "pointing", "x/y")
    with pytest.raises(UserError, match="which is not a point"):
        metric.score([answered(0, "(20, 30)")])
