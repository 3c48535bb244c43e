"""The user's system turn, prompts and chat template."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.checkpoint import bundled_folder
from evalkit.errors import UserError
from evalkit.given_prompts import GivenPrompts, digest_of, given_prompts, problem_of
from evalkit.jobs import conversation
from evalkit.types import PLACEHOLDERS, Message, PromptSpec, Sample, TextPart

SAMPLE = Sample("1", (), "Which?", ("A",), cluster="1", options=("a cat", "a dog"), meta={"hint": "It barks."})


def test_system_turn_is_text_or_file(tmp_path: Path) -> None:
    file = tmp_path / "system.txt"
    file.write_text("Be brief.\nAlways.\n")
    assert given_prompts(system=str(file)).system == "Be brief.\nAlways."
    assert given_prompts(system=file).system == "Be brief.\nAlways."
    for text in ("Be brief.", "Answer in words / numbers.", "Brief", "a\nb/c.txt", "x" * 5000):
        assert given_prompts(system=text).system == text


@pytest.mark.parametrize("text", ["prompts/none.txt", "none.md", "none.jinja"])
def test_missing_file_is_no_text(text: str) -> None:
    with pytest.raises(UserError, match="there is no such file; give a file's name, or the text itself"):
        given_prompts(system=text)


BAD = {
    "nothing": (b"", "is empty"),
    "spaces": (b" \n ", "is empty"),
    "bytes": (b"\xff\xfe", "not a text in UTF-8"),
    "NUL": (b"a\0b", "it has NUL characters"),
    "large": (b"a" * 1_000_001, "too many for a prompt"),
    "unknown": (b"{quesion}", r"\{quesion\} is no placeholder; there are \{q\}, \{question\}"),
    "braces": (b"{q} in \\boxed{}", r"\{\} is no placeholder; .* doubled, as in \\boxed\{\{\}\}"),
    "open": (b"{q", "doubled"),
    "attribute": (b"{q.__class__}", "no placeholder"),
    "index": (b"{q[0]}", "no placeholder"),
    "conversion": (b"{q!r}", "no placeholder"),
    "width": (b"{q:99999999999}", "no placeholder"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD.values(), ids=BAD)
def test_bad_prompt_file(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"^--prompt vqav2={file}: .*{sentence}"):
        given_prompts(prompt=[f"vqav2={file}"])


@pytest.mark.parametrize("given", ["vqav2", "vqav2=", "=p.txt", ""])
def test_bad_prompt_option(given: str) -> None:
    with pytest.raises(UserError, match="give TASK=FILE"):
        given_prompts(prompt=[given])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.jinja", "{% if x %}", "line 1: "),
        ("t.jinja", "a\n{{ x", "line 2: "),
        ("t.json", "{", "not valid JSON"),
        ("t.json", '{"chat_template": 3}', "no text under 'chat_template'"),
    ],
)
def test_bad_chat_template(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(UserError, match=f"^--chat-template {file}: .*{sentence}"):
        given_prompts(chat_template=file)


def test_chat_template_in_json_and_with_generation_tags(tmp_path: Path) -> None:
    text = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}))
    assert given_prompts(chat_template=tmp_path / "tokenizer_config.json").chat_template == text


def test_every_placeholder_is_rendered() -> None:
    sample = Sample(
        "1", (), "Which?", (), cluster="1", options=("a",), meta={"hint": "H", "prompt": "P", "preamble": "R", "question": "Q"}
    )  # fmt: skip
    for name in PLACEHOLDERS:
        assert problem_of(f"{{{name}}}") == ""
        spec = PromptSpec("own", "choice", given=f"<{{{name}}}>")
        (message,) = registry.families.get("qwen2.5-vl").prompt(spec, sample)
        assert message.content != (TextPart("<>"),), name


@pytest.mark.parametrize("protocol", ["official", "lmms-eval", "vlmevalkit"])
def test_prompt_replaces_the_protocols_but_not_its_limit(protocol: str) -> None:
    task, family = registry.tasks.get("scienceqa_img"), registry.families.get("qwen2.5-vl")
    spec = task.prompt_spec(protocol)
    own = replace(spec, given="{hint}|{question}|{options}|{letters}")
    (message,) = family.prompt(own, SAMPLE)
    assert message.content[-1] == TextPart("It barks.|Which?|A. a cat\nB. a dog|A, B")
    assert family.decoding(own, task.decoding) == family.decoding(spec, task.decoding)


def test_conversation_begins_with_the_system_turn() -> None:
    task = registry.tasks.get("vqav2")
    given = GivenPrompts(system="Be brief.")
    first, second = conversation(given, task.prompt_spec(), registry.families.get("qwen2.5-vl"), SAMPLE)
    assert first == Message("system", (TextPart("Be brief."),))
    assert second.role == "user"
    with pytest.raises(UserError, match="--system: prompts of the family qwen-vl are plain text"):
        conversation(given, task.prompt_spec(), registry.families.get("qwen-vl"), SAMPLE)


def test_manifest_keeps_every_text() -> None:
    given = GivenPrompts("s", {"vqav2": "{q}"}, "t")
    assert GivenPrompts.from_dict(given.to_dict()) == given
    assert GivenPrompts.from_dict({"system": 3, "templates": {"vqav2": "{x}", "a": 1}}) == GivenPrompts()
    assert GivenPrompts.from_dict(None) == GivenPrompts()
    assert given.signature("vqav2") == [
        f"system:{digest_of('s')}",
        f"chat_template:{digest_of('t')}",
        f"prompt:{digest_of('{q}')}",
    ]
    assert given.signature("docvqa") == given.signature("vqav2")[:2]


def test_bundled_chat_template_is_valid() -> None:
    assert given_prompts(chat_template=bundled_folder("tiny") / "chat_template.jinja").chat_template
