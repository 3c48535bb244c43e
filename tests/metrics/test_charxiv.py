from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.metrics.charxiv import METRICS, verdict_in
from evalkit.types import Answered, JudgedAnswer, Prediction, Sample, TextPart

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "charxiv.json").read_text())
QUESTIONS = ("descriptive", "reasoning")


def answers(questions: str) -> list[Answered]:
    """The golden responses to the golden questions."""
    files, found = GOLDEN["files"], []
    for key, response in GOLDEN["responses"][questions].items():
        figure, _, number = key.partition("_")
        entry = files[questions][figure]
        if questions == "descriptive":
            meta: dict[str, Any] = {"template": entry["qids"][int(number)]}
            answer = entry["answers"][int(number)]
        else:
            meta = {"type": entry["inst_category"], "raw_question": entry["query"]}
            answer = entry["answer"]
        found.append(Answered(Sample(key, (), "?", (answer,), figure, meta=meta), Prediction(response)))
    return found


@pytest.mark.parametrize("questions", QUESTIONS)
def test_judge_is_asked_as_by_the_official_script(questions: str) -> None:
    metric = METRICS[f"charxiv_{questions}"]
    metric.check([answered.sample for answered in answers(questions)], "vqa")
    for answered in answers(questions):
        (question,) = metric.questions(answered, {})
        (message,) = question.messages
        assert message.content == (TextPart(GOLDEN["grading"][questions][answered.sample.id]),)


def test_unparsed_answers_are_wrong() -> None:
    sample = answers("reasoning")[0].sample
    scores = METRICS["charxiv_reasoning"].score_judged([JudgedAnswer(Answered(sample, Prediction(None)))])
    assert (scores.values["score"], scores.values["parse_rate"]) == (0, 0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"extracted_answer": "b", "score": 1}', 1),
        ('{"extract_answer": "", "score": 0}', 0),
        ('```json\n{"score": 1}\n```', 1),
        ('```\n{"score": 1.0}\n```', 1),
        ('{"score": 0.5}', 0.5),  # off the scale
        ('{"score": "1"}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": 1', None),
        ('The verdict: {"score": 1}', None),
        ("[1]", None),
        ("1", None),
        ("", None),
        ("[" * 100_000, None),
        ('{"a":' * 5_000, None),
        ("```json" + " " * 90_000, None),
        ('{"score": ' + "9" * 5_000 + "}", None),
    ],
)
def test_only_a_json_object_is_a_verdict(reply: str, expected: float | None) -> None:
    assert verdict_in("score")(reply) == expected


@pytest.mark.parametrize(
    ("name", "meta", "message"),
    [
        ("charxiv_descriptive", {"template": 20}, "has 20 in meta"),
        ("charxiv_descriptive", {}, "has None in meta"),
        ("charxiv_reasoning", {"type": 0}, "has 0 in meta"),
    ],
)
def test_wrong_samples_are_refused(name: str, meta: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{name}: sample 'a' {message}"):
        METRICS[name].check([Sample("a", (), "?", ("x",), "a", meta=meta)], "vqa")
