"""lmms-eval's and MMMU's rules for option letters: cases whose outcome was checked against their own code."""

from __future__ import annotations

import pytest

from evalkit.letters import Options, lmms_eval, mmmu, read_letter

ANIMALS = ("cat", "dog", "fox", "owl")


def letters(text: str, options: tuple[str | None, ...] = ANIMALS) -> str:
    """What each rule of a single benchmark reads, ``-`` for nothing."""
    rules = (
        lmms_eval.read_ai2d, lmms_eval.read_scienceqa, lmms_eval.read_muirbench, lmms_eval.read_blink,
        mmmu.read, mmmu.read_loosely, mmmu.read_pro,
    )  # fmt: skip
    return "".join(rule(text, Options(options)).letter or "-" for rule in rules)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # AI2D, ScienceQA, MuirBench, BLINK, MMMU, lmms-eval's MMMU, MMMU-Pro
        ("B", "BBBBBBB"),
        ("b", "BBBB---"),
        (" B", "-BBBBBB"),
        ("(B)", "B--BBBB"),
        ("B.", "BBBBBBB"),
        ("B. dog", "BBBB-BB"),
        ("  B. dog", "BBBB-BB"),
        ("B dog", "---BBBB"),
        ("A dog.", "---AAAA"),
        ("dog", "---D---"),
        ("The answer is B", "----BBB"),  # BLINK's T is no option
        ("Answer: B", "---ABBB"),
        ("Answer: B. dog, not (C)", "---ACCC"),
        ("NASA is what I see here", "-----AA"),
        ("It is a big brown dog", "----BBB"),
        ("It is (A) or (C)", "----CCC"),
        ("B\n", "-BBB---"),
        ("E", "-------"),
        ("", "-------"),
    ],
)
def test_rules_of_single_benchmarks(text: str, expected: str) -> None:
    assert letters(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        ("B is the one, not C", "B"),  # the beginning goes before the end
        ("not C but B", "B"),
        ("The answer is B because A is wrong", "A"),  # the last of the letters' first places after the phrase
        ("The correct answer is (B).", "B"),
        ("I think (A) or B. is right", "A"),  # parentheses go before a point
        ("正解は C です", "C"),
        ("정답은 C 입니다", "C"),
        ("ABD", "D"),  # any capital, as a last resort
        ("no idea", None),
        ("", None),
    ],
)
def test_extract_mcq_answer(text: str, expected: str | None) -> None:
    assert read_letter(text, ANIMALS, lmms_eval.LATEST).letter == expected


def test_letters_beyond_the_options() -> None:
    """Tasks of lmms-eval that ask for A to D read D where there are two options; it is wrong, and none here."""
    assert read_letter("D", ("cat", "dog"), lmms_eval.LATEST).letter is None
    assert lmms_eval.read("D", Options(("cat", "dog")), "ABCD").source == lmms_eval.BEYOND
    assert lmms_eval.read("C or (B)", Options(("cat", "dog")), "ABCD").letter is None
    assert lmms_eval.read("C or (B)", Options(("cat", "dog"))).letter == "B"


def test_options_that_are_images_have_no_text() -> None:
    assert letters("It shows a big brown dog", (None, None, "dog")) == "----CCC"
    assert letters("It shows a big brown cat", (None, None, "dog")) == "-------"
