"""Qwen-VL's tokenizer: equal to the original code's recorded output, and its own properties on a small vocabulary."""

from __future__ import annotations

import base64
import json
import pickle
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evalkit.installation import install_command
from evalkit.model.qwen_vl import QwenVLTokenizer
from evalkit.model.qwen_vl.vocabulary import GROUNDING, MARK, SPAN, quote

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "qwen_vl"
TAGS = {*GROUNDING, "<img>", "</img>", "<imgpad>"}


def write_tiny(path: Path) -> Path:
    """A vocabulary of 262 ranks, in which a byte's rank is not its value."""
    merges = [b"he", b" t", b" the", "é".encode(), b"<|", b"im"]
    tokens = [*(bytes([(rank + 33) % 256]) for rank in range(256)), *merges]
    path.write_text("".join(f"{base64.b64encode(t).decode()} {rank}\n" for rank, t in enumerate(tokens)))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> QwenVLTokenizer:
    return QwenVLTokenizer(write_tiny(tmp_path_factory.mktemp("tiny") / "qwen.tiktoken"))


@pytest.fixture(scope="module")
def real() -> QwenVLTokenizer:
    if not (GOLDEN / "qwen.tiktoken").is_file():
        pytest.skip("the real vocabulary is not here")
    return QwenVLTokenizer(GOLDEN / "qwen.tiktoken")


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    if not (GOLDEN / "tokenizer_cases.json").is_file():
        pytest.skip("the recorded cases are not here")
    found: dict[str, Any] = json.loads((GOLDEN / "tokenizer_cases.json").read_text(encoding="utf-8"))
    return found


# ------------------------------------------------------------------------------------------- as the original code did


@pytest.mark.parametrize("number", range(37))
def test_recorded_texts(real: QwenVLTokenizer, cases: dict[str, Any], number: int) -> None:
    case = cases["encode"][number]
    text, ids = case["text"], case["ids"]
    assert real(text)["input_ids"] == ids
    assert real.token_ids(text) == ids
    assert real.decode(ids) == case["decoded"]["result"]
    assert real.decode(ids, skip_special_tokens=True) == case["decoded_skip_special"]["result"]
    assert real.encode(text, allowed_special=TAGS) == case.get("ids_allowed_image_tags_only", ids)
    assert real.encode(text, allowed_special=set()) == case.get("ids_allowed_none", ids)
    assert real.encode(text, split_special_tokens=True) == case.get("ids_allowed_none", ids)
    if "tokens" in case:
        wanted = [token if isinstance(token, str) else bytes.fromhex(token["hex"]) for token in case["tokens"]]
        assert real.tokenize(text) == wanted
        assert real.convert_ids_to_tokens(ids) == wanted


