from __future__ import annotations

from typing import Literal

import pytest

from evalkit import registry
from evalkit.end_of_turn import first_turn
from evalkit.reader import Reader
from evalkit.records import Record
from evalkit.types import Prediction, Response, Sample

CASES = {
    "red": "red",
    "": "",
    "red<|im_end|>": "red",
    "red<|im_end|>\n<|im_start|>user\nAnd now?": "red",
    "red<|endoftext|>red": "red",
    "yes<|im_end|><|im_end|>yes<|im_end|>1": "yes",
    "<|im_start|>assistant\nred<|im_end|>": "<|im_start|>assistant\nred",
    "red\n<|im_start|>user\nAnd now?": "red\n",
    "red</s>": "red",
    "<s> red</s>": "<s> red",
    "red<eos>": "red",
    "red<end_of_turn>\n<start_of_turn>user": "red",
    "red<|eot_id|><|start_header_id|>user<|end_header_id|>": "red",
    "red<|end|>\n<|user|>\nAnd now?<|end|>": "red",
    "red<end_of_utterance>\nUser: And now?": "red",
    "red<｜end▁of▁sentence｜>": "red",
    "<think>so</think>red<|im_end|>blue": "<think>so</think>red",
    "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>red<|return|>blue": (
        "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>red"
    ),
    "<ref>a cup</ref><box>(1,2),(3,4)</box>": "<ref>a cup</ref><box>(1,2),(3,4)</box>",
    "<|box_start|>(1,2),(3,4)<|box_end|><|im_end|>": "<|box_start|>(1,2),(3,4)<|box_end|>",
    "2 < 3 and <b>bold</b>": "2 < 3 and <b>bold</b>",
    "<|im_end|>": "",
}


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_answer_ends_at_first_end_of_turn(text: str, expected: str) -> None:
    assert first_turn(text) == expected
    assert first_turn(expected) == expected


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen2-vl", "qwen3-vl", "generic", None])
@pytest.mark.parametrize("text", ["red<|im_end|>\n<|im_start|>user\nAnd now?", "red<|endoftext|>red", "red</s>blue"])
def test_given_answers_are_parsed_without_further_turns(family: str | None, text: str) -> None:
    reader = Reader(None if family is None else registry.families.get(family))
    sample = Sample("0", (), "What colour?", ("red",), cluster="0")
    assert reader.parse(registry.tasks.get("vqav2"), sample, text, ()).value == "red"


NESTED = "<think>a <think>Is it blue? I think that it is red, because of the colour.</think> red"


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen2-vl", "qwen3-vl", "generic"])
@pytest.mark.parametrize(
    ("text", "finish", "value"),
    [
        (NESTED, "stop", "red"),
        (NESTED, "length", None),
        (NESTED, None, None),
        (f"{NESTED}<|im_end|>", None, "red"),
        (f"{NESTED}<|im_end|>\n<|im_start|>user\nAnd", "length", "red"),
    ],
)
def test_one_closing_marker_for_two_is_read_by_how_the_answer_ended(
    family: str, text: str, finish: Literal["stop", "length"] | None, value: str | None
) -> None:
    reader = Reader(registry.families.get(family))
    task, sample = registry.tasks.get("vqav2"), Sample("0", (), "What colour?", ("red",), cluster="0")
    assert reader.parse(task, sample, text, (), finish).value == value
    digest = "" if finish is None else "0123456789abcdef"  # an answer from a file has no prompt
    record = Record(sample, digest, Response("0", text, finish=finish or "stop"), Prediction(value))
    assert record.parts.complete == (value is not None)
    assert record.truncated == (value is None or finish == "length")


def test_one_closing_marker_for_two_in_boxes_of_stated_coordinates() -> None:
    reader = Reader(boxes="pixels")
    task, sample = registry.tasks.get("refcoco"), Sample("0", (), "the cat", ((1, 2, 3, 4),), cluster="0")
    text = NESTED.replace("</think> red", "</think>[1, 2, 3, 4]")
    assert reader.parse(task, sample, text, (), "stop").value == (1, 2, 3, 4)
    assert reader.parse(task, sample, text, (), "length").value is None
    assert reader.parse(task, sample, text, ()).value is None
