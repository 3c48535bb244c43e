"""Relaxed accuracy against the outputs of pix2struct's and Qwen-VL's scorers, then edges and invariants."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.metrics.relaxed_accuracy import COLUMNS, METRIC, Variant, correct
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "chartqa_relaxed.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]


def answered(id: str, references: Sequence[str], value: Any, subset: str | None = None) -> Answered:
    meta = {} if subset is None else {"subset": subset}
    sample = Sample(id=id, images=(), text="?", references=tuple(references), cluster=id, meta=meta)
    return Answered(sample, Prediction(value))


def golden_answered(case: dict[str, Any]) -> Answered:
    return answered(case["id"], case["inputs"]["answers"], case["inputs"]["prediction"])


# ----------------------------------------------------------------------------------------------- outputs of the scorers


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['tag']}")
def test_golden_question(case: dict[str, Any]) -> None:
    assert METRIC.score([golden_answered(case)]).per_sample[case["id"]] == {
        "accuracy": 100.0 * case["expected"]["pix2struct"],
        "accuracy_qwen-vl": 100.0 * case["expected"]["qwen_vl"],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['tag']}")
def test_golden_lmms_eval_is_first_answer_alone(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    assert (
        correct(inputs["prediction"], inputs["answers"][0], "pix2struct") is case["expected"]["lmms_eval_first_answer"]
    )


def test_golden_aggregates() -> None:
    values = METRIC.score([golden_answered(case) for case in CASES]).values
    assert values["accuracy"] == pytest.approx(GOLDEN["aggregate"]["pix2struct_x100"], abs=1e-9)
    assert values["accuracy_qwen-vl"] == pytest.approx(100 * GOLDEN["aggregate"]["qwen_vl"], abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("prediction", "reference", "pix2struct", "qwen_vl"),
    [
        pytest.param("105", "100", True, True, id="5 % above"),
        pytest.param("95", "100", True, False, id="5 % below: more than 5 % of the prediction"),
        pytest.param("105.2", "100", False, True, id="more than 5 % above: less of the prediction"),
        pytest.param("1.05", "1", False, True, id="rounding decides at the edge"),
        pytest.param("0", "0", True, True, id="zero as text"),
        pytest.param("0.0", "0", False, False, id="other zero"),
        pytest.param("0", "5", False, False, id="predicted zero"),
        pytest.param("5", "0", False, False, id="right zero"),
        pytest.param("0.05", "5%", True, True, id="percent"),
        pytest.param("5", "5%", False, False, id="no percent"),
        pytest.param("5%%", "5%", True, True, id="percent twice"),
        pytest.param("5% ", "5%", False, True, id="a space behind the percent sign"),
        pytest.param(" 7\n", "7", True, True, id="spaces around a number"),
        pytest.param("1_000", "1000", True, True, id="underscore"),
        pytest.param("1,000", "1000", False, False, id="comma"),
        pytest.param("$5", "5", False, False, id="dollar"),
        pytest.param("nan", "nan", False, False, id="not a number"),
        pytest.param("inf", "inf", False, False, id="infinity"),
        pytest.param("-100", "100", False, False, id="sign"),
        pytest.param("yes", "Yes", True, True, id="case"),
        pytest.param("Yes ", "Yes", False, True, id="a space behind a text"),
        pytest.param("Yes.", "Yes", False, False, id="full stop"),
        pytest.param("", "", True, True, id="empty"),
    ],
)
def test_variants(prediction: str, reference: str, pix2struct: bool, qwen_vl: bool) -> None:
    assert correct(prediction, reference, "pix2struct") is pix2struct
    assert correct(prediction, reference, "qwen-vl") is qwen_vl


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(
        [answered("a", ["100"], "95"), answered("b", ["x", "Yes"], "yes"), answered("c", ["7"], None)]
    )
    assert scores.headline == "accuracy"
    assert scores.values == pytest.approx({"accuracy": 200 / 3, "accuracy_qwen-vl": 100 / 3})
    assert scores.per_sample == {
        "a": {"accuracy": 100.0, "accuracy_qwen-vl": 0.0},
        "b": {"accuracy": 100.0, "accuracy_qwen-vl": 100.0},
        "c": {"accuracy": 0.0, "accuracy_qwen-vl": 0.0},
    }
    assert scores.signature == "relaxed_accuracy|variant:pix2struct|tolerance:0.05|mean:subsets|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "relaxed_accuracy"


HUMAN = [answered("h1", ["7"], "7", "human"), answered("h2", ["7"], "8", "human"), answered("h3", ["7"], "9", "human")]
AUGMENTED = [answered("a1", ["100"], "95", "augmented")]


def test_subsets_count_same_whatever_their_size() -> None:
    assert METRIC.score(HUMAN + AUGMENTED).values == pytest.approx(
        {
            "accuracy": (100 / 3 + 100) / 2,
            "accuracy_qwen-vl": (100 / 3 + 0) / 2,
            "accuracy[augmented]": 100,
            "accuracy[human]": 100 / 3,
        }
    )


def test_one_subset_alone() -> None:
    assert METRIC.score(HUMAN).values == pytest.approx(
        {"accuracy": 100 / 3, "accuracy_qwen-vl": 100 / 3, "accuracy[human]": 100 / 3}
    )


def test_sample_without_subset_makes_every_sample_count_same() -> None:
    assert METRIC.score([*HUMAN, answered("x", ["7"], "7")]).values == pytest.approx(
        {"accuracy": 50, "accuracy_qwen-vl": 50, "accuracy[human]": 100 / 3}
    )


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    assert METRIC.score([answered("q", [""], "")]).values["accuracy"] == 100.0
    assert METRIC.score([answered("q", [""], None)]).per_sample == {"q": {"accuracy": 0.0, "accuracy_qwen-vl": 0.0}}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy", "accuracy_qwen-vl"}
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}


@pytest.mark.parametrize("value", ["7", None])
def test_no_references_names_sample(value: str | None) -> None:
    with pytest.raises(UserError, match="'q17' has no answers"):
        METRIC.score([answered("q17", [], value)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["7"], (0.0, 0.0, 1.0, 1.0))])


# ----------------------------------------------------------------------------------------------------------- invariants

numbers = st.floats(-1e9, 1e9).filter(lambda number: abs(number) > 1e-9)
answer_texts = st.sampled_from(["7", "7.2", "7%", "0", "Yes", "yes", "yes ", "", "1,000"])
rows_of_answers = st.lists(
    st.tuples(
        st.lists(answer_texts, min_size=1, max_size=3),
        st.none() | answer_texts,
        st.none() | st.sampled_from(["human", "augmented"]),
    ),
    min_size=1,
    max_size=8,
)


def reads_as_number(text: str) -> bool:
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True


@given(numbers, st.floats(-0.2, 0.2).filter(lambda error: abs(abs(error) - 0.05) > 1e-6))
def test_right_exactly_within_five_percent(target: float, error: float) -> None:
    prediction = repr(target * (1 + error))
    assert correct(prediction, repr(target), "pix2struct") is (abs(error) <= 0.05)


@given(st.one_of(answer_texts, numbers.map(repr)), st.one_of(answer_texts, numbers.map(repr)))
def test_variants_are_one_with_its_arguments_swapped(prediction: str, reference: str) -> None:
    swapped = correct(reference, prediction.strip(), "pix2struct")
    assert correct(prediction, reference, "qwen-vl") is swapped


@given(st.text().map(str.strip).filter(lambda text: not reads_as_number(text)), st.sampled_from(get_args(Variant)))
def test_any_text_matches_itself(text: str, variant: Variant) -> None:
    assert correct(text, text, variant)


@given(rows_of_answers)
def test_aggregates_are_means(rows: list[tuple[list[str], str | None, str | None]]) -> None:
    answers = [answered(f"q{i}", *row) for i, row in enumerate(rows)]
    scores = METRIC.score(answers)
    for key in COLUMNS:
        by_subset = {
            subset: fmean(scores.per_sample[f"q{i}"][key] for i, row in enumerate(rows) if row[2] == subset)
            for subset in {row[2] for row in rows}
        }
        plain = fmean(row[key] for row in scores.per_sample.values())
        assert scores.values[key] == pytest.approx(plain if None in by_subset else fmean(by_subset.values()))
        if key == "accuracy":
            named = {f"accuracy[{subset}]": value for subset, value in by_subset.items() if subset is not None}
            assert {name: value for name, value in scores.values.items() if "[" in name} == pytest.approx(named)
