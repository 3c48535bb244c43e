from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.ocrbench import FORMULAS, METRICS, PART_OF, contained
from evalkit.types import Answered, Prediction, Sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ocrbench.json").read_text())


def answered(key: str, kind: str, answers: object, prediction: str | None) -> Answered:
    listed = (answers,) if isinstance(answers, str) else tuple(answers)  # type: ignore[arg-type]
    meta = {"category": kind, "part": PART_OF.get(kind)}
    return Answered(Sample(key, (), "?", listed, key, meta=meta), Prediction(prediction))


CASES = [case for case in GOLDEN["cases"] if "predict" in case["inputs"]]


@pytest.mark.parametrize(("key", "full_width"), [("result", False), ("lmms_eval", True)])
def test_every_case_as_the_official_script(key: str, full_width: bool) -> None:
    assert len(CASES) > 200
    wrong = []
    for case in CASES:
        inputs, expected = case["inputs"], case["expected"][key]
        answers = [inputs["answers"]] if isinstance(inputs["answers"], str) else inputs["answers"]
        formula = inputs["dataset_name"] == "HME100k"
        if contained(inputs["predict"], answers, formula=formula, full_width=full_width) != bool(expected):
            wrong.append(case["id"])
    assert wrong == []


def test_sums_of_a_thousand_rows_as_the_official_script() -> None:
    final = GOLDEN["aggregate"]["final_1000"]
    cases = GOLDEN["cases"]
    found = dict.fromkeys(final["type_scores"], 0)
    for place in range(1000):
        inputs = cases[place % len(cases)]["inputs"]
        answers = [inputs["answers"]] if isinstance(inputs["answers"], str) else inputs["answers"]
        formula = inputs["dataset_name"] == "HME100k"
        if "predict" in inputs:
            found[inputs["type"]] += contained(inputs["predict"], answers, formula=formula)
    assert found == final["type_scores"]
    recognition = sum(value for kind, value in found.items() if PART_OF[kind] == "Text Recognition")
    assert (recognition, sum(found.values())) == (final["recognition_score"], final["final_score"])


SIZES = {kind: 50 for kind in PART_OF if PART_OF[kind] == "Text Recognition"} | {
    "Scene Text-centric VQA": 200, "Doc-oriented VQA": 200, "Key Information Extraction": 200, FORMULAS: 100,
}  # fmt: skip


def test_score_is_the_number_of_right_answers_of_a_thousand() -> None:
    rows = [
        answered(f"{kind}{n}", kind, ["Abc"], "an ABC" if n % 4 else "no")
        for kind, count in SIZES.items()
        for n in range(count)
    ]
    scores = score_answers(METRICS["ocrbench"], rows)
    right = {kind: count - math.ceil(count / 4) for kind, count in SIZES.items()}
    right[FORMULAS] = 0  # where case counts
    assert scores.headline == "score"
    assert scores.values["score"] == pytest.approx(sum(right.values()))
    assert scores.values["score[Text Recognition]"] == pytest.approx(6 * right["Regular Text Recognition"])
    assert scores.values["score[Doc-oriented VQA]"] == pytest.approx(150)
    assert scores.values[f"score[{FORMULAS}]"] == 0
    assert scores.values["accuracy[Regular Text Recognition]"] == pytest.approx(74)
    assert [scores.aggregation_of(name).maximum for name in ("score", "score[Text Recognition]")] == [1000, 300]
    assert not scores.notes


def test_subset_is_noted() -> None:
    scores = score_answers(METRICS["ocrbench"], [answered("a", "Doc-oriented VQA", ["1"], "10")])
    assert scores.values["score"] == 1000
    assert scores.notes == ["1 of OCRBench's 1,000 questions were scored; the score is scaled to 1,000."]
    assert math.isnan(METRICS["ocrbench"].score([]).values["score"])


def test_sample_without_type_is_refused_before_the_run() -> None:
    row = answered("s", "Poems", ["a"], None)
    with pytest.raises(
        UserError, match="sample 's' has the question type 'Poems' and the part None; expected one of Reg"
    ):
        check_metric(METRICS["ocrbench"], [row.sample], "vqa", "ocrbench/test")
