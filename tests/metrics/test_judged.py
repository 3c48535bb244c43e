"""Judged metrics: what they ask, to the byte, what they read in replies, and how verdicts become scores."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import registry
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.judged_contract import score_verdicts
from evalkit.judging import read_verdict
from evalkit.types import Answered, JudgedAnswer, JudgeQuestion, Prediction, Response, Sample, Scores, TextPart, Verdict

JUDGED = [metric for metric in registry.metrics.all() if isinstance(metric, JudgedMetric)]


def metric_of(name: str) -> JudgedMetric:
    found = registry.metrics.get(name)
    assert isinstance(found, JudgedMetric)
    return found


def sample_of(*references: str, id: str = "1", text: str = "Q{x}?", **meta: Any) -> Sample:
    return Sample(id, (), text, references, id, meta=meta)


MIA = [
    sample_of(
        components=[f"c{n}" for n in range(count)], component_weight=list(range(1, count + 1)),
        component_type=["t"] * count,
    )
    for count in range(1, 6)
]  # fmt: skip

MATHVERSE = sample_of("a", question="P{y}", question_for_eval="F{z}")
INTEGER = sample_of("3", question_type="free_form", answer_type="integer", precision=None)


def asked(name: str, sample: Sample, answer: str = "ans", **known: Verdict) -> list[JudgeQuestion]:
    return list(metric_of(name).questions(Answered(sample, Prediction(answer)), known))


def digest(question: JudgeQuestion) -> str:
    texts = [part.text for message in question.messages for part in message.content if isinstance(part, TextPart)]
    return hashlib.sha256("\x1e".join(texts).encode()).hexdigest()[:16]


def reply(question: JudgeQuestion, text: str, finish: Any = "stop") -> Verdict:
    return read_verdict(question, registry.families.get("generic"), Response("1", text, finish=finish))


# ------------------------------------------------------------------------------------------------------------ questions


@pytest.mark.parametrize(
    ("name", "sample", "expected"),
    [
        ("mmvet", sample_of("a<AND>b<OR>c"), ["c4a7a502f8170425"]),
        ("mmvet_vlmevalkit", sample_of("a<AND>b<OR>c"), ["426a664dfe6a1195"]),
        ("llavabench", sample_of("ref", category="conv", caption="cap"), ["ce5e02c48a61b8e0", "e5b7449fcd79f43c"]),
        ("llavabench_official", sample_of("ref", category="conv", caption="cap"), ["ce5e02c48a61b8e0"]),
        ("simplevqa", sample_of("a"), ["f0fb51b0999805a6"]),
        ("miabench", MIA[0], ["e3df64ff997d4d47"]),
        ("miabench", MIA[1], ["5275b8bf1428dba8"]),
        ("miabench", MIA[2], ["9c03e9fdf3279894"]),
        ("miabench", MIA[4], ["d7a292c734f306d1"]),
        ("mathverse", MATHVERSE, ["10d7d34bcc6ad589"]),
        ("mathverse_vlmevalkit", MATHVERSE, ["cb7c5224b80cb2e8"]),
        ("mathvista_judged", INTEGER, ["b5fcf2c1d021055c"]),
    ],
)
def test_prompts_are_those_of_published_code(name: str, sample: Sample, expected: list[str]) -> None:
    """The digests are of what the published functions make of the same input."""
    assert [digest(question) for question in asked(name, sample)] == expected


def test_second_question_depends_on_first_verdict() -> None:
    found = {"extraction": Verdict("E{w}")}
    assert [digest(q) for q in asked("mathverse", MATHVERSE, **found)] == ["c3899002af64deb4"]
    assert [digest(q) for q in asked("mathverse_vlmevalkit", MATHVERSE, **found)] == ["6fe9a02eb50bc79b"]
    same = {"extraction": Verdict("a")}
    assert asked("mathverse_vlmevalkit", MATHVERSE, **same) == []  # VLMEvalKit asks no judge then
    assert len(asked("mathverse", MATHVERSE, **same)) == 1


def test_mathvista_asks_only_what_rules_leave_open() -> None:
    choice = Sample(
        "1", (), "Q?", ("cat",), "1", ("dog", "cat"), {"question_type": "multi_choice", "answer_type": "text"}
    )
    assert asked("mathvista_judged", INTEGER, "3") == []
    assert len(asked("mathvista_judged", INTEGER, "4")) == 1  # VLMEvalKit asks about wrong numbers
    assert asked("mathvista_judged", choice, "The answer is A.") == []
    assert len(asked("mathvista_judged", choice, "Maybe A, maybe B.")) == 1


# ------------------------------------------------------------------------------------------------------------- verdicts

UNREADABLE, OUT, CUT = "unreadable", "out of range", "truncated"
MMVET = ("mmvet", sample_of("a"))
WHOLE = ("mmvet_vlmevalkit", sample_of("a"))
LLAVA = ("llavabench", sample_of("ref", category="conv", caption="cap"))
SIMPLE = ("simplevqa", sample_of("a"))
TWO = ("miabench", MIA[1])


@pytest.mark.parametrize(
    ("case", "text", "expected"),
    [
        (MMVET, "0.7", 0.7),
        (MMVET, " 1.0 \n", 1.0),
        (MMVET, "0.5\nThe answer has one of two elements.", 0.5),
        (MMVET, "<think>Is it 0.3?</think>0.4", 0.4),
        (MMVET, "The score is 0.7", UNREADABLE),
        (MMVET, '{"score": 0.7}', UNREADABLE),
        (MMVET, "I'm sorry, I can't grade this.", UNREADABLE),
        (MMVET, "", UNREADABLE),
        (MMVET, "0.7/1.0", UNREADABLE),
        (MMVET, "nan", UNREADABLE),
        (MMVET, "1e-1", UNREADABLE),
        (MMVET, "٠.٥", 0.5),
        (MMVET, "10", OUT),
        (MMVET, "-0.1", OUT),
        (MMVET, "<think>It may be 0.7, or", CUT),
        (WHOLE, "0.7", 0.7),
        (WHOLE, "0.7 because", UNREADABLE),
        (LLAVA, "8 9\nThe second is better.", (8.0, 9.0)),
        (LLAVA, "8,9", (8.0, 9.0)),
        (LLAVA, "8, 9\n", (8.0, 9.0)),
        (LLAVA, "8.5 9", (8.5, 9.0)),
        (LLAVA, "8 9 10", UNREADABLE),
        (LLAVA, "Assistant 1: 8, Assistant 2: 9", UNREADABLE),
        (LLAVA, "\n8 9", (8.0, 9.0)),  # a reply without the white space around it
        (LLAVA, "11 9", OUT),
        (LLAVA, "0 9", OUT),
        (SIMPLE, '```json\n{"预测答案0": "正确"}\n```', "correct"),
        (SIMPLE, '{"预测答案0": "**错误**"}', "incorrect"),
        (SIMPLE, '{"预测答案0": {"conclusion": "未尝试"}}', "not_attempted"),
        (SIMPLE, '{"预测答案0": "正确"', "correct"),  # as VLMEvalKit mends it
        (SIMPLE, "正确", UNREADABLE),
        (SIMPLE, '结论如下：{"预测答案0": "正确"}', UNREADABLE),
        (SIMPLE, '{"预测答案0": "基本正确，但是"}', UNREADABLE),
        (SIMPLE, "[1]", UNREADABLE),
        (("mathvista_judged", INTEGER), " 3\n", "3"),
        (("mathvista_judged", INTEGER), "  ", UNREADABLE),
        (("mathverse", MATHVERSE), "Extracted Answer: (-2, 1)", "(-2, 1)"),
        (("mathverse_vlmevalkit", MATHVERSE), "Extracted Answer: D", "Extracted Answer: D"),
        (TWO, "score of component 1: 2/2, score of component 2: 4/8, total score: 6/10. Good.", (1.0, 0.5, 0.6)),
        (TWO, "Score of component 1: 2/2, score of component 2: 8/8, total score: 10/10", (1.0, 1.0, 1.0)),
        (TWO, "score of component 1: 1.5/2, score of component 2: 4/8, total score: 6/10.", UNREADABLE),
        (TWO, "score of component 1: 2/2, total score: 6/10.", UNREADABLE),
        (TWO, "score of component 1: 3/2, score of component 2: 4/8, total score: 7/10.", OUT),
        (TWO, "score of component 1: 2/0, score of component 2: 4/8, total score: 7/10.", UNREADABLE),
    ],
)
def test_replies(case: tuple[str, Sample], text: str, expected: object) -> None:
    verdict = reply(asked(*case)[0], text)
    if isinstance(expected, str) and expected in (UNREADABLE, OUT, CUT):
        assert (verdict.value, verdict.problem) == (None, expected)
    else:
        assert (verdict.value, verdict.problem) == (expected, "")


@pytest.mark.parametrize(
    ("text", "official", "vlmevalkit"),
    [
        ("1", 1.0, 1.0), (" 0 ", 0.0, 0.0), ("Judgement: 1", 1.0, UNREADABLE), ("2", UNREADABLE, UNREADABLE),
        ("1.0", UNREADABLE, UNREADABLE), ("They are consistent, so 1", UNREADABLE, UNREADABLE),
    ],
)  # fmt: skip
def test_judgements_of_mathverse(text: str, official: object, vlmevalkit: object) -> None:
    found = {"extraction": Verdict("E")}
    for name, expected in (("mathverse", official), ("mathverse_vlmevalkit", vlmevalkit)):
        verdict = reply(asked(name, MATHVERSE, **found)[0], text)
        assert expected == (verdict.problem or verdict.value)


def test_reply_that_was_cut_off() -> None:
    """It is read only where the verdict opens the reply."""
    assert reply(asked(*LLAVA)[0], "8 9\nThe second", "length").value == (8.0, 9.0)
    assert reply(asked(*SIMPLE)[0], '{"预测答案0": "正确"}', "length").problem == CUT


@pytest.mark.parametrize("metric", JUDGED, ids=lambda metric: metric.name)
@given(text=st.text(max_size=60) | st.sampled_from(["9" * 9999 + "/1", "{" * 9999, "[" * 99999, "1 " * 9999]))
def test_readers_take_any_text(metric: JudgedMetric, text: str) -> None:
    for prompt in metric.prompts:
        value = prompt.read(text)
        assert value is None or prompt.scale is None or isinstance(prompt.scale.holds(value), bool)


# --------------------------------------------------------------------------------------------------------------- scores


def scored(name: str, samples: list[Sample], values: list[Any], keys: tuple[str, ...]) -> Scores:
    judged = [
        JudgedAnswer(Answered(sample, Prediction(None)))
        if value is None
        else JudgedAnswer(
            Answered(sample, Prediction("x")),
            {key: Verdict(one) for key, one in zip(keys, value if len(keys) > 1 else [value], strict=True)},
        )
        for sample, value in zip(samples, values, strict=True)
    ]
    return score_verdicts(metric_of(name), judged)


def test_llavabench_has_both_orders_and_their_disagreement() -> None:
    samples = [
        sample_of("r", id=str(n), category=category, caption="c")
        for n, category in enumerate(("conv", "conv", "detail"))
    ]
    pairs = [((8, 6), (7, 8)), ((5, 9), (9, 5)), ((10, 2), (10, 2))]  # the last: whichever comes first is better
    scores = scored("llavabench", samples, pairs, ("reference first", "answer first"))
    reference_first = (6 + 9 + 2) / (8 + 5 + 10)
    answer_first = (7 + 9 + 10) / (8 + 5 + 2)
    both = (6 + 9 + 2 + 7 + 9 + 10) / (8 + 5 + 10 + 8 + 5 + 2)
    assert scores.values["score"] == pytest.approx(100 * both)
    assert scores.values["score[reference first]"] == pytest.approx(100 * reference_first)
    assert scores.values["score[answer first]"] == pytest.approx(100 * answer_first)
    assert scores.values["score[conv]"] == pytest.approx(100 * (6 + 7 + 9 + 9) / (8 + 8 + 5 + 5))
    assert scores.values["disagreement"] == pytest.approx(100 / 3)
    assert scores.values["reference"] == pytest.approx((8 + 5 + 6) / 3)
    assert scores.notes == ["which answer is better depends on the order for 1 of 3 questions"]
    official = scored("llavabench_official", samples, [pair[0] for pair in pairs], ("reference first",))
    assert official.values["score"] == pytest.approx(100 * reference_first)
    assert "disagreement" not in official.values


def test_simplevqa_counts_three_verdicts() -> None:
    samples = [sample_of("a", id=str(n), language="CN" if n < 2 else "EN") for n in range(6)]
    values = ["correct", "incorrect", "correct", "correct", "not_attempted", None]
    scores = scored("simplevqa", samples, values, ("verdict",))
    assert scores.values["accuracy"] == 50.0
    assert scores.values["not_attempted"] == pytest.approx(100 / 3)
    assert scores.values["accuracy_given_attempted"] == 75.0
    assert scores.values["f1"] == pytest.approx(2 * 75 * 50 / 125)
    assert scores.values["accuracy[EN]"] == 50.0


def test_miabench_has_means_by_type() -> None:
    samples = [
        sample_of(id="1", components=["a", "b"], component_weight=[5, 5], component_type=["describe", "grammar"]),
        sample_of(id="2", components=["c"], component_weight=[10], component_type=["describe"]),
        sample_of(id="3", components=["c"], component_weight=[10], component_type=["length"]),
    ]
    scores = scored("miabench", samples, [(0.4, 1.0, 0.7), (1.0, 1.0), None], ("scores",))
    assert scores.values["score"] == pytest.approx(100 * 1.7 / 3)
    assert scores.values["score[describe]"] == pytest.approx(70.0)
    assert scores.values["score[grammar]"] == 100.0
    assert scores.values["score[length]"] == 0.0


def test_mathverse_has_versions_and_subjects() -> None:
    versions = ("Text Lite", "Vision Only", "Vision Only", "Vision Only")
    samples = [
        sample_of("a", id=str(n), question="", question_for_eval="", problem_version=version, subject="Plane Geometry",
                  subfield="Angle")
        for n, version in enumerate(versions)
    ]  # fmt: skip
    pairs = [("x", 1.0), ("y", 0.0), ("a", 1.0)]
    judged = [
        JudgedAnswer(Answered(sample, Prediction("r")), {"extraction": Verdict(text), "score": Verdict(score)})
        for sample, (text, score) in zip(samples, pairs, strict=False)
    ]
    judged.append(JudgedAnswer(Answered(samples[3], Prediction(None))))
    scores = score_verdicts(metric_of("mathverse"), judged)
    assert scores.values["accuracy"] == 50.0
    assert scores.values["accuracy[Vision Only]"] == pytest.approx(100 / 3)
    assert scores.values["accuracy[Plane Geometry]"] == 50.0
    only_extracted = [JudgedAnswer(Answered(samples[0], Prediction("a")), {"extraction": Verdict("a")})]
    assert score_verdicts(metric_of("mathverse_vlmevalkit"), only_extracted).values["accuracy"] == 100.0


@pytest.mark.parametrize("metric", JUDGED, ids=lambda metric: metric.name)
def test_no_answers(metric: JudgedMetric) -> None:
    scores = metric.score(())
    assert math.isnan(scores.values[scores.headline])
    assert scores.signature.startswith(f"{metric.name}|judge:JUDGE|judge-prompt:")
    with pytest.raises(UserError, match="needs a judge; name one with --judge MODEL"):
        metric.score([Answered(sample_of("a"), Prediction("x"))])
