"""The API key in replies."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from evalkit.model.server.secrets import MASKED, Mask

KEY = "sk-a/b+c=\"d'e&f<g>4711"


@pytest.mark.parametrize(
    "spelled",
    [KEY, quote(KEY, safe=""), quote(KEY),
     json.dumps(KEY)[1:-1], repr(KEY)[1:-1], "sk-a/b+c=&quot;d&#x27;e&amp;f&lt;g&gt;4711",
     base64.b64encode(f":{KEY}".encode()).decode().rstrip("=")],
)  # fmt: skip
def test_key_is_replaced_however_it_is_spelled(spelled: str) -> None:
    mask = Mask(KEY)
    assert mask.text(f"a {spelled} b {spelled}") == f"a {MASKED} b {MASKED}"
    assert mask.value({spelled: [spelled, {"x": spelled}, 5, None]}) == {MASKED: [MASKED, {"x": MASKED}, 5, None]}


@pytest.mark.parametrize("key", ["EMPTY", "none", "anything", "a", "dummykey"])
def test_placeholders_are_words_that_answers_may_have(key: str) -> None:
    mask = Mask(key)
    assert mask.text(f"The shelf is {key}.") == f"The shelf is {key}."
    assert mask.message(f"wrong key {key}") == f"wrong key {MASKED}"


@pytest.mark.parametrize("key", ["token-abc123", "12345678", "abcdefghijklmnopqrst"])
def test_other_keys_are_secrets(key: str) -> None:
    assert Mask(key).text(f"x {key}") == f"x {MASKED}"


def test_without_key_nothing_is_replaced() -> None:
    assert Mask(None).value(["***", {"a": "b"}]) == ["***", {"a": "b"}]
    assert Mask(None).message("x") == "x"
