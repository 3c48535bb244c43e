"""Values of LaTeX arithmetic, MATH-Vision's comparison, MathVista's normalisation."""

from __future__ import annotations

import time
from typing import Any

import pytest

from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.mathvision import METRICS as VISION
from evalkit.metrics.mathvision import are_equal
from evalkit.metrics.mathvista import METRICS as VISTA
from evalkit.metrics.text.latex_values import latex_value
from evalkit.metrics.text.math_answers import math_vision_answer
from evalkit.types import Answered, Prediction, Sample

# What latex2sympy2 1.9.1 gives, evaluated as MATH-Vision's scorer does (None: an exception).
VALUES = {
    r"\frac{4}{3}": 4 / 3, "4/3": 4 / 3, r"-\!2": None, "-2": -2, r"42\%": 0.42, r"42 \%": 0.42, "42%": None, "3}": 3, "3)": 3,
    "(3": None, "3x": None, "x": None, "1,000": 1000, "$1:4$": 0.25, "1:2:3": 1 / 6, r"6\frac{1}{4}": 1.5, "5!": 120,
    "|-3|": None, r"\sqrt[3]{8}": 2, r"\sqrt{2}": 2**0.5, r"\sqrt2": None, r"\frac12": None, r"2\pi": 6.283185307179586,
    "pi": None, r"30^\circ": None, "2^3": 8, "2^-3": None, "2^{-3}": 0.125, "-3^2": -9, r"2\times3": 6, r"2\div4": 0.5,
    "6/2(1+2)": 1, ".5": 0.5, "5.": 5, "--3": 3, "3-": None, "x=3": 3, "y=3": 3, "3=x": None, "10:30": 1 / 3, r"\infty": None,
    r"3\text{cm}": None, r"\left(3\right)": 3, r"\{3\}": 3, "[3]": 3, "{3}": 3, "3 4": 12, r"3\;4": None, r"3\,4": 12,
    "e": None, "1e3": None, "2^{2^{3}}": 256, r"50\%\pi": 1.5707963267948966, r"\frac{3}{4}\%": None, r"3\pm2": None,
    "2(3)": 6, "3;4": None, "3?": None, "5-2-3-4-1": -5, r"\frac{1}{0}": None, "1/0": None, r"\sqrt{-1}": None,
    "2^10": 1024, "3^2^2": 81, r"1/2\pi": 0.15915494309189535, "2 -3": -1, "2+-3": -1, r"2\cdot -3": -6, "01": 1,
    "1.2.3": 0.36, "(3]": None, "3|": None, "3*": None, r"\frac{1}{2": None, "1 000": 0, ",3": None, "3_1": 3, "3&4": 3,
    r"\frac{3^{1008}-1}{3^{1009}}": 1 / 3, r"\displaystyle\frac{3}{4}": 0.75, r"\arccos\frac{5}{6}": 0.5856855434571508,
    r"\frac{1}{2}.theansweris\boxed{d": 0.5, "": None, "-": None, "½": None, "３": None,
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_values_are_those_of_latex2sympy(text: str) -> None:
    found, wanted = latex_value(text), VALUES[text]
    assert found is None if wanted is None else found is not None and float(found) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text",
    ["(" * 1500, "-" * 1900, "9^{9^{9^{9}}}", "9" * 1900 + "^" + "9" * 50, "1000!", r"\frac" * 300, "2^" * 900, r"\sqrt{" * 300],
)  # fmt: skip
def test_hostile_expressions_have_no_value_and_take_no_time(text: str) -> None:
    began = time.process_time()  # quadratic time would be minutes
    assert latex_value(text) is None
    math_vision_answer(text * 50)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("right", "given", "equal"),
    [
        ("A", "a", True), ("$\\frac{1}{2}$", "0.5", True), ("$6+\\pi$", "6+\\pi", True), ("5-2-3-4-1", "5-2-3-1-4", True),
        ("(1, 2)", "(1,2)", True), ("(1,2)", "(1.0,2)", True), ("(1,2)", "(1,3)", False), ("(a,1/2)", "(a,0.5)", True),
        ("(1,x)", "(1,2)", False), ("9^{999}", "9^{999}+0", True), ("9^{999}/2", "9^{999}", False), ("\\pi9^{999}", "3", False), ("", "1", False), ("1", " ", False), ("0.333", "\\frac{1}{3}", True), ("0.34", "\\frac{1}{3}", False),
    ],
)  # fmt: skip
def test_comparison(right: str, given: str, equal: bool) -> None:
    assert are_equal(right, given) is equal


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("So the answer is (B).", "b"), ("The answer is 4/3.", "4/3"), ("\\boxed{\\frac12}", "\\frac12"), ("B\nbecause", "b"),
        ("\\boxed{1} or rather \\boxed{2}", "2"), ("x = 3", "3"), ("It is 12.", "12"), ("The final answer is 7. I am sure", "7"),
        ("\\boxed{\\sqrt2}", "\\sqrt{2}"), ("3/4", "\\frac{3}{4}"), ("0.5", "\\frac{1}{2}"), ("$30^\\circ$", "30"), ("", ""),
    ],
)  # fmt: skip
def test_extraction(solution: str, answer: str) -> None:
    assert math_vision_answer(solution) == answer


