"""VQA accuracy against the outputs of the official scorer and of Qwen-VL's, then edges and invariants."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.metrics.text.vqa import CONTRACTIONS, normalise, process_digit_article, process_punctuation, strip_answer
from evalkit.metrics.vqa_accuracy import (
    METRIC,
    Annotation,
    Variant,
    VQAAccuracy,
    official_percent,
    question_accuracy,
)
from evalkit.types import Answered, Prediction, Sample

FILES = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FILES / "vqa_accuracy.json").read_text())
QWEN_VL = json.loads((FILES / "qwen_vqa_score.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]
STRINGS: list[dict[str, Any]] = GOLDEN["normalizer_cases"]


def annotators(case: dict[str, Any]) -> list[Annotation]:
    """The annotators' entries, every field but the answer as the key: upstream compares whole entries."""
    entries = case["inputs"]["answers"]
    return [((entry["answer_id"], entry["answer_confidence"]), entry["answer"]) for entry in entries]


def answered(id: str, references: Sequence[str], value: Any, answer_type: str | None = None) -> Answered:
    meta = {} if answer_type is None else {"answer_type": answer_type}
    sample = Sample(id=id, images=(), text="?", references=tuple(references), cluster=id, meta=meta)
    return Answered(sample, Prediction(value))


def golden_answered(case: dict[str, Any]) -> Answered:
    inputs = case["inputs"]
    references = [entry["answer"] for entry in inputs["answers"]]
    return answered(case["id"], references, inputs["prediction"], inputs["answer_type"])


def golden_accuracy(case: dict[str, Any], variant: Variant = "official_script") -> float:
    return question_accuracy(case["inputs"]["prediction"], annotators(case), variant)


# ---------------------------------------------------------------------------------------- the official scorer's outputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_question(case: dict[str, Any]) -> None:
    assert official_percent([golden_accuracy(case)]) == case["expected"]["accuracy_py3"]


@pytest.mark.parametrize("case", QWEN_VL["cases"], ids=lambda case: case["id"])
def test_golden_qwen_vl_question(case: dict[str, Any]) -> None:
    assert official_percent([golden_accuracy(case, "qwen-vl")]) == case["expected"]["accuracy"]


@pytest.mark.parametrize("case", STRINGS, ids=lambda case: ascii(case["input"])[:40])
def test_golden_normaliser(case: dict[str, Any]) -> None:
    expected = case | case.get("py3", {})
    stripped = strip_answer(case["input"])
    assert stripped == expected["after_strip"]
    punctuated = process_punctuation(stripped)
    assert punctuated == expected["after_punctuation"]
    assert process_digit_article(punctuated) == expected["after_digit_article"]
    assert normalise(case["input"]) == expected["after_digit_article"]


@pytest.mark.parametrize(
    ("variant", "cases", "aggregate"),
    [("official_script", CASES, GOLDEN["aggregate"]["py3"]), ("qwen-vl", QWEN_VL["cases"], QWEN_VL["aggregate"])],
)
def test_golden_aggregate(variant: Variant, cases: list[dict[str, Any]], aggregate: dict[str, Any]) -> None:
    """Among the question types is one whose mean is an exact tie, 5.625: half to even gives 5.62."""
    assert official_percent([golden_accuracy(case, variant) for case in cases]) == aggregate["overall"]
    for key, field in (("perQuestionType", "question_type"), ("perAnswerType", "answer_type")):
        groups: dict[str, list[float]] = defaultdict(list)
        for case in cases:
            groups[case["inputs"][field]].append(golden_accuracy(case, variant))
        assert {name: official_percent(group) for name, group in groups.items()} == aggregate[key]


def test_golden_error_is_clear_one_here() -> None:
    (case,) = GOLDEN["error_cases"]
    with pytest.raises(ValueError, match="at least one annotator"):
        golden_accuracy(case)


def test_golden_through_metric() -> None:
    """All but the questions with repeated annotator ids, which the metric takes for different annotators."""
    cases = [case for case in CASES if case["tag"] != "duplicate_answer_id"]
    scores = METRIC.score([golden_answered(case) for case in cases])
    rounded = {id: round(columns["accuracy_official_script"], 2) for id, columns in scores.per_sample.items()}
    assert rounded == {case["id"]: case["expected"]["accuracy_py3"] for case in cases}


