"""GQA accuracy against the outputs of the official script, of LLaVA's route to it and of Qwen-VL's; then edges."""

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
from evalkit.metrics.gqa_accuracy import COLUMNS, METRIC, correct, qwen_vl_cleaned
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "gqa_accuracy.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]
BALANCED = [case for case in CASES if case["inputs"]["isBalanced"]]


def answered(id: str, references: Sequence[str], value: Any) -> Answered:
    return Answered(Sample(id=id, images=(), text="?", references=tuple(references), cluster=id), Prediction(value))


def golden_answered(case: dict[str, Any]) -> Answered:
    return answered(case["id"], [case["inputs"]["answer"]], case["inputs"]["prediction"])


# ----------------------------------------------------------------------------------------------- outputs of the scorers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_question(case: dict[str, Any]) -> None:
    prediction, answer, expected = case["inputs"]["prediction"], case["inputs"]["answer"], case["expected"]
    assert correct(prediction, answer, "official") is expected["official_correct"]
    assert correct(prediction, answer, "llava") is expected["llava_correct"]
    assert qwen_vl_cleaned(prediction) == expected["qwen_cleaned"]
    assert correct(prediction, answer, "qwen-vl") == expected["qwen_score"]


def test_golden_aggregate_of_balanced_questions() -> None:
    assert 0 < len(BALANCED) < len(CASES)
    values = METRIC.score([golden_answered(case) for case in BALANCED]).values
    assert values["accuracy"] == pytest.approx(GOLDEN["aggregate"]["llava_convert"]["accuracy"], abs=1e-9)
    assert values["accuracy_official"] == pytest.approx(GOLDEN["aggregate"]["official"]["accuracy"], abs=1e-9)


def test_golden_aggregate_of_all_questions() -> None:
    values = METRIC.score([golden_answered(case) for case in CASES]).values
    assert values["accuracy_qwen-vl"] == pytest.approx(100 * GOLDEN["aggregate"]["qwen_vl"]["accuracy"], abs=1e-9)


@pytest.mark.parametrize(
    ("aggregate", "column"),
    [("official", "accuracy_official"), ("llava_convert", "accuracy")],
    ids=["official", "llava"],
)
@pytest.mark.parametrize(
    ("key", "field"), [("accuracyPerStructuralType", "structural"), ("accuracyPerSemanticType", "semantic")]
)
def test_golden_breakdown(aggregate: str, column: str, key: str, field: str) -> None:
    for name, (expected, count) in GOLDEN["aggregate"][aggregate][key].items():
        group = [golden_answered(case) for case in BALANCED if case["inputs"]["types"][field] == name]
        assert len(group) == count
        assert METRIC.score(group).values[column] == pytest.approx(expected, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("prediction", "official", "llava", "qwen_vl"),
    [
        pytest.param("dog", True, True, True, id="as annotated"),
        pytest.param("Dog", False, True, True, id="capital"),
        pytest.param("dog.", False, True, True, id="full stop"),
        pytest.param("dog...", False, True, True, id="several"),
        pytest.param("dog. ", False, False, True, id="a space behind it"),
        pytest.param(" dog", False, False, True, id="a space before"),
        pytest.param("The dog", False, False, True, id="article"),
        pytest.param("It is a dog, not a cat", False, False, True, id="sentence"),
        pytest.param("dogs", False, False, False, id="wrong"),
    ],
)
def test_variants(prediction: str, official: bool, llava: bool, qwen_vl: bool) -> None:
    assert correct(prediction, "dog", "official") is official
    assert correct(prediction, "dog", "llava") is llava
    assert correct(prediction, "dog", "qwen-vl") is qwen_vl


