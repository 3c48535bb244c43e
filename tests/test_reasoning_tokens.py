"""How many tokens of an answer are reasoning, and what records keep of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.jobs import Record
from evalkit.reasoning import split
from evalkit.reasoning_tokens import count_reasoning, reasoning_end
from evalkit.results.store.journal import record_line
from evalkit.scoring import mean_reasoning_tokens
from evalkit.types import Prediction, Response, Sample


@pytest.mark.parametrize(
    ("text", "prompt", "end"),
    [
        ("red", "", 0), ("red", "<think>\n", 3), ("<think>a</think>red", "", 16), ("a</think>red", "<think>\n", 9),
        ("a</think>red", "", 9), ("<think>a", "", 8), ("<think>a</think>b<think>c", "", 16), ("", "<think>\n", 0),
        ("<think>a</think>red", "<think>\n", 16),
    ],
)  # fmt: skip
def test_end_of_reasoning(text: str, prompt: str, end: int) -> None:
    assert reasoning_end(text, prompt) == end


@given(st.lists(st.sampled_from(["a", "bc", " ", "<think>", "</think>", "<", "red"]), max_size=30))
def test_tokens_of_reasoning_are_those_before_the_answer(pieces: list[str]) -> None:
    text = "".join(pieces)
    end = reasoning_end(text)
    count = count_reasoning(range(len(pieces)), end, lambda ids: sum(len(pieces[i]) for i in ids))
    assert len("".join(pieces[:count])) >= end
    assert count == 0 or len("".join(pieces[: count - 1])) < end
    parts = split(text)
    if parts.complete and parts.rule != "none":
        assert text.endswith(parts.answer)
        assert len(text) - end == len(parts.answer)


def record(text: str, *, finish: str = "stop", tokens: int | None = None) -> Record:
    response = Response("1", text, tuple(range(9)), finish, reasoning_tokens=tokens)  # type: ignore[arg-type]
    return Record(Sample("1", (), "?", ("a",), cluster="1"), "", response, Prediction("a"))


def test_record_keeps_reasoning_and_final_answer() -> None:
    line = record_line(record("<think>a</think>\nred", tokens=7))
    assert (line["reasoning"], line["reasoning_tokens"], line["final"]) == ("opened", 7, "red")
    cut = record_line(record("<think>a", finish="length", tokens=9))
    assert (cut["reasoning"], cut["reasoning_tokens"], cut["final"]) == ("unfinished", 9, "")
    assert not {"reasoning", "reasoning_tokens", "final"} & set(record_line(record("red")))


def test_unfinished_reasoning_is_truncated() -> None:
    assert record("<think>a").truncated
    assert record("red", finish="length").truncated
    assert not record("<think>a</think>red").truncated
    assert not record("<think>a", finish="error").truncated


def test_mean_of_reasoning_tokens() -> None:
    some = [record("<think>a</think>b", tokens=6), record("b", tokens=0)]
    assert mean_reasoning_tokens(some) == 3
    assert mean_reasoning_tokens([record("b")]) is None
    assert mean_reasoning_tokens([*some, record("<think>a</think>b")]) is None  # one is unknown
