"""Yes/no accuracy, with precision, recall and F1 by hand."""

from __future__ import annotations

import math

import pytest

from evalkit.errors import UserError
from evalkit.metrics.yes_no_accuracy import METRIC
from evalkit.types import Answered, Prediction, Sample


def answered(number: int, right: str, given: str | None, category: str = "") -> Answered:
    meta = {"category": category} if category else {}
    return Answered(Sample(str(number), (), "?", (right,), str(number), meta=meta), Prediction(given))


def test_counts() -> None:
    pairs = [("yes", "yes"), ("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"), ("yes", None)]
    found = METRIC.score([answered(n, right, given, "ab"[n % 2]) for n, (right, given) in enumerate(pairs)])
    assert found.headline == "accuracy"
    assert found.values["accuracy"] == pytest.approx(100 * 3 / 6)
    assert found.values["parse_rate"] == pytest.approx(100 * 5 / 6)
    assert found.values["precision"] == pytest.approx(100 * 2 / 3)
    assert found.values["recall"] == pytest.approx(100 * 2 / 4)
    assert found.values["f1"] == pytest.approx(100 * 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert found.values["yes_rate"] == pytest.approx(100 * 3 / 6)
    assert found.values["accuracy[a]"] == pytest.approx(100 * 2 / 3)
    for name in ("f1", "precision", "recall", "yes_rate"):
        assert found.aggregation_of(name).agrees(name, found.values[name], found.per_sample, {})


def test_without_a_yes_and_without_samples() -> None:
    found = METRIC.score([answered(0, "no", "no"), answered(1, "no", None)])
    assert (found.values["precision"], found.values["recall"], found.values["f1"]) == (0, 0, 0)
    assert math.isnan(METRIC.score([]).values["f1"])


def test_other_references_are_refused() -> None:
    with pytest.raises(UserError, match="expected yes or no"):
        METRIC.score([answered(0, "maybe", "yes")])
