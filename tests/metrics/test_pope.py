from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean

import pytest

from evalkit.letters import Options
from evalkit.metric_contract import score_answers
from evalkit.metrics.pope import METRICS
from evalkit.tasks.hallucination.pope import lmms_eval, official
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pope.json").read_text())


def answered(key: str, right: str, value: str | None, *categories: str) -> Answered:
    return Answered(Sample(key, (), "?", (right,), key, meta={"category": list(categories)}), Prediction(value))


def golden() -> list[Answered]:
    return [
        answered(
            case["id"], case["inputs"]["label"], official(case["inputs"]["answer"], Options()).letter, "adversarial"
        )
        for case in GOLDEN["cases"]
    ]


def test_every_case_as_the_official_script() -> None:
    cases = golden()
    assert len(cases) == 145
    for case, one in zip(GOLDEN["cases"], cases, strict=True):
        assert one.prediction.value == case["expected"]["prediction"], case["id"]


def test_values_as_the_official_script() -> None:
    values = score_answers(METRICS["pope"], golden()).values
    expected = GOLDEN["aggregate"]
    for name, key in (("f1", "f1"), ("accuracy", "acc"), ("precision", "precision"), ("recall", "recall")):
        assert values[name] == pytest.approx(100 * expected[key], rel=1e-12)
        assert values[f"{name}[adversarial]"] == pytest.approx(100 * expected[key], rel=1e-12)
    assert values["yes_rate"] == pytest.approx(100 * expected["yes_ratio"])


@pytest.mark.parametrize("case", GOLDEN["error_cases"], ids=lambda case: case["name"])
def test_where_the_script_divides_by_zero_the_value_is_zero(case: dict[str, list[dict[str, str]]]) -> None:
    answers = [
        answered(str(place), row["label"], official(row["answer"], Options()).letter, "random")
        for place, row in enumerate(case["inputs"])
    ]
    assert score_answers(METRICS["pope"], answers).values["f1"] == 0.0


ANSWERS = [
    answered("a", "yes", "yes", "random", "popular"),
    answered("b", "no", "yes", "popular"),
    answered("c", "yes", None, "random"),
    answered("d", "no", "no", "random", "popular", "adversarial"),
    answered("e", "yes", "no", "adversarial"),
    answered("f", "yes", "yes", "adversarial"),
]


def f1(right: int, given: int, wanted: int) -> float:
    return 200 * right / (given + wanted)


def test_a_sample_counts_in_each_of_its_categories() -> None:
    values = score_answers(METRICS["pope"], ANSWERS).values
    each = [f1(1, 1, 2), f1(1, 2, 1), f1(1, 1, 2)]
    assert [values[f"f1[{name}]"] for name in ("random", "popular", "adversarial")] == pytest.approx(each)
    assert values["f1"] == pytest.approx(fmean(each))
    assert values["f1_pooled"] == pytest.approx(f1(3, 4, 5))
    assert values["accuracy"] == pytest.approx(100 * 6 / 9)
    assert list(values)[:2] == ["f1", "f1_pooled"]


def test_the_three_headlines() -> None:
    found = {name: score_answers(metric, ANSWERS) for name, metric in METRICS.items()}
    assert {name: scores.headline for name, scores in found.items()} == {
        "pope": "f1", "pope_pooled": "f1_pooled", "pope_accuracy": "accuracy",
    }  # fmt: skip
    assert len({scores.signature for scores in found.values()}) == 3
    # lmms-eval's recall leaves out what is neither yes nor no.
    assert found["pope_pooled"].values["recall"] == pytest.approx(60)
    assert found["pope_accuracy"].values["recall"] == pytest.approx(75)


def test_no_answers() -> None:
    for metric in METRICS.values():
        scores = metric.score([])
        assert math.isnan(scores.values[scores.headline])


@pytest.mark.parametrize(
    ("text", "default_yes", "exact"),
    [
        ("Yes", "yes", "yes"),
        ("Yes.", "yes", None),
        ("no", "no", "no"),
        ("No, there is no book.", "no", None),
        ("\nNo\n", "no", "no"),
        ("NO", "yes", "no"),
        ("I see. No.", "yes", None),
        ("There is not a cat", "no", None),
        ("", "yes", None),
    ],
)
def test_readings(text: str, default_yes: str, exact: str | None) -> None:
    assert official(text, Options()).letter == default_yes
    assert lmms_eval(text, Options()).letter == exact