def test_all_recorded_texts_are_tested(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    assert len(cases["encode"]) == 37
    assert cases["meta"]["len_tokenizer"] == len(real) == real.vocab_size == len(real.get_vocab()) == 151860
    assert {name: real.convert_tokens_to_ids(name) for name in cases["meta"]["special_ids"]} == (
        cases["meta"]["special_ids"]
    )


def test_recorded_ids(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    for case in cases["decode"]:
        assert real.decode(case["ids"]) == case["decoded"]["result"]
        assert real.decode(case["ids"], skip_special_tokens=True) == case["decoded_skip_special"]["result"]
        assert real.decode(case["ids"], errors="ignore") == case["decoded_errors_ignore"]["result"]


def test_text_refused_by_the_original_is_refused(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    said = ("is not closed", "has 257 bytes, more than 256", "has <ref> in it")
    for case, words in zip(cases["encode_errors"], said, strict=True):
        with pytest.raises(ValueError, match=words):
            real(case["text"])


def test_ids_the_original_cannot_decode_are_decoded(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    full, unclosed, beyond = (case["ids"] for case in cases["decode_errors"])
    assert real.decode(full) == f"<img>{'a' * 256}</img>"
    assert real.decode(unclosed) == f"<img>{real.decode([97])}<imgpad>"
    assert real.decode(beyond) == "Hello\ufffd"
    assert real.decode(beyond, skip_special_tokens=True) == "Hello"


def test_recorded_lists(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    for case in (*cases["from_list_format"], *cases["variant"]["from_list_format"]):
        assert real.token_ids(case["text"]) == case["ids"]
    control = set(real.special_ids) - TAGS - {"<|endoftext|>"}
    for case in cases["to_list_format"]:
        if case["items"]["ok"]:
            assert real.decode(real.token_ids(case["text"], TAGS, control)) == case["text"]
        else:
            with pytest.raises(ValueError, match=r"<\|im_start\|>, which disallowed_special excludes"):
                real.token_ids(case["text"], TAGS, control)
    with pytest.raises(ValueError, match=r"<\|endoftext\|>, which disallowed_special excludes"):
        real.token_ids("a<|endoftext|>", (), "all")


def test_recorded_padding(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    wanted = cases["padding"]["left_pad_eod"]["result"]
    padded = real(cases["padding"]["texts"], padding=True)
    assert padded["input_ids"] == wanted["input_ids"]
    assert padded["attention_mask"] == wanted["attention_mask"]
    unset = QwenVLTokenizer(GOLDEN / "qwen.tiktoken", pad_token=None)  # as the original comes
    with pytest.raises(ValueError, match="does not have a padding token"):
        unset(cases["padding"]["texts"], padding=True)


def test_recorded_replies(real: QwenVLTokenizer, cases: dict[str, Any]) -> None:
    """Cut at the first token that ends a turn or the text, and nowhere else.

    The original also loses the last token where none does, cuts the head of an answer to a decomposed question, and
    reads on after the end of a text that is no chat; these are not reproduced.
    """
    whole = "图中是<ref>狗</ref><box>(219,424),(576,896)</box>。"
    stops = {*(stop for (stop,) in cases["stop_words_ids"]["chatml"]), real.eos_token_id}
    assert stops == {real.special_ids[name] for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")}
    differ = {"no_terminator_drops_last_token", "nfd_query_cuts_head_of_answer", "raw_with_endoftext"}
    for case in cases["decode_tokens"]:
        ids = case["new_ids"]
        kept = ids[: next((at for at, token in enumerate(ids) if token in stops), None)]
        assert real.decode(kept) == whole
        assert (case["response"] == whole) is (case["name"] not in differ)


# ------------------------------------------------------------------------------------------------------ its properties

ordinary = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda text: f"{MARK}<" not in text)
pieces = st.sampled_from(
    ["<", "|", ">", "/", "<|", "|>", "<img>", "</img>", "<imgpad>", "<im", "g>", "pad>", "<|im_start|>", "<|im_", "end|>",
     "<|endoftext|>", "<|extra_7|>", "<ref>", "<bo", "x>", "</quad>", "the", "é", "e\u0301", "\u0338", MARK, "\n", "😀"]
)  # fmt: skip
hostile = st.lists(pieces | st.characters(exclude_categories=["Cs"]), max_size=14).map("".join)


@settings(max_examples=200, deadline=None)
@given(ordinary)
@example("")
@example("the \u1112\u1161\u11ab cafe\u0301 \x00\x7f\U0010ffff")
def test_encoding_round_trip(tiny: QwenVLTokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text, allowed_special=())) == unicodedata.normalize("NFC", text)
    if "<" not in text:
        assert tiny.encode(text) == tiny.encode(text, allowed_special=())


@settings(max_examples=300, deadline=None)
@given(hostile, hostile)
@example("<|im_", "start|>")
@example(f"{MARK}", "<imgpad>")
def test_quoted_text_spells_no_token(tiny: QwenVLTokenizer, left: str, right: str) -> None:
    ids = tiny.token_ids(quote(left) + quote(right))
    assert {tiny.convert_ids_to_tokens(i) for i in ids if i >= len(tiny.ranks)} <= set(GROUNDING)
    whole = unicodedata.normalize("NFC", (left + right).replace(MARK, "\ufffd"))
    none = tiny.token_ids(quote(left, keep_grounding=False) + quote(right, keep_grounding=False))
    assert all(i < len(tiny.ranks) for i in none)
    assert tiny.decode(none) == whole
    assert none == tiny.token_ids((left + right).replace(MARK, "\ufffd"), ())


@settings(max_examples=200, deadline=None)
@given(hostile)
def test_special_tokens_are_where_tiktoken_finds_them(tiny: QwenVLTokenizer, text: str) -> None:
    text = unicodedata.normalize("NFC", text.replace(MARK, "").replace("<img>", "").replace("\u0338", ""))
    if "<img>" not in text:
        assert tiny.token_ids(text) == tiny.bpe.encode(text, allowed_special="all")
    assert tiny.token_ids(text, {"</quad>"}) == tiny.bpe.encode(
        text, allowed_special={"</quad>"}, disallowed_special=()
    )


def test_special_tokens_of_tiny_vocabulary(tiny: QwenVLTokenizer) -> None:
    assert tiny.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [262, 263, 264]
    assert tiny.convert_tokens_to_ids(["<|extra_0|>", "<|extra_204|>", "<ref>"]) == [265, 469, 470]
    assert tiny.convert_tokens_to_ids(["<img>", "</img>", "<imgpad>"]) == [476, 477, 478]
    assert len(tiny) == 479
    assert tiny.convert_tokens_to_ids([b"the", "é", "<|extra_205|>"]) == [None, 259, None]
    assert tiny.pad_token_id == tiny.eos_token_id == 262
    assert set(tiny.all_special_ids) == set(range(262, 479))


def test_combining_character_undoes_no_token(tiny: QwenVLTokenizer) -> None:
    assert unicodedata.normalize("NFC", "<|im_end|>\u0338") == "<|im_end|≯"
    assert tiny.token_ids("<|im_end|>\u0338")[0] == tiny.special_ids["<|im_end|>"]


def test_images_spans(tiny: QwenVLTokenizer) -> None:
    text = "a <img>dé.png</img>!<img></img>"
    ids = tiny.token_ids(text)
    start, pad, end = (tiny.special_ids[name] for name in ("<img>", "<imgpad>", "</img>"))
    assert ids[2 : 2 + SPAN] == [start, *"dé.png".encode(), *[pad] * (256 - 7), end]
    assert ids[-SPAN:] == [start, *[pad] * 256, end]
    assert tiny.decode(ids) == text
    assert tiny.decode(ids, skip_special_tokens=True) == "a dé.png!"
    odd = [start, 300, *[pad] * 255, end]  # what stands there is no byte: no path, but the tokens that they are
    assert tiny.decode(odd) == f"<img><|extra_35|>{'<imgpad>' * 255}</img>"
    assert tiny.decode(ids[2:100]).startswith("<img>")


def test_invalid_utf8(tiny: QwenVLTokenizer) -> None:
    lone = tiny.convert_tokens_to_ids([b"\xe9", b"h"])
    assert tiny.decode(lone) == "\ufffdh"
    assert tiny.decode(lone, errors="ignore") == "h"
    with pytest.raises(UnicodeDecodeError):
        tiny.decode(lone, errors="strict")
    assert tiny.decode(lone[1]) == "h"
    assert tiny.decode(tiny.encode("a\ud800b")) == "a\ufffdb"
    assert tiny.decode([]) == ""
    assert tiny.batch_decode([lone, []]) == ["\ufffdh", ""]


def test_batches_are_padded_on_left(tiny: QwenVLTokenizer) -> None:
    batch = tiny(["", "the", "x"], padding=True, return_tensors="pt", add_special_tokens=False)
    assert set(batch) == {"input_ids", "attention_mask"}
    pad, x = tiny.pad_token_id, tiny.encode("x")
    assert batch["input_ids"].tolist() == [[pad] * 2, tiny.encode("the"), [pad, *x]]
    assert batch["attention_mask"].tolist() == [[0, 0], [1, 1], [0, 1]]


# --------------------------------------------------------------------------------------------------------------- files


def test_save_and_load_round_trip(tiny: QwenVLTokenizer, tmp_path: Path) -> None:
    text = "the café <ref>x</ref><img>a</img><|extra_3|>"
    tiny.save_pretrained(tmp_path)
    again = QwenVLTokenizer.from_pretrained(tmp_path)
    assert again.token_ids(text) == tiny.token_ids(text)
    assert (again.padding_side, again.pad_token, len(again)) == ("left", "<|endoftext|>", len(tiny))
    assert (tmp_path / "qwen.tiktoken").read_bytes() == write_tiny(tmp_path / "other").read_bytes()
    assert pickle.loads(pickle.dumps(again)).token_ids(text) == tiny.token_ids(text)
    few = QwenVLTokenizer(tmp_path / "qwen.tiktoken", extra_tokens=3, errors="ignore")
    few.save_pretrained(tmp_path / "few")
    loaded = QwenVLTokenizer.from_pretrained(tmp_path / "few")
    assert (loaded.special_ids["<img>"], loaded.errors) == (262 + 3 + 3 + 6, "ignore")


def test_windows_line_ends(tiny: QwenVLTokenizer, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "qwen.tiktoken")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert QwenVLTokenizer(path).ranks == tiny.ranks


def test_missing_or_corrupt_vocabulary_is_reported(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the folder has no qwen\.tiktoken"):
        QwenVLTokenizer.from_pretrained(tmp_path)
    path = tmp_path / "qwen.tiktoken"
    with pytest.raises(ValueError, match="is not a file"):
        QwenVLTokenizer(path)
    lines = write_tiny(path).read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:100]))
    with pytest.raises(ValueError, match="incomplete or corrupt: it has 100 tokens"):
        QwenVLTokenizer.from_pretrained(tmp_path)
    path.write_text("".join([*lines[:257], *lines[258:]]))
    with pytest.raises(ValueError, match="incomplete or corrupt"):
        QwenVLTokenizer(path)
    path.write_text("".join([*lines[:5], "version https://git-lfs\n", *lines[5:]]))
    with pytest.raises(ValueError, match="line 6: not a token in base64"):
        QwenVLTokenizer(path)


def test_without_tiktoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ImportError, match=re.escape(install_command("qwen-vl"))):
        QwenVLTokenizer(write_tiny(tmp_path / "qwen.tiktoken"))


def test_vocabulary_cannot_be_extended(tiny: QwenVLTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'<new>' is not a special token of Qwen-VL"):
        tiny.add_tokens(["<new>"])
    with pytest.raises(ValueError, match="'<pad>' is not a special token"):
        QwenVLTokenizer(write_tiny(tmp_path / "qwen.tiktoken"), pad_token="<pad>")
    assert tiny.add_tokens(["<|extra_0|>"], special_tokens=True) == 0