def test_only_prediction_is_rewritten_but_for_qwen_vl() -> None:
    assert not correct("TV", "TV", "llava")
    assert correct("TV", "TV", "official")
    assert correct("TV", " TV ", "qwen-vl")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("banana split", "split", id="a lead inside a word"),
        pytest.param("square table", "table", id="another"),
        pytest.param("coffee offer", "coffee", id="the tail inside a word"),
        pytest.param("it is a gray cat", "gray cat", id="several leads in order"),
        pytest.param("the cat the dog", "cat", id="between the first and the second occurrence"),
        pytest.param("are is x are y", "y", id="is before are"),
        pytest.param("an the x an y", "x", id="an before the"),
        pytest.param("gray is", "gray is", id="a lead needs the space behind it"),
        pytest.param("is is x", "", id="twice the same"),
        pytest.param("yes, it is", "yes", id="before the first mark"),
        pytest.param(" Top of the box", "box", id="leads go before the tail"),
    ],
)
def test_quirks_of_qwen_vl_clean_up(text: str, expected: str) -> None:
    assert qwen_vl_cleaned(text) == expected


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(
        [
            answered("a", ["dog"], "dog"),
            answered("b", ["dog"], "Dog."),
            answered("c", ["dog"], "a dog"),
            answered("d", ["cat", "dog"], "dog"),
            answered("e", ["dog"], None),
        ]
    )
    assert scores.headline == "accuracy"
    assert scores.values == {"accuracy": 60.0, "accuracy_official": 40.0, "accuracy_qwen-vl": 80.0}
    assert scores.per_sample == {
        "a": {"accuracy": 100.0, "accuracy_official": 100.0, "accuracy_qwen-vl": 100.0},
        "b": {"accuracy": 100.0, "accuracy_official": 0.0, "accuracy_qwen-vl": 100.0},
        "c": {"accuracy": 0.0, "accuracy_official": 0.0, "accuracy_qwen-vl": 100.0},
        "d": {"accuracy": 100.0, "accuracy_official": 100.0, "accuracy_qwen-vl": 100.0},
        "e": {"accuracy": 0.0, "accuracy_official": 0.0, "accuracy_qwen-vl": 0.0},
    }
    assert scores.signature == "gqa_accuracy|variant:llava|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "gqa_accuracy"


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    assert METRIC.score([answered("q", [""], "")]).per_sample == {"q": dict.fromkeys(COLUMNS, 100.0)}
    assert METRIC.score([answered("q", [""], None)]).per_sample == {"q": dict.fromkeys(COLUMNS, 0.0)}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy", "accuracy_official", "accuracy_qwen-vl"}
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}


@pytest.mark.parametrize("value", ["cat", None])
def test_no_reference_names_sample(value: str | None) -> None:
    with pytest.raises(UserError, match="'q17' has no answer"):
        METRIC.score([answered("q17", [], value)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["cat"], (0.0, 0.0, 1.0, 1.0))])


# ----------------------------------------------------------------------------------------------------------- invariants

answer_texts = st.sampled_from(["dog", "Dog.", "a dog", "the dog", "dog ", "yes", "left", ""])


ascii_texts = st.text(alphabet=st.characters(codec="ascii"))


@given(ascii_texts, ascii_texts, st.booleans())
def test_case_and_full_stops_at_end_do_not_matter_to_llava(prediction: str, other: str, same: bool) -> None:
    reference = prediction.lower().rstrip(".") if same else other
    verdict = correct(prediction, reference, "llava")
    assert verdict or not same
    assert correct(prediction.upper() + "..", reference, "llava") is verdict


@given(ascii_texts)
def test_qwen_vl_clean_up_keeps_stretch_of_text(text: str) -> None:
    cleaned = qwen_vl_cleaned(text)
    assert cleaned in text.lower()
    assert cleaned == cleaned.strip()
    assert {".", ",", "!"}.isdisjoint(cleaned)


@given(st.lists(st.tuples(st.lists(answer_texts, min_size=1), st.none() | answer_texts), min_size=1, max_size=8))
def test_aggregates_are_means_of_columns(rows: list[tuple[list[str], str | None]]) -> None:
    scores = METRIC.score([answered(f"q{i}", *row) for i, row in enumerate(rows)])
    for key in COLUMNS:
        assert scores.values[key] == pytest.approx(fmean(columns[key] for columns in scores.per_sample.values()))
