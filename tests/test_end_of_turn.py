from __future__ import annotations

import pytest

from evalkit import registry
from evalkit.end_of_turn import first_turn
from evalkit.reader import Reader
from evalkit.types import Sample

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