def test_golden_variants_agree_where_annotators_do_not() -> None:
    disagreeing = [c for c in CASES if len({strip_answer(answer) for _, answer in annotators(c)}) > 1]
    assert 0 < len(disagreeing) < len(CASES)
    for case in disagreeing:
        assert golden_accuracy(case, "normalised") == golden_accuracy(case), case["id"]


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("route 66.", "route 66", id="period-regex typo: a period after a digit goes"),
        pytest.param("3.5", "3.5", id="a period before a digit stays"),
        pytest.param(".x" * 33, "x" * 32 + ".x", id="count bug: only 32 periods go"),
        pytest.param("a/b 1,000", "ab 1000", id="a comma in a number deletes every mark"),
        pytest.param("cat/dog", "cat dog", id="a mark without a space beside it becomes one"),
        pytest.param("cat/dog /", "catdog", id="a space beside one mark deletes all of its kind"),
        pytest.param("None of the Ten", "0 of 10", id="number words"),
        pytest.param("\tyes\tor\nno\n", "yes or no", id="tabs and newlines are spaces"),
        pytest.param("vitamin a", "vitamin", id="an article at any place"),
        pytest.param("dont couldntve couldnt've", "don't couldntve couldn't've", id="one missing apostrophe only"),
        pytest.param("somebody'd", "somebodyd", id="reversed contraction"),
        pytest.param("Im Ive I'dve", "im ive i'dve", id="dead keys: with capitals"),
        pytest.param("it's 10:30", "it's 10:30", id="marks that stay"),
    ],
)
def test_quirks_of_normaliser(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_contractions_are_official_ones() -> None:
    """120 entries upstream, less the six that can never change anything."""
    assert len(CONTRACTIONS) == 114
    assert {"lets", "wed", "shes", "im", "somethings"}.isdisjoint(CONTRACTIONS)


@pytest.mark.parametrize(("matches", "percent"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (10, 100)])
def test_ten_annotators(matches: int, percent: float) -> None:
    answers = list(enumerate(["red"] * matches + ["blue"] * (10 - matches)))
    assert official_percent([question_accuracy("red", answers, "normalised")]) == percent


def test_unanimous_annotators_tell_variants_apart() -> None:
    scores = METRIC.score([answered("q", ["black"] * 10, "Black.")])
    assert scores.per_sample == {"q": {"accuracy": 100.0, "accuracy_official_script": 0.0}}
    assert VQAAccuracy("official_script").score([answered("q", ["black"] * 10, "Black.")]).values["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("prediction", "answers", "official", "qwen_vl"),
    [
        pytest.param("Black.", ["black"] * 10, 0, 1, id="the prediction is always normalised"),
        pytest.param("two", ["two"] * 10, 1, 0, id="so a number word is never matched"),
        pytest.param("red", ["Red"] * 9 + ["blue"], 1, 0, id="annotators keep their capitals"),
        pytest.param("t shirt", ["t-shirt"] * 9 + ["blue"], 1, 1, id="punctuation is processed on disagreement"),
        pytest.param("t-shirt", ["t-shirt"] * 10, 1, 0, id="and only then"),
        pytest.param("cat", ["cat "] * 10, 1, 0, id="outer spaces of annotators stay"),
        pytest.param("t-shirt", ["t-shirt"] * 9 + [" t-shirt"], 1, 1, id="and are disagreement"),
    ],
)
def test_qwen_vl_variant(prediction: str, answers: list[str], official: float, qwen_vl: float) -> None:
    entries = list(enumerate(answers))
    assert question_accuracy(prediction, entries, "official_script") == pytest.approx(official)
    assert question_accuracy(prediction, entries, "qwen-vl") == pytest.approx(qwen_vl)


def test_official_script_always_strips() -> None:
    assert (
        question_accuracy("ice\tcream\n", list(enumerate([" ice cream"] * 9 + ["ice\ncream"])), "official_script")
        == 1.0
    )


def test_repeated_keys_are_left_out_together() -> None:
    same = [((1, "yes"), "cat")] * 3 + [(2, "dog")]
    different: list[Annotation] = [*enumerate(["cat", "cat", "cat", "dog"])]
    assert question_accuracy("cat", same, "official_script") == pytest.approx(1 / 4)
    assert question_accuracy("cat", different, "official_script") == pytest.approx((3 * 2 / 3 + 1) / 4)


def test_values_and_signature() -> None:
    scores = METRIC.score(
        [
            answered("a", ["yes"] * 10, "Yes", "yes/no"),
            answered("b", ["2"] * 3 + ["3"] * 7, "two", "number"),
            answered("c", ["tree"] * 10, "bush", "other"),
            answered("d", ["no"] * 10, "no", "yes/no"),
            answered("e", ["cat"] * 10, "cat"),
        ]
    )
    assert scores.headline == "accuracy"
    assert scores.values == pytest.approx(
        {
            "accuracy": (100 + 90 + 0 + 100 + 100) / 5,
            "accuracy_official_script": (0 + 90 + 0 + 100 + 100) / 5,
            "accuracy[number]": 90,
            "accuracy[other]": 0,
            "accuracy[yes/no]": 100,
        }
    )
    assert scores.signature == "vqa_accuracy|norm:normalised|loo:entry|v2"
    assert VQAAccuracy("qwen-vl").signature == "vqa_accuracy|norm:qwen-vl|loo:entry|v2"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "vqa_accuracy"


def test_values_are_not_rounded() -> None:
    scores = METRIC.score([answered("q", ["cat", "dog", "dog"], "cat")])
    assert scores.values["accuracy"] == pytest.approx(200 / 9, abs=1e-12)


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    references = ["the"] * 5 + [""] * 5
    assert METRIC.score([answered("q", references, "")]).values["accuracy"] == 100.0
    assert METRIC.score([answered("q", references, None)]).values == {"accuracy": 0.0, "accuracy_official_script": 0.0}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy", "accuracy_official_script"}
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}


