from __future__ import annotations

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.mtvqa import METRICS, contained
from evalkit.types import Answered, Prediction, Sample


def answered(key: str, language: str | None, answer: str, prediction: str | None) -> Answered:
    return Answered(Sample(key, (), "?", (answer,), key, meta={"category": language}), Prediction(prediction))


@pytest.mark.parametrize(
    ("prediction", "answer", "kept", "removed"),
    [
        ("The Café.", " café ", True, True),
        ("12.50", "12.50", False, True),
        ("12.50", "1250", True, True),
        ("A.B.C", "abc", True, True),
        ("No", "Yes", False, False),
    ],
)
def test_dots(prediction: str, answer: str, kept: bool, removed: bool) -> None:
    assert contained(prediction, answer, dots=True) is kept
    assert contained(prediction, answer, dots=False) is removed


ROWS = [
    answered("a", "DE", "eins", "Eins."),
    answered("b", "DE", "zwei", "drei"),
    answered("c", "DE", "1.5", "1.5"),
    answered("d", "VI", "hai", "hai"),
    answered("e", "VI", "", None),
]


def test_mean_over_languages_and_over_questions() -> None:
    official = score_answers(METRICS["mtvqa"], ROWS)
    assert (official.headline, official.values["macro"]) == ("macro", pytest.approx((100 / 3 + 50) / 2))
    assert official.values["micro"] == pytest.approx(40)
    assert official.values["accuracy[DE]"] == pytest.approx(100 / 3)
    rows = score_answers(METRICS["mtvqa_rows"], ROWS)
    assert (rows.headline, rows.values["micro"]) == ("micro", pytest.approx(60))
    assert rows.values["macro"] == pytest.approx((200 / 3 + 50) / 2)
    assert official.signature != rows.signature


def test_sample_without_language_is_refused_before_the_run() -> None:
    sample = answered("s", None, "a", None).sample
    with pytest.raises(UserError, match="mtvqa: sample 's' has no language in meta"):
        check_metric(METRICS["mtvqa"], [sample], "vqa", "mtvqa/test")
