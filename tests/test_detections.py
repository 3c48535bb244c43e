"""Labelled boxes in answers, by each rule: what counts, what is left out, and what cannot be parsed."""

from __future__ import annotations

import time

import pytest

from evalkit import detections
from evalkit.detections import COMPLETE, DEFAULT, QWEN3_VL, RULES, read_boxes
from evalkit.errors import UserError

A, B = ("fish", (1.0, 2.0, 3.0, 4.0)), ("Shark", (5.0, 6.0, 7.0, 8.0))
TWO = '[\n\t{"bbox_2d": [1, 2, 3, 4], "label": "fish"},\n\t{"bbox_2d": [5, 6, 7, 8], "label": "Shark"}\n]'
BROKEN = TWO[: TWO.index("7, 8")]
NONE = None

# The answer, then what evalkit-boxes-1, evalkit-boxes-complete-1 and qwen3-vl-evaluation read in it.
CASES = {
    "list": (TWO, (A, B), (A, B), (A, B)),
    "fenced": (f"```json\n{TWO}\n```", (A, B), (A, B), (A, B)),
    "fence without a language": (f"```\n{TWO}\n```", (A, B), (A, B), (A, B)),
    "after a sentence": (f"Here they are:\n```json\n{TWO}\n```", (A, B), (A, B), NONE),
    "before a sentence": (f"{TWO}\nThat is all.", (A, B), (A, B), NONE),
    "in an answer's tags": (f"<answer>{TWO}</answer>", (A, B), (A, B), NONE),
    "none": ("[]", (), (), ()),
    "none, fenced": ("```json\n[]\n```", (), (), ()),
    "truncated": (f"```json\n{BROKEN}", NONE, (A,), NONE),
    "truncated between objects": (TWO[: TWO.index(",\n\t{")], NONE, (A,), NONE),
    "truncated in the first": ('[{"bbox_2d": [1, 2', NONE, NONE, NONE),
    "prose": ("There is a fish at the left.", NONE, NONE, NONE),
    "empty": ("", NONE, NONE, NONE),
    "one object": ('{"bbox_2d": [1, 2, 3, 4], "label": "fish"}', (A,), (A,), NONE),
    "three numbers": (TWO.replace("[1, 2, 3, 4]", "[1, 2, 3]"), (B,), (B,), (B,)),
    "only three numbers": ('[{"bbox_2d": [1, 2, 3], "label": "fish"}]', NONE, NONE, ()),
    "no label": ('[{"bbox_2d": [1, 2, 3, 4]}]', (("", A[1]),), (("", A[1]),), NONE),
    "a label that is a number": ('[{"bbox_2d": [1, 2, 3, 4], "label": 5}]', (("", A[1]),), (("", A[1]),), NONE),
    "text as numbers": ('[{"bbox_2d": "abcd", "label": "fish"}]', NONE, NONE, NONE),
    "infinite": ('[{"bbox_2d": [1, 2, 3, 1e999], "label": "fish"}]', NONE, NONE, NONE),
    "another key": ('[{"bbox": [1, 2, 3, 4], "category": "fish"}]', (A,), (A,), ()),
    "JSON's true": ('[{"bbox_2d": [1, 2, 3, 4], "label": "fish", "crowd": true}]', (A,), (A,), NONE),
    "Python": ("[{'bbox_2d': (1, 2, 3, 4), 'label': 'fish'}]", NONE, NONE, (A,)),
    "twice": ('[{"bbox_2d": [1, 2, 3, 4], "label": "fish"}, {"bbox_2d": [1, 2, 3, 4], "label": "fish"}]', *3 * ((A, A),)),
    "swapped": ('[{"bbox_2d": [3, 4, 1, 2], "label": "fish"}]', *3 * ((("fish", (3.0, 4.0, 1.0, 2.0)),),)),
    "tags": ("<ref>fish</ref><box>(1,2),(3,4)</box><ref>Shark</ref><box>(5,6),(7,8)</box>", (A, B), (A, B), NONE),
    "special tokens": (
        "<|object_ref_start|>fish<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(5,6),(7,8)<|box_end|>",
        (A, ("fish", B[1])), (A, ("fish", B[1])), NONE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_rule(name: str) -> None:
    answer, *wanted = CASES[name]
    assert [read_boxes(answer, rule) for rule in (DEFAULT, COMPLETE, QWEN3_VL)] == wanted


def test_unknown_rule() -> None:
    with pytest.raises(UserError, match="there is no rule 'best' for boxes: there are evalkit-boxes-1"):
        detections.box_rule("best")


OBJECT = '{"bbox_2d": [1, 2, 3, 4], "label": "x"}'


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "answer",
    [
        "[" * 100_000, "{" * 100_000, '[{"a":' * 50_000, f"[{','.join([OBJECT] * 5_000)}", "[ " * 100_000, "(" * 100_000,
        "<ref>" * 50_000, "```json [ " * 30_000, '"\\' * 100_000, "-" * 200_000, "[{" + '"a":1,' * 50_000, "9" * 100_000,
    ],
    ids=range(12),
)  # fmt: skip
def test_hostile_answers_take_linear_time(rule: str, answer: str) -> None:
    began = time.process_time()
    read_boxes(answer, rule)
    assert time.process_time() - began < 3
