"""TextVQA accuracy against the outputs of M4C's scorer, then edges and invariants."""

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
from evalkit.metrics.text import vqa
from evalkit.metrics.text.m4c import normalise, tokenise
from evalkit.metrics.textvqa_accuracy import METRIC, question_accuracy
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "textvqa_m4c.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]


def answered(id: str, references: Sequence[str], value: Any) -> Answered:
    return Answered(Sample(id=id, images=(), text="?", references=tuple(references), cluster=id), Prediction(value))


def golden_answered(case: dict[str, Any]) -> Answered:
    return answered(case.get("id", "q"), case["inputs"]["answers"], case["inputs"]["prediction"])


# ----------------------------------------------------------------------------------------------- M4C's scorer's outputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_question(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    assert question_accuracy(inputs["prediction"], inputs["answers"]) == pytest.approx(expected["accuracy"], abs=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_normaliser(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    assert normalise(inputs["prediction"]) == expected["prediction_processed"]
    assert [normalise(answer) for answer in inputs["answers"]] == expected["answers_processed"]
    # ST-VQA's scorer is nothing but this normaliser
    any_equal = normalise(inputs["prediction"]) in map(normalise, inputs["answers"])
    assert float(any_equal) == expected["stvqa_accuracy"]


def test_golden_through_metric() -> None:
    scores = METRIC.score([golden_answered(case) for case in CASES])
    assert scores.values["accuracy"] == pytest.approx(100 * GOLDEN["aggregate"]["textvqa_accuracy"], abs=1e-9)
    columns = {id: row["accuracy"] for id, row in scores.per_sample.items()}
    assert columns == pytest.approx({case["id"]: 100 * case["expected"]["accuracy"] for case in CASES}, abs=1e-9)


@pytest.mark.parametrize("case", GOLDEN["error_cases"], ids=lambda case: f"{len(case['inputs']['answers'])} answers")
def test_golden_failed_assertion_is_error_that_names_sample(case: dict[str, Any]) -> None:
    assert case["expected"]["accuracy"] == {"error": "AssertionError"}
    with pytest.raises(UserError, match=f"'q' has {len(case['inputs']['answers'])} annotators' answers.*expected 10"):
        METRIC.score([golden_answered(case)])


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1,000", "1000", id="commas go without a trace"),
        pytest.param("red,blue?", "redblue", id="and so do question marks"),
        pytest.param("Petra's", "petra 's", id="the possessive is detached"),
        pytest.param("what's whats", "what 's what's", id="a contraction with it stays apart"),
        pytest.param("x/y 1,000", "x y 1000", id="no comma in a number is left to delete marks"),
        pytest.param("The Two\tof\nten.", "2 of 10", id="the official steps follow"),
    ],
)
def test_quirks_of_normaliser(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(("matches", "percent"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (10, 100)])
def test_ten_annotators(matches: int, percent: float) -> None:
    scores = METRIC.score([answered("q", ["red"] * matches + ["blue"] * (10 - matches), "Red.")])
    assert scores.values["accuracy"] == pytest.approx(percent, abs=1e-9)


def test_normalised_even_where_annotators_are_unanimous() -> None:
    assert question_accuracy("BLACK.", ["The black"] * 10) == 1.0


def test_values_columns_and_signature() -> None:
    scores = METRIC.score([answered("a", ["x"] * 10, "x"), answered("b", ["x"] * 2 + ["y"] * 8, "x")])
    assert scores.headline == "accuracy"
    assert scores.values == {"accuracy": pytest.approx(80)}
    assert scores.per_sample == {"a": {"accuracy": 100.0}, "b": {"accuracy": pytest.approx(60)}}
    assert scores.signature == "textvqa_accuracy|norm:m4c|loo:position|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "textvqa_accuracy"


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    assert METRIC.score([answered("q", ["the"] * 10, "")]).values == {"accuracy": 100.0}
    assert METRIC.score([answered("q", ["the"] * 10, None)]).per_sample == {"q": {"accuracy": 0.0}}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy"}
    assert math.isnan(scores.values["accuracy"])
    assert scores.per_sample == {}


def test_wrong_number_of_annotators_is_error_even_where_nothing_was_parsed() -> None:
    with pytest.raises(UserError, match="'q17' has 0 annotators' answers"):
        METRIC.score([answered("q17", [], None)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["cat"] * 10, (0.0, 0.0, 1.0, 1.0))])


# ----------------------------------------------------------------------------------------------------------- invariants

# Few answers, some equal only once normalised, so that matches are common.
answer_texts = st.sampled_from(["cat", "Cat?", " the cat", "2", "two", "it's", "its", "a", ""])
ten_answers = st.lists(answer_texts, min_size=10, max_size=10)


@given(st.data(), ten_answers, answer_texts)
def test_order_of_annotators_does_not_matter(data: st.DataObject, references: list[str], prediction: str) -> None:
    shuffled = data.draw(st.permutations(references))
    assert question_accuracy(prediction, shuffled) == question_accuracy(prediction, references)
    assert 0 <= question_accuracy(prediction, references) <= 1


@given(ten_answers, answer_texts)
def test_each_annotator_is_left_out_in_turn(references: list[str], prediction: str) -> None:
    target, texts = normalise(prediction), [normalise(answer) for answer in references]
    others = [texts[:left_out] + texts[left_out + 1 :] for left_out in range(10)]
    expected = fmean(min(1.0, rest.count(target) / 3) for rest in others)
    assert question_accuracy(prediction, references) == pytest.approx(expected, abs=1e-12)


@given(st.text())
def test_tokeniser_leaves_no_comma_question_mark_or_capital(text: str) -> None:
    tokens = tokenise(text)
    assert {",", "?"}.isdisjoint(tokens)
    assert tokens == tokens.strip() == tokens.lower()


@given(st.text(alphabet="aZ1 .-/;\n"))
def test_same_as_official_normaliser_where_tokeniser_has_nothing_to_do(text: str) -> None:
    assert normalise(text) == vqa.normalise(text)


@given(st.lists(st.tuples(ten_answers, st.none() | answer_texts), min_size=1, max_size=6))
def test_aggregate_is_mean_of_column(rows: list[tuple[list[str], str | None]]) -> None:
    scores = METRIC.score([answered(f"q{i}", *row) for i, row in enumerate(rows)])
    assert scores.values["accuracy"] == pytest.approx(fmean(row["accuracy"] for row in scores.per_sample.values()))
