"""Multiple-choice accuracy: edges and invariants.

There are no outputs of an official scorer to compare with: what scorers of multiple choice disagree on is how a letter
is read from an answer, which is a model family's part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.metric_contract import score_answers
from evalkit.metrics.choice_accuracy import METRICS
from evalkit.types import Answered, Prediction, Sample

METRIC = METRICS["choice_accuracy"]


def answered(id: str, references: Sequence[str], value: Any, category: str | None = None) -> Answered:
    meta = {} if category is None else {"category": category}
    sample = Sample(
        id=id, images=(), text="?", references=tuple(references), cluster=id, options=("cat", "dog", "cow"), meta=meta
    )
    return Answered(sample, Prediction(value))


def test_values_columns_and_signature() -> None:
    scores = METRIC.score(
        [
            answered("a", ["A"], "A", "natural science"),
            answered("b", ["B"], "A", "natural science"),
            answered("c", ["C"], "C", "language science"),
            answered("d", ["D"], "D"),
            answered("e", ["A"], None, "natural science"),
        ]
    )
    assert scores.headline == "accuracy"
    assert scores.values == pytest.approx(
        {
            "accuracy": 60,
            "parse_rate": 80,
            "accuracy[language science]": 100,
            "accuracy[natural science]": 100 / 3,
        }
    )
    assert scores.per_sample == {
        "a": {"accuracy": 100.0, "parse_rate": 100.0},
        "b": {"accuracy": 0.0, "parse_rate": 100.0},
        "c": {"accuracy": 100.0, "parse_rate": 100.0},
        "d": {"accuracy": 100.0, "parse_rate": 100.0},
        "e": {"accuracy": 0.0, "parse_rate": 0.0},
    }
    assert scores.signature == "choice_accuracy|unread:wrong|v1"
    assert isinstance(METRIC, Metric)
    assert METRIC.name == "choice_accuracy"


@pytest.mark.parametrize("value", ["a", "A.", " A", "cat", ""])
def test_only_letter_itself_is_right(value: str) -> None:
    assert METRIC.score([answered("q", ["A"], value)]).values == {"accuracy": 0.0, "parse_rate": 100.0}


def test_no_answers() -> None:
    scores = METRIC.score([])
    assert set(scores.values) == {"accuracy", "parse_rate"}
    assert all(math.isnan(value) for value in scores.values.values())
    assert scores.per_sample == {}


@pytest.mark.parametrize("references", [(), ("A", "B")])
@pytest.mark.parametrize("value", ["A", None])
def test_sample_without_right_option_is_named(references: tuple[str, ...], value: str | None) -> None:
    with pytest.raises(UserError, match=f"'q17' has {len(references)} right options, expected one"):
        METRIC.score([answered("q17", references, value)])


def test_box_names_sample() -> None:
    with pytest.raises(UserError, match="'q17' was parsed as a box"):
        METRIC.score([answered("q17", ["A"], (0.0, 0.0, 1.0, 1.0))])


letters = st.sampled_from("ABC")
questions = st.tuples(letters, st.none() | letters, st.none() | st.sampled_from(["science", "art"]))


@given(st.lists(questions, min_size=1, max_size=8))
def test_aggregates_are_means_of_columns(rows: list[tuple[str, str | None, str | None]]) -> None:
    scores = METRIC.score([answered(f"q{i}", [right], *rest) for i, (right, *rest) in enumerate(rows)])
    for key in ("accuracy", "parse_rate"):
        assert scores.values[key] == pytest.approx(fmean(row[key] for row in scores.per_sample.values()))
    assert scores.values["accuracy"] == pytest.approx(100 * fmean(right == said for right, said, _ in rows))
    assert scores.values["accuracy"] <= scores.values["parse_rate"]
    for category in {row[2] for row in rows} - {None}:
        expected = 100 * fmean(right == said for right, said, own in rows if own == category)
        assert scores.values[f"accuracy[{category}]"] == pytest.approx(expected)


@given(st.data(), st.lists(questions, min_size=1, max_size=8))
def test_order_of_samples_does_not_matter(data: st.DataObject, rows: list[tuple[str, str | None, str | None]]) -> None:
    answers = [answered(f"q{i}", [right], *rest) for i, (right, *rest) in enumerate(rows)]
    scores, shuffled = METRIC.score(answers), METRIC.score(data.draw(st.permutations(answers)))
    assert shuffled.per_sample == scores.per_sample
    assert shuffled.values == pytest.approx(scores.values)


def test_l2_categories_and_their_unweighted_mean() -> None:
    rows = [("a", "A", "fine", "x"), ("b", "A", "fine", "x"), ("c", "B", "fine", "y"), ("d", "B", "coarse", "z")]
    answers = [
        Answered(
            Sample(name, (), "?", ("A",), name, ("cat", "dog"), {"category": category, "l2_category": l2}),
            Prediction(letter),
        )
        for name, letter, category, l2 in rows
    ]
    for name, headline in (("choice_accuracy", "accuracy"), ("choice_accuracy_l2", "accuracy_l2")):
        scores = score_answers(METRICS[name], answers)
        assert scores.headline == headline
        assert scores.signature == f"{name}|unread:wrong|v1"
        assert scores.values == pytest.approx(
            {
                "accuracy": 50, "parse_rate": 100, "accuracy_l2": 100 / 3, "l2_accuracy[x]": 100, "l2_accuracy[y]": 0,
                "l2_accuracy[z]": 0, "accuracy[coarse]": 0, "accuracy[fine]": 200 / 3,
            }
        )  # fmt: skip
    with pytest.raises(UserError, match="choice_accuracy_l2: sample 'e' has no l2_category"):
        METRICS["choice_accuracy_l2"].score([*answers, answered("e", ["A"], "A")])
    assert "accuracy_l2" not in METRIC.score([*answers, answered("e", ["A"], "A")]).values
    assert math.isnan(METRICS["choice_accuracy_l2"].score([]).values["accuracy_l2"])
