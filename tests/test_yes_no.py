"""Answers to yes/no questions, by each rule."""

from __future__ import annotations

import pytest

from evalkit.errors import UserError
from evalkit.yes_no import DEFAULT, RULES, VLMEVALKIT, read_yes_no

CASES = (
    # answer, evalkit's rule, VLMEvalKit's
    ("Yes", "yes", "yes"),
    ("no.", "no", "no"),
    ("No, there is no dog in the image.", "no", "no"),
    ("**No**", "no", None),  # VLMEvalKit leaves asterisks in place
    ('"Yes"', "yes", "yes"),
    (r"\boxed{Yes}", "yes", "yes"),
    (r"\boxed{\text{no}}", "no", "no"),
    ("The answer is yes.", "yes", "yes"),
    ("First I thought the answer is yes. But the answer is no", "no", None),
    ("Yes, although no dog is visible", "yes", None),
    ("There is no dog.", "no", "no"),
    ("It could be yes or no.", None, None),
    ("Not sure", None, None),
    ("I know", None, None),
    ("", None, None),
    ("是的", "yes", None),
    ("不是", "no", None),
    ("答案是 yes", "yes", "yes"),
)


@pytest.mark.parametrize(("answer", "ours", "vlmevalkit"), CASES)
def test_reads(answer: str, ours: str | None, vlmevalkit: str | None) -> None:
    assert read_yes_no(answer) == ours
    assert read_yes_no(answer, VLMEVALKIT) == vlmevalkit


def test_unknown_rule() -> None:
    assert set(RULES) == {DEFAULT, VLMEVALKIT}
    with pytest.raises(UserError, match="there is no rule 'mine' for yes and no: there are evalkit-yes-no-1"):
        read_yes_no("yes", "mine")
