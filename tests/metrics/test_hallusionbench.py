from __future__ import annotations

import math

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.hallusionbench import METRIC
from evalkit.types import Answered, Prediction, Sample


def answered(index: str, value: str | None) -> Answered:
    """``index`` is category, subcategory, set, figure and question; the right answer is yes."""
    category, sub, number, figure, question = index.split("_")
    group = f"{category}_{sub}/{number}"
    meta = {
        "category": category, "l2-category": f"{category}_{sub}", "figure": f"{group}/{figure}",
        "question_group": f"{group}/{question}",
    }  # fmt: skip
    return Answered(Sample(index, (), "?", ("yes",), group, meta=meta), Prediction(value))


ANSWERS = [
    answered("VD_math_0_0_0", "yes"),
    answered("VD_math_0_0_1", "yes"),
    answered("VD_math_0_1_0", "yes"),
    answered("VD_math_0_1_1", "no"),
    answered("VS_map_0_0_0", None),
    answered("VS_map_0_1_0", "yes"),
]


def test_groups_are_right_only_if_all_is() -> None:
    scores = score_answers(METRIC, ANSWERS)
    assert scores.values["aAcc"] == pytest.approx(100 * 4 / 6)
    assert scores.values["fAcc"] == pytest.approx(50)  # VD figure 0 and VS figure 1 of four
    assert scores.values["qAcc"] == pytest.approx(100 / 3)  # VD question 0 of three
    assert scores.values["average"] == pytest.approx((200 / 3 + 50 + 100 / 3) / 3)
    assert scores.values["fAcc[VD]"] == scores.values["fAcc[VD_math]"] == 50
    assert scores.values["qAcc[VS_map]"] == 0
    assert scores.values["parse_rate"] == pytest.approx(500 / 6)
    assert scores.per_sample["VD_math_0_1_0"] == {"aAcc": 100, "fAcc": 0, "qAcc": 100, "parse_rate": 100}


def test_no_answers() -> None:
    assert math.isnan(METRIC.score([]).values["average"])


def test_sample_without_groups_is_refused_before_the_run() -> None:
    sample = Sample("s", (), "?", ("yes",), "c", meta={"figure": "f"})
    with pytest.raises(UserError, match="sample 's' has the figure 'f' and the question group None; expected their"):
        check_metric(METRIC, [sample], "yes_no", "hallusionbench/image")
