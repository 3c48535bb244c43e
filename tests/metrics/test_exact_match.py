"""Exact match against the outputs of Qwen-VL's scorer, then edges and invariants.

Its outputs stand in ``gqa_accuracy.json``, as ``exact_match_no_cleaning``: the function that also scores OCR-VQA, run
on the GQA predictions as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.metrics.exact_match import METRIC, correct
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "gqa_accuracy.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]


def answered(id: str, references: Sequence[str], value: Any) -> Answered:
    return Answered(Sample(id=id, images=(), text="?", references=tuple(references), cluster=id), Prediction(value))


# ------------------------------------------------------------------------------------------- Qwen-VL's scorer's outputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_question(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    assert correct(inputs["prediction"], inputs["answer"]) == case["expected"]["exact_match_no_cleaning"]


def test_golden_aggregate() -> None:
    answers = [answered(case["id"], [case["inputs"]["answer"]], case["inputs"]["prediction"]) for case in CASES]
    expected = GOLDEN["aggregate"]["qwen_vl"]["exact_match_no_cleaning"]
    assert METRIC.score(answers).values["accuracy"] == pytest.approx(100 * expected, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        pytest.param("Jane Austen", True, id="as annotated"),
        pytest.param(" jane AUSTEN\n", True, id="case and outer spaces"),
        pytest.param("Jane Austen.", False, id="full stop"),
        pytest.param("Jane  Austen", False, id="inner spaces"),
        pytest.param("by Jane Austen", False, id="more words"),
        pytest.param("", False, id="empty"),
    ],
)
def test_equality_rules(prediction: str, right: bool) -> None:
    assert correct(prediction, "Jane Austen") is right
    assert correct("Jane Austen", prediction) is right


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(
        [
            answered("a", ["Yes"], "yes"),
            answered("b", ["x", "y"], "y"),
            answered("c", ["x"], "y"),
            answered("d", ["x"], None),
        ]
    )
    assert scores.headline == "accuracy"
    assert scores.values == {"accuracy": 50.0}
    assert {id: row["accuracy"] for id, row in scores.per_sample.items()} == {"a": 100, "b": 100, "c": 0, "d": 0}
    assert scores.signature == "exact_match|norm:strip+lower|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "exact_match"


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    assert METRIC.score([answered("q", [""], " ")]).values == {"accuracy": 100.0}
    assert METRIC.score([answered("q", [""], None)]).per_sample == {"q": {"accuracy": 0.0}}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy"}
    assert math.isnan(scores.values["accuracy"])
    assert scores.per_sample == {}


@pytest.mark.parametrize("value", ["cat", None])
def test_no_references_names_sample(value: str | None) -> None:
    with pytest.raises(UserError, match="'q17' has no answers"):
        METRIC.score([answered("q17", [], value)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["cat"], (0.0, 0.0, 1.0, 1.0))])


# ----------------------------------------------------------------------------------------------------------- invariants

answer_texts = st.sampled_from(["cat", "Cat", " cat", "cat.", "the cat", ""])


@given(st.text(), st.text())
def test_symmetric_and_reflexive(a: str, b: str) -> None:
    assert correct(a, b) is correct(b, a)
    assert correct(a, f" {a}\n")


@given(st.data(), st.lists(answer_texts, min_size=1, max_size=5), answer_texts)
def test_order_of_references_does_not_matter(data: st.DataObject, references: list[str], prediction: str) -> None:
    shuffled = data.draw(st.permutations(references))
    before, after = (METRIC.score([answered("q", list_, prediction)]).values for list_ in (references, shuffled))
    assert before == after


@given(st.lists(st.tuples(st.lists(answer_texts, min_size=1), st.none() | answer_texts), min_size=1, max_size=8))
def test_aggregate_is_mean_of_column(rows: list[tuple[list[str], str | None]]) -> None:
    scores = METRIC.score([answered(f"q{i}", *row) for i, row in enumerate(rows)])
    assert scores.values["accuracy"] == pytest.approx(fmean(row["accuracy"] for row in scores.per_sample.values()))