@pytest.mark.parametrize("value", ["cat", None])
def test_no_annotators_names_sample(value: str | None) -> None:
    with pytest.raises(UserError, match="'q17' has no annotators"):
        METRIC.score([answered("q17", [], value)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["cat"], (0.0, 0.0, 1.0, 1.0))])


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match=r"'m4d'.*normalised, official_script, qwen-vl"):
        VQAAccuracy("m4d")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- invariants

# Few answers, some equal only once normalised, so that matches are common.
answer_texts = st.sampled_from(["cat", "Cat.", " the cat", "2", "two", "dog", "a", ""])
reference_lists = st.lists(answer_texts, min_size=1, max_size=12)
variants = st.sampled_from(get_args(Variant))
questions = st.tuples(reference_lists, st.none() | answer_texts, st.none() | st.sampled_from(["yes/no", "number"]))


@given(st.data(), reference_lists, answer_texts, variants)
def test_order_of_annotators_does_not_matter(
    data: st.DataObject, references: list[str], prediction: str, variant: Variant
) -> None:
    entries = list(enumerate(references))
    shuffled = data.draw(st.permutations(entries))
    accuracy = question_accuracy(prediction, entries, variant)
    assert question_accuracy(prediction, shuffled, variant) == accuracy
    assert 0 <= accuracy <= 1


@given(reference_lists, st.none() | answer_texts)
def test_both_columns_are_their_variants(references: list[str], prediction: str | None) -> None:
    columns = METRIC.score([answered("q", references, prediction)]).per_sample["q"]
    for column, variant in (("accuracy", "normalised"), ("accuracy_official_script", "official_script")):
        alone = VQAAccuracy(variant).score([answered("q", references, prediction)]).per_sample["q"]["accuracy"]  # type: ignore[arg-type]
        assert columns[column] == alone


@given(reference_lists, answer_texts)
def test_normalised_sees_only_normalised_texts(references: list[str], prediction: str) -> None:
    normalised = [(key, normalise(answer)) for key, answer in enumerate(references)]
    expected = question_accuracy(prediction, list(enumerate(references)), "normalised")
    assert question_accuracy(normalise(prediction), normalised, "normalised") == expected


@given(st.lists(questions, min_size=1, max_size=8))
def test_aggregates_are_means_of_columns(rows: list[tuple[list[str], str | None, str | None]]) -> None:
    answers = [answered(f"q{i}", *row) for i, row in enumerate(rows)]
    scores = METRIC.score(answers)
    for key in ("accuracy", "accuracy_official_script"):
        assert scores.values[key] == pytest.approx(fmean(columns[key] for columns in scores.per_sample.values()))
    for answer_type in {row[2] for row in rows} - {None}:
        ids = [a.sample.id for a in answers if a.sample.meta.get("answer_type") == answer_type]
        column = [scores.per_sample[id]["accuracy"] for id in ids]
        assert scores.values[f"accuracy[{answer_type}]"] == pytest.approx(fmean(column))


@given(st.lists(questions, min_size=1, max_size=6), questions)
def test_another_sample_changes_no_score_of_sample(
    rows: list[tuple[list[str], str | None, str | None]], more: tuple[list[str], str | None, str | None]
) -> None:
    answers = [answered(f"q{i}", *row) for i, row in enumerate(rows)]
    before = METRIC.score(answers).per_sample
    after = METRIC.score([answered("more", *more), *answers]).per_sample
    assert {id: columns for id, columns in after.items() if id != "more"} == before
