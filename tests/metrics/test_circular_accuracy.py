"""Circular accuracy: VLMEvalKit's and Qwen-VL's results on the golden cases, then edges.

``tests/golden/mmbench.json`` holds what the two scorers give for 75 questions, and what VLMEvalKit's letter rule of 2026
reads in 82 answers (see ``tests/golden/README.md``).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.letters import VLMEVALKIT, read_letter
from evalkit.metric_contract import score_answers
from evalkit.metrics.circular_accuracy import METRICS, right_by_crpe
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mmbench.json").read_text())
GROUPS = [case for case in GOLDEN["cases"] if case["kind"] == "circular_group"]
LETTERS = [case for case in GOLDEN["cases"] if case["kind"] == "letter_match"]
METRIC = METRICS["circular_accuracy"]


def answered(
    name: str, letter: str | None, right: str = "A", *, group: str = "g", rotation: int = 0, **meta: Any
) -> Answered:
    found = {"group": group, "rotation": rotation, **meta}
    return Answered(Sample(name, (), "?", (right,), group, ("cat", "dog"), found), Prediction(letter))


def read_by_vlmevalkit(row: dict[str, Any]) -> str | None:
    return read_letter(row["prediction_text"], tuple(row["options"].values()), VLMEVALKIT).letter


def of_golden(case: dict[str, Any], read: Any) -> list[Answered]:
    found = []
    for row in case["inputs"]["rows"]:
        meta = {
            "group": str(row["index"] % 1_000_000), "rotation": row["index"] // 1_000_000,
            "category": row["category"], "l2_category": row["l2-category"],
        }  # fmt: skip
        options = tuple(row["options"].values())
        sample = Sample(str(row["index"]), (), "?", (row["answer"],), meta["group"], options, meta)
        found.append(Answered(sample, Prediction(read(row))))
    return found


@pytest.mark.parametrize("case", LETTERS, ids=lambda case: case["id"])
def test_letters_are_those_of_vlmevalkit(case: dict[str, Any]) -> None:
    options = case["inputs"]["options"]
    expected = case["expected"]["can_infer"]
    found = read_letter(case["inputs"]["prediction"], tuple(options.values()), VLMEVALKIT)
    assert found.letter == (expected if expected in options else None)


@pytest.mark.parametrize("case", GROUPS, ids=lambda case: case["id"])
def test_questions_are_right_as_by_vlmevalkit(case: dict[str, Any]) -> None:
    rows = case["inputs"]["rows"]
    assert [read_by_vlmevalkit(row) or False for row in rows] == [
        letter if letter != "Z" else False for letter in case["expected"]["rows_can_infer"]
    ]
    scores = score_answers(METRIC, of_golden(case, read_by_vlmevalkit))
    assert scores.values["circular"] == 100.0 * case["expected"]["vlmeval_circular"]


@pytest.mark.parametrize("case", GROUPS, ids=lambda case: case["id"])
def test_questions_with_all_predictions_are_right_as_by_qwen_vl(case: dict[str, Any]) -> None:
    if any(row["prediction_index"] is None for row in case["inputs"]["rows"]):
        pytest.skip("Qwen-VL's script skips rows without a prediction; here they are wrong")
    scores = score_answers(METRIC, of_golden(case, lambda row: "ABCD"[row["prediction_index"]]))
    assert scores.values["circular"] == 100.0 * case["expected"]["qwen_circular"]


def test_aggregates_are_those_of_vlmevalkit() -> None:
    scores = score_answers(METRIC, [one for case in GROUPS for one in of_golden(case, read_by_vlmevalkit)])
    expected = GOLDEN["aggregate"]["vlmeval_circular"]
    assert scores.values["circular"] == pytest.approx(100 * expected["Overall"], abs=1e-9)
    for name in ("attribute", "counting", "ocr", "spatial"):
        assert scores.values[f"circular[{name}]"] == pytest.approx(100 * expected[name], abs=1e-9)
    long = {"CP": "coarse_perception", "LR": "logic_reasoning", "RR": "relation_reasoning"}
    for short, name in long.items():
        assert scores.values[f"l2_circular[{name}]"] == pytest.approx(100 * expected[short], abs=1e-9)


def test_every_row_of_question_must_be_right() -> None:
    answers = [
        answered("1", "A", category="ocr"),
        answered("1000001", "B", "B", rotation=1, category="ocr"),
        answered("2", "A", group="h", category="ocr"),
        answered("1000002", None, "B", group="h", rotation=1, category="ocr"),
        answered("3", "B", group="i", category="counting"),
        answered("1000003", "B", "B", group="i", rotation=1, category="counting"),
    ]
    scores = score_answers(METRIC, answers)
    assert scores.headline == "circular"
    assert scores.values == pytest.approx(
        {
            "circular": 100 / 3, "plain": 200 / 3, "accuracy": 400 / 6, "parse_rate": 500 / 6,
            "circular[ocr]": 50, "circular[counting]": 0,
        }
    )  # fmt: skip
    assert scores.per_sample["1"] == {"circular": 100.0, "accuracy": 100.0, "parse_rate": 100.0}
    assert scores.per_sample["2"]["circular"] == 0.0
    assert not scores.notes
    plain = score_answers(METRICS["circular_accuracy_plain"], answers)
    assert (plain.headline, plain.values) == ("plain", scores.values)
    assert plain.signature != scores.signature


def test_incomplete_questions_are_counted_in_a_note() -> None:
    scores = score_answers(METRIC, [answered("1", "A"), answered("2", "A", group="h"), answered("3", "B", "B", group="h", rotation=1)])  # fmt: skip
    assert scores.values["circular"] == 100.0
    assert "1 of 2 questions" in scores.notes[0]


def test_samples_without_a_question_are_refused() -> None:
    sample = Sample("7", (), "?", ("A",), "7", ("cat", "dog"), {"group": "7"})
    with pytest.raises(UserError, match="circular_accuracy: sample '7' has no group and rotation"):
        METRIC.score([Answered(sample, Prediction("A"))])


def test_no_answers_have_no_score() -> None:
    assert math.isnan(METRIC.score([]).values["circular"])


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("A", "A. red", True), ("B", "A. red", False), ("A. blue", "A. red", True), ("Both", "B. red", True),
        ("It is a car", "A.  a car", True), ("It is a bus", "A.  a car", False),
        ("It is B", "A", True),  # a reference of one letter: nothing is left to contain
        (" A", "B", True), ("x", "A", False),
    ],
)  # fmt: skip
def test_vlmevalkits_rule_for_crpe(answer: str, reference: str, right: bool) -> None:
    assert right_by_crpe(answer, reference) is right
    found = score_answers(METRICS["circular_accuracy_crpe"], [answered("1", answer, reference=reference)])
    assert found.values["circular"] == 100.0 * right
    assert score_answers(METRICS["circular_accuracy_crpe"], [answered("1", None, reference=reference)]).values["circular"] == 0  # fmt: skip
    with pytest.raises(UserError, match="sample '1' has no reference text"):
        METRICS["circular_accuracy_crpe"].score([answered("1", answer)])
