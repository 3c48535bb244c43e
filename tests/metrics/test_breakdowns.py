"""Breakdowns by entries of ``meta`` of every type."""

from __future__ import annotations

import math
from typing import Any

import pytest

from evalkit.aggregation import labels_of
from evalkit.metric_contract import score_answers
from evalkit.metrics.choice_accuracy import METRICS
from evalkit.types import Answered, Prediction, Sample

METRIC = METRICS["choice_accuracy"]


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("two", ("two",)), (1, ("1",)), (1.5, ("1.5",)), (True, ("True",)), ("", ()), (None, ()), (math.nan, ()), ([], ()),
        (["c", "d"], ("c", "d")), (["c", "c", None], ("c",)), ([1, ["1", "x"]], ("1", "x")), (("a",), ("a",)), ({}, ()),
        ({"b": 1, "a": ["x"]}, ('{"a": ["x"], "b": 1}',)),
    ],
)  # fmt: skip
def test_labels(value: Any, labels: tuple[str, ...]) -> None:
    assert labels_of(value) == labels


def test_every_type_in_one_field() -> None:
    categories = [1, "1", "two", ["two", "three"], None, {"a": 1}, True, math.nan]
    answers = [
        Answered(
            Sample(str(n), (), "?", ("A",), cluster=str(n), options=("x", "y"), meta={"category": category}),
            Prediction("A" if n != 1 else "B"),
        )
        for n, category in enumerate(categories)
    ]
    values = dict(score_answers(METRIC, answers).values)
    assert {name: value for name, value in values.items() if "[" in name} == {
        "accuracy[1]": 50.0, "accuracy[True]": 100.0, "accuracy[three]": 100.0, "accuracy[two]": 100.0,
        'accuracy[{"a": 1}]': 100.0,
    }  # fmt: skip
