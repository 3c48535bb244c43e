"""VizWiz accuracy against the outputs of the VizWiz API, then edges and invariants."""

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
from evalkit.metrics.vizwiz_accuracy import CONTRACTIONS, METRIC, normalise
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "textvqa_m4c.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]


def answered(id: str, references: Sequence[str], value: Any, answer_type: str | None = None) -> Answered:
    meta = {} if answer_type is None else {"answer_type": answer_type}
    sample = Sample(id=id, images=(), text="?", references=tuple(references), cluster=id, meta=meta)
    return Answered(sample, Prediction(value))


def golden_answered(case: dict[str, Any]) -> Answered:
    inputs = case["inputs"]
    return answered(case.get("id", "q"), inputs["answers"], inputs["prediction"], inputs["answer_type"])


# --------------------------------------------------------------------------------------------- the VizWiz API's outputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_question(case: dict[str, Any]) -> None:
    scores = METRIC.score([golden_answered(case)])
    assert round(scores.values["accuracy"], 2) == case["expected"]["vizwiz_api_accuracy"]


def test_golden_aggregate() -> None:
    expected = GOLDEN["aggregate"]["vizwiz_api"]
    values = METRIC.score([golden_answered(case) for case in CASES]).values
    assert round(values["accuracy"], 2) == expected["overall"]
    by_type = {key: round(value, 2) for key, value in values.items() if "[" in key}
    assert by_type == {f"accuracy[{name}]": value for name, value in expected["perAnswerType"].items()}


@pytest.mark.parametrize("case", GOLDEN["error_cases"], ids=lambda case: f"{len(case['inputs']['answers'])} answers")
def test_golden_any_number_of_annotators_but_none(case: dict[str, Any]) -> None:
    expected = case["expected"]["vizwiz_api_accuracy"]
    if isinstance(expected, dict):
        with pytest.raises(UserError, match="'q' has no annotators"):
            METRIC.score([golden_answered(case)])
    else:
        assert round(METRIC.score([golden_answered(case)]).values["accuracy"], 2) == expected


def test_golden_covers_every_step_of_score() -> None:
    assert {case["expected"]["vizwiz_api_accuracy"] for case in CASES} == {0, 33.33, 66.67, 100}


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("didnt", "didn\u2019t", id="typographic apostrophe"),
        pytest.param("couldnt weve", "couldn't we've", id="some gain the straight one"),
        pytest.param("couldn'tve", "couldn\u2019t\u2019ve", id="from the straight to the typographic one"),
        pytest.param("he'dve he\u2019dve", "he'dve he\u2019d\u2019ve", id="most are known by the typographic one"),
        pytest.param("somebody\u2019d somebody'd", "somebodyd somebody'd", id="reversed contraction"),
        pytest.param(" The\tTwo  cats.\n", "2 cats", id="the steps of the VQAv2 script"),
    ],
)
def test_quirks_of_normaliser(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_contractions_are_those_of_vqa_script_but_for_apostrophes() -> None:
    straight = {before.replace("\u2019", "'"): after.replace("\u2019", "'") for before, after in CONTRACTIONS.items()}
    assert straight == vqa.CONTRACTIONS
    assert len([after for after in CONTRACTIONS.values() if "'" in after]) == 8
    assert [before for before in CONTRACTIONS if "'" in before] == ["couldn'tve", "hadn'tve"]


@pytest.mark.parametrize(
    ("matches", "official", "left_out"),
    [(0, 0, 0), (1, 100 / 3, 30), (2, 200 / 3, 60), (3, 100, 90), (4, 100, 100), (10, 100, 100)],
)
def test_no_annotator_is_left_out(matches: int, official: float, left_out: float) -> None:
    scores = METRIC.score([answered("q", ["red"] * matches + ["blue"] * (10 - matches), "Red.")])
    assert scores.values == pytest.approx({"accuracy": official, "accuracy_leave_one_out": left_out}, abs=1e-9)


@pytest.mark.parametrize("reference", ["Red", "a red", "red ", "red.", "two"])
def test_annotators_answers_are_not_normalized(reference: str) -> None:
    scores = METRIC.score([answered("q", [reference] * 10, reference)])
    assert scores.values == {"accuracy": 0.0, "accuracy_leave_one_out": 0.0}


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(
        [
            answered("a", ["yes"] * 10, "Yes", "yes/no"),
            answered("b", ["no"] * 2 + ["yes"] * 8, "no", "yes/no"),
            answered("c", ["cup"] * 10, "mug", "other"),
            answered("d", ["cup"] * 3 + ["mug"] * 7, "cup"),
        ]
    )
    assert scores.headline == "accuracy"
    assert scores.values == pytest.approx(
        {
            "accuracy": (100 + 200 / 3 + 0 + 100) / 4,
            "accuracy_leave_one_out": (100 + 60 + 0 + 90) / 4,
            "accuracy[other]": 0,
            "accuracy[yes/no]": (100 + 200 / 3) / 2,
        }
    )
    assert scores.per_sample["b"] == pytest.approx({"accuracy": 200 / 3, "accuracy_leave_one_out": 60})
    assert scores.signature == "vizwiz_accuracy|norm:prediction|loo:none|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "vizwiz_accuracy"


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    assert METRIC.score([answered("q", [""] * 10, "the")]).values["accuracy"] == 100.0
    unread = METRIC.score([answered("q", [""] * 10, None)])
    assert unread.per_sample == {"q": {"accuracy": 0.0, "accuracy_leave_one_out": 0.0}}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy", "accuracy_leave_one_out"}
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}