def vision(number: int, references: tuple[str, ...], given: str | None, options: tuple[str, ...] = ()) -> Answered:
    meta = {"subject": "algebra", "level": str(number % 2)}
    return Answered(Sample(str(number), (), "?", references, str(number), options, meta), Prediction(given))


def test_mathvision_by_both_rules() -> None:
    options = ("1", "2", "3", "4", "5")
    answers = [
        vision(0, ("B", "2"), "\\boxed{B}", options),
        vision(1, ("B", "2"), "Therefore, the result is \\boxed{2}.", options),  # the option's text
        vision(2, ("60",), "It is 60."),  # VLMEvalKit would ask its judge
        vision(3, ("60",), None),
    ]
    found = score_answers(VISION["mathvision_accuracy"], answers)
    assert found.values["accuracy"] == 75
    assert found.values["accuracy[1]"] == 50
    assert found.values["parse_rate"] == 75
    assert score_answers(VISION["mathvision_vlmevalkit"], answers).values["accuracy"] == 50


def vista(number: int, right: str, given: str | None, **meta: Any) -> Answered:
    options = tuple(meta.pop("options", ()))
    kind = {"question_type": "multi_choice", "answer_type": "text"} if options else {"question_type": "free_form"}
    return Answered(Sample(str(number), (), "?", (right,), "c", options, {**kind, **meta}), Prediction(given))


@pytest.mark.parametrize(
    ("answered", "official", "prefetch"),
    [
        (vista(1, "yes", "B", options=["no", "yes"]), True, True),
        (vista(1, "yes", "(b) yes", options=["no", "yes"]), True, True),
        (vista(1, "yes", "yess", options=["no", "yes"]), True, True),
        (vista(1, "12 cm", "12cm", options=["34 m", "12 cm"]), True, False),  # nearest by edit distance
        (vista(1, "no", "zzzz", options=["no", "none"]), True, False),  # the first of the nearest
        (vista(1, "3", "3.7", answer_type="integer"), True, False),
        (vista(1, "3", " 3 ", answer_type="integer"), True, True),
        (vista(1, "3", "three", answer_type="integer"), False, False),
        (vista(1, "3", "inf", answer_type="integer"), False, False),
        (vista(1, "1.2", "1.23", answer_type="float", precision=1.0), True, False),
        (vista(1, "1.2", "1.20", answer_type="float", precision=1.0), True, True),
        (vista(1, "[2014, 2016]", "[2014, 2016]", answer_type="list"), True, False),
        (vista(1, "3", None, answer_type="integer"), False, False),
    ],
)
def test_mathvista_normalisation(answered: Answered, official: bool, prefetch: bool) -> None:
    assert score_answers(VISTA["mathvista_accuracy"], [answered]).values["accuracy"] == 100 * official
    assert score_answers(VISTA["mathvista_vlmevalkit"], [answered]).values["accuracy"] == 100 * prefetch


def test_mathvista_needs_the_type_of_the_answer() -> None:
    for sample in (vista(1, "3", "3").sample, vista(1, "3", "3", answer_type="float").sample):
        with pytest.raises(UserError, match="has neither options nor an answer_type"):
            check_metric(VISTA["mathvista_accuracy"], [sample], "vqa", "x/y")
