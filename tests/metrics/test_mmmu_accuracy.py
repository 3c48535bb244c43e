"""MMMU's scorer against the official one, case by case."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.letters import Options, mmmu
from evalkit.metric_contract import score_answers
from evalkit.metrics.mmmu_accuracy import candidates
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mmmu.json").read_text(encoding="utf-8"))
CASES = [pytest.param(case, id=f"{number}-{case['tag']!a}") for number, case in enumerate(GOLDEN["cases"])]
METRIC = registry.metrics.get("mmmu_accuracy")


def answered(case: dict[str, Any]) -> Answered:
    inputs = case["inputs"]
    gold = inputs["answer"]
    references = tuple(gold) if isinstance(gold, list) else (gold,)
    if inputs["question_type"] == "open":
        sample = Sample(case["id"], (), "", references, case["id"], kind="vqa")
        return Answered(sample, Prediction(inputs["response"]))
    options = tuple(inputs["index2ans"].values())
    sample = Sample(case["id"], (), "", references, case["id"], options)
    return Answered(sample, Prediction(mmmu.read(inputs["response"], Options(options)).letter))


def plain(value: Any) -> Any:
    return float(value["__float__"]) if isinstance(value, dict) else value


@pytest.mark.parametrize("case", CASES)
def test_answer_is_parsed_as_by_official_scorer(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    if inputs["question_type"] == "open":
        found = candidates(inputs["response"])
        wanted = [plain(value) for value in expected["parsed_pred"]]
        numbers = {value for value in wanted if isinstance(value, str) or not math.isnan(value)}
        assert {value for value in found if isinstance(value, str) or not math.isnan(value)} == numbers
        assert len(found) == len(wanted)
    elif expected["random_fallback"]:
        assert answered(case).prediction.value is None
    else:
        assert answered(case).prediction.value == expected["parsed_pred"]


@pytest.mark.parametrize("case", CASES)
def test_answer_is_judged_as_by_official_scorer(case: dict[str, Any]) -> None:
    right = METRIC.score([answered(case)]).values["accuracy"]
    expected = case["expected"]
    assert right == (0.0 if expected["random_fallback"] else 100.0 * (expected["judge"] == "Correct"))


def test_overall_with_unparsed_counted_wrong() -> None:
    scores = [METRIC.score([answered(case)]).values["accuracy"] for case in GOLDEN["cases"]]
    assert fmean(scores) / 100 == pytest.approx(GOLDEN["aggregate"]["fallback_counted_wrong"]["overall"], abs=1e-12)
    assert sum(case["expected"]["random_fallback"] for case in GOLDEN["cases"]) == 42


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # checked against the official code
        ("so nan is a,==", {"so nan is a,=="}),  # nothing stands after the last sign: the whole answer
        ("is .12=", {0.12, "is .12="}),
        ("The answer is 1,234.5 so x", {"x ", " x"}),
        ("It is 12\nx = 5", {12.0, 5.0}),
    ],
)
def test_texts_after_leading_words(text: str, expected: set[str | float]) -> None:
    assert candidates(text) == expected


@pytest.mark.parametrize("text", ["1" * 100_000, "1" * 100_000 + ",", "1." * 50_000, "1," * 50_000, "-" * 100_000])
def test_long_answers_take_linear_time(text: str) -> None:
    begun = time.process_time()
    candidates(text)
    assert time.process_time() - begun < 2


def open_answer(text: str, *references: str) -> Answered:
    return Answered(Sample("open", (), "", references, "open", kind="vqa"), Prediction(text))


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        # official, lmms-eval's, VLMEvalKit's first rule
        ("24", ("24",), (True, False, True)),
        ("The total is 24.", ("24",), (True, False, True)),
        ("24.004", ("24",), (True, False, True)),
        ("1,024", ("1024",), (True, False, False)),
        ("A", ("24",), (False, False, True)),  # A is the reference, for VLMEvalKit
        ("Other answers", ("24",), (False, False, False)),
        ("pigeons", ("pigeon",), (True, False, True)),
        ("3.43", ("24/7", "3.429"), (True, False, False)),
        ("['24/7', '3.429']", ("24/7", "3.429"), (True, False, True)),
    ],
)
def test_open_answers_by_three_rules(text: str, references: tuple[str, ...], expected: tuple[bool, ...]) -> None:
    names = ("mmmu_accuracy", "mmmu_accuracy_lmms_eval", "mmmu_accuracy_vlmevalkit-2024")
    found = [registry.metrics.get(n).score([open_answer(text, *references)]).values["accuracy"] for n in names]
    assert tuple(value == 100 for value in found) == expected


def test_breakdowns() -> None:
    def one(number: int, letter: str | None, subject: str, domain: str) -> Answered:
        meta = {"category": subject, "domain": domain, "question_type": "multiple-choice"}
        return Answered(Sample(str(number), (), "", ("A",), "", ("x", "y"), meta), Prediction(letter))

    scores = score_answers(
        METRIC, [one(1, "A", "Art", "Arts"), one(2, "B", "Art", "Arts"), one(3, "A", "Math", "Science")]
    )
    assert scores.values["accuracy"] == pytest.approx(200 / 3)
    assert scores.values["accuracy[Art]"] == scores.values["accuracy[Arts]"] == 50
    assert scores.values["accuracy[Science]"] == 100
    assert scores.values["accuracy[multiple-choice]"] == pytest.approx(200 / 3)


def test_samples_without_references_are_refused() -> None:
    sample = Sample("7", (), "", (), "7", ("x", "y"))
    with pytest.raises(UserError, match="mmmu_accuracy: sample '7' has no answers to score against"):
        METRIC.check([sample], "choice")
    with pytest.raises(UserError, match="sample '7'"):
        METRIC.score([Answered(sample, Prediction("A"))])