@pytest.mark.parametrize("value", ["cat", None])
def test_no_annotators_names_sample(value: str | None) -> None:
    with pytest.raises(UserError, match="'q17' has no annotators"):
        METRIC.score([answered("q17", [], value)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["cat"], (0.0, 0.0, 1.0, 1.0))])


# ----------------------------------------------------------------------------------------------------------- invariants

answer_texts = st.sampled_from(["cat", "Cat.", "the cat", "2", "two", "didnt", "unanswerable", ""])
reference_lists = st.lists(answer_texts, min_size=1, max_size=12)
questions = st.tuples(reference_lists, st.none() | answer_texts, st.none() | st.sampled_from(["yes/no", "number"]))


@given(reference_lists, answer_texts)
def test_leaving_out_by_position_never_scores_more(references: list[str], prediction: str) -> None:
    values = METRIC.score([answered("q", references, prediction)]).values
    assert 0 <= values["accuracy_leave_one_out"] <= values["accuracy"] <= 100
    others = [references[:left_out] + references[left_out + 1 :] for left_out in range(len(references))]
    expected = fmean(min(1.0, rest.count(normalise(prediction)) / 3) for rest in others)
    assert values["accuracy_leave_one_out"] == pytest.approx(100 * expected, abs=1e-9)


@given(st.text() | answer_texts, reference_lists)
def test_another_matching_annotator_never_lowers_accuracy(prediction: str, references: list[str]) -> None:
    more = [*references, normalise(prediction)]
    before, after = (METRIC.score([answered("q", list_, prediction)]).values for list_ in (references, more))
    assert after["accuracy"] >= before["accuracy"]
    assert after["accuracy"] > 0


@given(st.lists(questions, min_size=1, max_size=8))
def test_aggregates_are_means_of_columns(rows: list[tuple[list[str], str | None, str | None]]) -> None:
    answers = [answered(f"q{i}", *row) for i, row in enumerate(rows)]
    scores = METRIC.score(answers)
    for key in ("accuracy", "accuracy_leave_one_out"):
        assert scores.values[key] == pytest.approx(fmean(columns[key] for columns in scores.per_sample.values()))
    for answer_type in {row[2] for row in rows} - {None}:
        ids = [a.sample.id for a in answers if a.sample.meta.get("answer_type") == answer_type]
        column = [scores.per_sample[id]["accuracy"] for id in ids]
        assert scores.values[f"accuracy[{answer_type}]"] == pytest.approx(fmean(column))
