"""ANLS against the outputs of the official script and four others, then edges and invariants."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.metrics.anls import ANLS, METRIC, Variant, edit_distance, similarity
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "anls.json").read_text())
CASES: list[dict[str, Any]] = GOLDEN["cases"]

# our name, theirs, the aggregate's key, the unit of a question's score and of the aggregate
COLUMNS: list[tuple[Variant, str, str, int]] = [
    ("rrc", "rrc_official", "score", 1),
    ("mmf", "mmf_stvqa", "score", 1),
    ("mp-docvqa", "mp_docvqa", "score", 1),
    ("due", "due_benchmark", "score", 1),
    ("pix2struct", "pix2struct", "score_x100", 100),
]

LABELS = {
    "answer_types": (
        "answer_type",
        {
            "Image-Span": "image span",
            "Question-Span": "question span",
            "Multi-Span": "multiple spans",
            "None span": "non span",
        },
    ),
    "evidence_types": (
        "evidence",
        {
            "Table/list": "table/list",
            "Text": "textual",
            "Visual/Layout": "photo/pciture/visual_objects",
            "Figure": "figure",
            "Map": "map",
        },
    ),
    "operation_types": (
        "operation/reasoning",
        {"Sorting": "comparison", "Arithmetic": "arithmetic", "Counting": "counting"},
    ),
}


def answered(id: str, references: Sequence[str], value: Any) -> Answered:
    return Answered(Sample(id=id, images=(), text="?", references=tuple(references), cluster=id), Prediction(value))


def golden_answered(case: dict[str, Any]) -> Answered:
    return answered(case["id"], case["inputs"]["answers"], case["inputs"]["prediction"])


def raises(case: dict[str, Any], column: str) -> bool:
    return isinstance(case["expected"][column], dict)


# ----------------------------------------------------------------------------------------------- outputs of the scorers


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['tag']}")
def test_golden_question(case: dict[str, Any]) -> None:
    for variant, column, _, unit in COLUMNS:
        score = ANLS(variant).score([golden_answered(case)]).values["anls"]
        if raises(case, column):
            assert case["expected"][column] == {"error": "ZeroDivisionError"}
            assert score == 100.0, "two texts without length are equal"
        else:
            assert score / 100 == pytest.approx(case["expected"][column] / unit, abs=1e-9), variant


@pytest.mark.parametrize(("variant", "column", "key", "unit"), COLUMNS, ids=lambda value: str(value))
def test_golden_aggregate(variant: Variant, column: str, key: str, unit: int) -> None:
    aggregate = GOLDEN["aggregate"][column]
    scores = ANLS(variant).score([golden_answered(case) for case in CASES if not raises(case, column)])
    assert len(scores.per_sample) == aggregate["n"]
    assert scores.values["anls"] / 100 == pytest.approx(aggregate[key] / unit, abs=1e-9)


def test_golden_breakdown_of_official_script() -> None:
    per_sample = METRIC.score([golden_answered(case) for case in CASES]).per_sample
    for kind, expected in GOLDEN["aggregate"]["rrc_official"]["scores_by_types"].items():
        field, labels = LABELS[kind]
        groups: dict[str, list[float]] = defaultdict(list)
        for case in CASES:
            for label in case["inputs"][field]:
                groups[label].append(per_sample[case["id"]]["anls"])
        found = {name: fmean(groups[labels[name]]) / 100 for name in expected}
        assert found == pytest.approx(expected, abs=1e-9)


def test_golden_error_names_sample_here() -> None:
    (case,) = GOLDEN["error_cases"]
    assert case["expected"]["rrc_official"] == {"error": "ValueError"}
    with pytest.raises(UserError, match="'q' has no answers"):
        METRIC.score([answered("q", case["inputs"]["answers"], case["inputs"]["prediction"])])


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        pytest.param("bf", "b#", (0.5, 0.5, 0.5, 0, 0), id="exactly half"),
        pytest.param("abc", "a##", (0, 0, 0, 0, 0), id="a third"),
        pytest.param("abc", "ab#", (2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3), id="two thirds"),
        pytest.param("Cat", "cat", (1, 1, 1, 2 / 3, 1), id="case"),
        pytest.param(" cat", "cat", (1, 1, 1, 3 / 4, 3 / 4), id="outer space"),
        pytest.param("a  b", "a b", (1, 3 / 4, 3 / 4, 3 / 4, 3 / 4), id="inner space"),
        pytest.param("ab", "ac    ", (5 / 6, 0.5, 0.5, 0, 0), id="padding raises the official score"),
        pytest.param("\u00df", "s", (0.5, 0, 0, 0, 0), id="raw length in upper case: two"),
        pytest.param("None", "none", (1, 1, 0, 3 / 4, 1), id="none"),
        pytest.param("", "cat", (0, 0, 0, 0, 0), id="empty prediction"),
        pytest.param("cat", "", (0, 0, 0, 0, 0), id="empty answer"),
        pytest.param("", "", (1, 1, 0, 1, 1), id="both empty"),
        pytest.param(" ", "", (1, 1, 0, 0, 0), id="both blank"),
    ],
)
def test_variants(prediction: str, reference: str, expected: tuple[float, ...]) -> None:
    found = tuple(similarity(prediction, reference, variant) for variant in get_args(Variant))
    assert found == pytest.approx(expected, abs=1e-12)


def test_fold_longer_than_length_scores_nothing() -> None:
    """Lower case makes one code point of U+0130 two, while the length is that of upper case: the distance is larger."""
    assert similarity("\u0130", "x", "rrc") == 0.0


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("", "abc", 3),
        ("abc", "", 3),
        ("same", "same", 0),
        ("ab", "ba", 2),
    ],
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b, 10) == distance
    assert edit_distance(a, b, distance) == distance
    if distance:
        assert edit_distance(a, b, distance - 1) == distance


def test_nearest_answer_counts() -> None:
    assert METRIC.score([answered("q", ["x", "caps", "cat"], "cats")]).values["anls"] == 75.0


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(
        [answered("a", ["cat"], "CAT"), answered("b", ["cats"], "cat"), answered("c", ["cat"], "dog")]
    )
    assert scores.headline == "anls"
    assert scores.values == {"anls": pytest.approx((100 + 75 + 0) / 3)}
    assert scores.per_sample == {"a": {"anls": 100.0}, "b": {"anls": 75.0}, "c": {"anls": 0.0}}
    assert scores.signature == "anls|variant:rrc|threshold:0.5|v1"
    assert ANLS("due").signature == "anls|variant:due|threshold:0.5|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "anls"


def test_unparsed_answer_is_wrong_even_where_empty_answer_is_right() -> None:
    assert METRIC.score([answered("q", [""], "")]).values == {"anls": 100.0}
    assert METRIC.score([answered("q", [""], None)]).per_sample == {"q": {"anls": 0.0}}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"anls"}
    assert math.isnan(scores.values["anls"])
    assert scores.per_sample == {}


def test_missing_references_are_an_error_without_predictions() -> None:
    with pytest.raises(UserError, match="'q17' has no answers"):
        METRIC.score([answered("q17", [], None)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["cat"], (0.0, 0.0, 1.0, 1.0))])


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match=r"'stvqa'.*rrc, mmf, mp-docvqa, due, pix2struct"):
        ANLS("stvqa")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- invariants

# Few letters, so that texts are near one another.
near_texts = st.text(alphabet="abA \u00df\u0130", max_size=8)
variants = st.sampled_from(get_args(Variant))


def plain_distance(a: str, b: str) -> int:
    """Levenshtein's distance by its definition."""

    @cache
    def of_prefixes(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        changed = of_prefixes(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(changed, of_prefixes(i - 1, j) + 1, of_prefixes(i, j - 1) + 1)

    return of_prefixes(len(a), len(b))


@given(near_texts, near_texts, st.integers(0, 9))
@example("xyab", "cdxy", 2)  # a part of it is near up to the last line, so that nothing is given up
def test_early_exit_changes_no_distance_within_the_limit(a: str, b: str, limit: int) -> None:
    assert edit_distance(a, b, limit) == min(plain_distance(a, b), limit + 1)


@given(near_texts, near_texts)
def test_official_similarity_by_its_definition(prediction: str, reference: str) -> None:
    folded = [" ".join(text.strip().lower().split()) for text in (prediction, reference)]
    length = max(len(prediction.upper()), len(reference.upper()))
    raw = 1 - plain_distance(*folded) / length if length else 1.0
    assert similarity(prediction, reference) == (raw if raw >= 0.5 else 0.0)


@given(near_texts, near_texts, variants)
def test_similarity_is_zero_or_at_least_half(prediction: str, reference: str, variant: Variant) -> None:
    value = similarity(prediction, reference, variant)
    assert value == 0 or 0.5 <= value <= 1
    if variant in ("due", "pix2struct"):
        assert value != 0.5


@given(near_texts, near_texts, st.sampled_from(["rrc", "mmf", "due", "pix2struct"]))
def test_symmetric_except_for_refused_predictions(a: str, b: str, variant: Variant) -> None:
    assert similarity(a, b, variant) == similarity(b, a, variant)


@given(near_texts, st.lists(near_texts, min_size=1, max_size=4), near_texts)
def test_more_references_never_lower_the_score(prediction: str, references: list[str], more: str) -> None:
    before = METRIC.score([answered("q", references, prediction)]).values["anls"]
    assert METRIC.score([answered("q", [more, *references], prediction)]).values["anls"] >= before


@given(
    st.lists(st.tuples(st.lists(near_texts, min_size=1, max_size=3), st.none() | near_texts), min_size=1, max_size=6)
)
def test_aggregate_is_mean_of_column(rows: list[tuple[list[str], str | None]]) -> None:
    scores = METRIC.score([answered(f"q{i}", *row) for i, row in enumerate(rows)])
    assert scores.values["anls"] == pytest.approx(fmean(row["anls"] for row in scores.per_sample.values()))
