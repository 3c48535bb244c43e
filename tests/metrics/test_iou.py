"""IoU against the outputs of the scorers in use, then edges and invariants.

Of ``refcoco_iou.json`` only the cases of kind ``boxes`` concern this metric: ``qwen_text`` is about reading a box from
an answer, which is a model family's part, and ``mdetr_topk`` about ranked lists of boxes and generalised IoU.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.metrics.iou import METRIC, THRESHOLD, box_iou
from evalkit.types import Answered, Box, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "refcoco_iou.json").read_text())
CASES: list[dict[str, Any]] = [case for case in GOLDEN["cases"] if case["kind"] == "boxes"]

UNIT: Box = (0.0, 0.0, 1.0, 1.0)


def boxes(case: dict[str, Any]) -> tuple[Box, Box]:
    predicted, target = case["inputs"]["pred_xyxy"], case["inputs"]["gt_xyxy"]
    return (predicted[0], predicted[1], predicted[2], predicted[3]), (target[0], target[1], target[2], target[3])


def answered(id: str, target: Box, value: Any) -> Answered:
    return Answered(Sample(id=id, images=(), text="it", references=(target,), cluster=id), Prediction(value))


# ---------------------------------------------------------------------------------------- outputs of the scorers in use


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['tag']}")
def test_golden_boxes(case: dict[str, Any]) -> None:
    """The float64 column, to the last bit; where it is NaN the IoU is 0 here."""
    expected = case["expected"]["box_iou_f64"]
    iou = box_iou(*boxes(case))
    assert iou == (0.0 if expected == {"__float__": "nan"} else expected)
    assert (iou >= THRESHOLD) is case["expected"]["correct_f64"]


def test_golden_aggregate() -> None:
    aggregate = GOLDEN["aggregate"]["boxes"]
    answers = [answered(case["id"], boxes(case)[1], boxes(case)[0]) for case in CASES]
    scores = METRIC.score(answers)
    assert len(scores.per_sample) == aggregate["n"]
    assert scores.values["acc@0.5"] == 100 * aggregate["P@0.5_f64"]
    assert scores.values["parse_rate"] == 100.0


def test_golden_precision_matters() -> None:
    """The cases that are right in float32 and wrong in float64, or the reverse, are scored as in float64."""
    split = [case for case in CASES if case["expected"]["correct_f32"] != case["expected"]["correct_f64"]]
    assert len(split) >= 4
    for case in split:
        assert (box_iou(*boxes(case)) >= THRESHOLD) is not case["expected"]["correct_f32"], case["id"]


# ---------------------------------------------------------------------------------------------------------------- edges


def test_no_plus_one() -> None:
    """With "+ 1 pixel" it would be 121 / 231."""
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 20)) == 0.5
    assert box_iou((0, 0, 10, 10), (5, 5, 15, 15)) == 25 / 175


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((10, 0, 0, 10), id="inverted in x"),
        pytest.param((0, 10, 10, 0), id="inverted in y"),
        pytest.param((10, 10, 0, 0), id="inverted in both"),
        pytest.param((5, 5, 5, 5), id="point"),
        pytest.param((0, 5, 10, 5), id="line"),
        pytest.param((0, 0, math.nan, 10), id="NaN"),
        pytest.param((math.nan, 0, 10, 10), id="NaN first"),
        pytest.param((-math.inf, -math.inf, math.inf, math.inf), id="unbounded"),
        pytest.param((0, 0, 1e-200, 1e-200), id="area underflows"),
        pytest.param((10, 0, 20, 10), id="touching"),
        pytest.param((50, 50, 60, 60), id="apart"),
    ],
)
def test_boxes_that_miss(box: Box) -> None:
    target: Box = (0, 0, 10, 10)
    assert box_iou(box, target) == 0.0
    assert box_iou(target, box) == 0.0
    scores = METRIC.score([answered("s", target, box)])
    assert scores.values == {"acc@0.5": 0.0, "mean_iou": 0.0, "parse_rate": 100.0}


def test_values_columns_and_signature() -> None:
    target: Box = (0, 0, 10, 10)
    scores = METRIC.score(
        [
            answered("all", target, target),
            answered("half", target, (0, 0, 10, 5)),
            answered("quarter", target, (0, 0, 5, 5)),
            answered("unread", target, None),
        ]
    )
    assert scores.headline == "acc@0.5"
    assert scores.values == {"acc@0.5": 50.0, "mean_iou": (100 + 50 + 25 + 0) / 4, "parse_rate": 75.0}
    assert scores.per_sample == {
        "all": {"acc@0.5": 100.0, "iou": 100.0, "parse_rate": 100.0},
        "half": {"acc@0.5": 100.0, "iou": 50.0, "parse_rate": 100.0},
        "quarter": {"acc@0.5": 0.0, "iou": 25.0, "parse_rate": 100.0},
        "unread": {"acc@0.5": 0.0, "iou": 0.0, "parse_rate": 0.0},
    }
    assert scores.signature == "iou|threshold:0.5|plus1:no|precision:float64|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "iou"


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"acc@0.5", "mean_iou", "parse_rate"}
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}


@pytest.mark.parametrize("references", [(), (UNIT, UNIT)])
def test_not_one_target_names_sample(references: tuple[Box, ...]) -> None:
    sample = Sample(id="ref 7", images=(), text="it", references=references, cluster="c")
    with pytest.raises(UserError, match=f"'ref 7' has {len(references)} boxes"):
        METRIC.score([Answered(sample, Prediction(None))])


def test_text_names_sample() -> None:
    with pytest.raises(UserError, match="'ref 7' was parsed as text"):
        METRIC.score([answered("ref 7", UNIT, "left")])


# ----------------------------------------------------------------------------------------------------------- invariants

# Small integers among them, so that boxes share corners, touch, contain one another, are inverted or empty.
coordinates = st.integers(-3, 3).map(float) | st.floats(-1e4, 1e4).map(lambda x: round(x, 2))
sides = st.lists(coordinates, min_size=2, max_size=2, unique=True).map(sorted)
any_boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)
wild_boxes = st.tuples(st.floats(), st.floats(), st.floats(), st.floats())
proper_boxes = st.builds(lambda x, y: (x[0], y[0], x[1], y[1]), sides, sides)


@given(any_boxes | wild_boxes, any_boxes | wild_boxes)
def test_symmetric_and_bounded_for_any_numbers(a: Box, b: Box) -> None:
    assert 0.0 <= box_iou(a, b) <= 1.0
    assert box_iou(a, b) == box_iou(b, a)


@given(proper_boxes)
def test_identical_boxes(box: Box) -> None:
    assert box_iou(box, box) == 1.0


@given(proper_boxes, proper_boxes)
def test_positive_exactly_where_boxes_overlap(a: Box, b: Box) -> None:
    overlap = a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    assert (box_iou(a, b) > 0) is overlap


@given(proper_boxes, proper_boxes)
def test_scaling_by_power_of_two_changes_nothing(a: Box, b: Box) -> None:
    def doubled(box: Box) -> Box:
        return (2 * box[0], 2 * box[1], 2 * box[2], 2 * box[3])

    assert box_iou(doubled(a), doubled(b)) == box_iou(a, b)


@given(st.lists(st.tuples(proper_boxes, st.none() | any_boxes), min_size=1, max_size=8))
def test_aggregates_are_means_of_columns(rows: list[tuple[Box, Box | None]]) -> None:
    scores = METRIC.score([answered(f"s{i}", target, value) for i, (target, value) in enumerate(rows)])
    for key, column in (("acc@0.5", "acc@0.5"), ("mean_iou", "iou")):
        assert scores.values[key] == pytest.approx(fmean(columns[column] for columns in scores.per_sample.values()))
    assert scores.values["parse_rate"] == pytest.approx(100 * fmean(value is not None for _, value in rows))
    assert scores.values["acc@0.5"] <= scores.values["parse_rate"]
