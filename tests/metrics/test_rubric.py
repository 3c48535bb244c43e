"""A judge with a rubric of the user's own: its prompt, its verdicts and what they are worth."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit import registry
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, Prediction, Sample, TextPart, Verdict

SAMPLE = Sample("1", (), "What {is} it?", ("a cat", "cat"), "1")
RUBRIC = "Q: {question} R: {references} A: {answer}"


def rubric(**options: Any) -> JudgedMetric:
    found = registry.metrics.get("rubric").configured(options)
    assert isinstance(found, JudgedMetric)
    return found


def asked(metric: JudgedMetric) -> str:
    (question,) = metric.questions(Answered(SAMPLE, Prediction("{answer} a dog")), {})
    return "".join(part.text for part in question.messages[0].content if isinstance(part, TextPart))


def value(metric: JudgedMetric, verdict: Any) -> float:
    judged = JudgedAnswer(Answered(SAMPLE, Prediction("x")), {"score": Verdict(verdict)})
    return metric.score_judged([judged]).values["score"]


def test_prompt_shows_what_the_rubric_names() -> None:
    text = asked(rubric(rubric=RUBRIC, scale=[1, 5]))
    assert text.startswith("Q: What {is} it? R: a cat\ncat A: {answer} a dog\n\n")
    assert text.endswith("Reply with one whole number from 1 to 5, and nothing else.")
    assert "Reply with one of these words, and nothing else: yes, no." in asked(rubric())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("4", 4), (" 4\n", 4), ("4.", None), ("Score: 4", None), ("four", None), ("", None), ("4/5", None), ("nan", None)],
)
def test_number_is_the_complete_reply(reply: str, expected: float | None) -> None:
    assert rubric(rubric=RUBRIC, scale=[1, 5]).prompts[0].read(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("correct", "correct"), ("Correct.", "correct"), (" incorrect ", "incorrect"), ("not correct", None), ("", None)],
)
def test_word_is_the_complete_reply(reply: str, expected: str | None) -> None:
    metric = rubric(labels={"correct": 1, "incorrect": 0})
    assert metric.prompts[0].read(reply) == expected


def test_score_is_share_of_scale() -> None:
    numbers = rubric(rubric=RUBRIC, scale=[1, 5])
    assert [value(numbers, verdict) for verdict in (1, 4, 5)] == [0, 75, 100]
    scale = numbers.prompts[0].scale
    assert scale is not None
    assert [scale.holds(verdict) for verdict in (0, 2.5, 6)] == [False, False, False]
    words = rubric(labels={"good": 1, "fair": 0.5, "bad": 0})
    assert [value(words, verdict) for verdict in ("good", "fair", "bad")] == [100, 50, 0]
    unparsed = JudgedAnswer(Answered(SAMPLE, Prediction(None)))
    assert words.score_judged([unparsed]).values == {"score": 0, "parse_rate": 0}


def test_other_rubrics_are_other_metrics() -> None:
    first, second = rubric(rubric=RUBRIC, scale=[1, 5]), rubric(rubric=RUBRIC + "!", scale=[1, 5])
    assert first.name == rubric(rubric=RUBRIC, scale=[1, 5]).name
    assert len({first.name, second.name, rubric(rubric=RUBRIC, scale=[1, 6]).name, rubric().name}) == 4
    assert first.signed(first.signature, "J").startswith(f"{first.name}|judge:J|judge-prompt:rubric-")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rubrik": "x"}, "rubrik is no option; there are rubric"),
        ({"rubric": RUBRIC}, "rubric stands without its verdicts"),
        ({"rubric": "Good?", "scale": [1, 5]}, "does not show the answer"),
        ({"rubric": "{answer} {x}", "scale": [1, 5]}, "has {x}, which is no placeholder"),
        ({"rubric": "{answer} {", "scale": [1, 5]}, "braces that cannot be read"),
        ({"rubric": "{answer.__class__}", "scale": [1, 5]}, "which is no placeholder"),
        ({"rubric": 3, "scale": [1, 5]}, "rubric is not a text"),
        *[({"scale": scale}, "expected two whole numbers") for scale in ([5, 1], [1], [1, 2.5], "1-5", [True, 3])],
        *[({"labels": labels}, "expected words") for labels in ({"a": 1}, {"a": 1, "b": 2}, {"a,b": 1, "c": 0}, 3)],
        ({"labels": {"a": 1, "A": 0}}, "has a word twice"),
        ({"scale": [0, 1], "labels": {"a": 1, "b": 0}}, "labels stands beside scale"),
        ({"image": 1}, "image is 1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("[", r"\[")):
        rubric(**options)
