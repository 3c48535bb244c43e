"""Chat templates as text: their syntax, and what they render, without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalkit.errors import UserError
from evalkit.jsonl import read_json
from evalkit.reasoning import REASONING, Markers, opened_by
from evalkit.types import Request

SWITCHES: Mapping[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),  # Qwen3, GLM-4.5V, MiniCPM-V 4.5, ERNIE-4.5-VL, Hunyuan, SmolLM3, Gemma 4, …
    "thinking": (True, False),  # DeepSeek-V3.1, Granite 3, Kimi-K2.5
    "thinking_mode": ("long", "short"),  # R-4B
}
"""The variables by which chat templates are told whether the model is to think: their values for on and off."""
QUESTIONS: Sequence[Any] = ("x", [{"type": "text", "text": "x"}])
"""The content of a turn as templates expect it: a text, or parts."""


class _Generation(Extension):
    """The tag ``{% generation %}`` of transformers, which marks what an assistant writes."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """An environment as transformers has it: sandboxed, blocks trimmed."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["strftime_now"] = lambda pattern: ""
    environment.globals["raise_exception"] = _raise
    return environment


def _raise(message: str) -> None:
    raise TemplateError(message)


def switches_of(template: str) -> tuple[str, ...]:
    """The names in ``SWITCHES`` that ``template`` expects to be given."""
    try:
        expected = meta.find_undeclared_variables(_environment().parse(template))
    except (TemplateError, RecursionError):
        return ()
    return tuple(name for name in SWITCHES if name in expected)


def thinking_variables(switches: Sequence[str], thinking: bool | None) -> dict[str, Any]:
    """The variables that switch thinking on or off; none for the template's own default (None)."""
    return {} if thinking is None else {name: SWITCHES[name][0 if thinking else 1] for name in switches}


def check_thinking(request: Request, switches: Sequence[str], prompt: str) -> None:
    """Raise ``UserError`` if thinking is to be switched and the chat template has no switch.

    Args:
        prompt: as rendered; if it opens reasoning, the model thinks in any case.
    """
    thinking = request.thinking
    if thinking is None or switches or (thinking and opened_by(prompt, request.markers or REASONING)):
        return
    known = ", ".join(SWITCHES)
    raise UserError(
        f"--thinking {'on' if thinking else 'off'}: the chat template has no switch for thinking ({known}), so it has "
        "no effect; leave it out, or give a template that has one with --chat-template."
    )


def prompt_end(template: str, tokens: Mapping[str, str], thinking: bool | None = None) -> str:
    """A prompt that ``template`` renders; empty if it fails.

    Args:
        tokens: the special tokens that it may use, such as ``bos_token``.
    """
    variables = {**tokens, **thinking_variables(switches_of(template), thinking), "add_generation_prompt": True}
    prompts = (
        rendered(template, {"messages": [{"role": "user", "content": content}], **variables}) for content in QUESTIONS
    )
    return next(filter(None, prompts), "")


def thinks(
    template: str, tokens: Mapping[str, str], thinking: bool | None, markers: Sequence[Markers] = REASONING
) -> bool:
    """Whether a model with this chat template thinks before it answers.

    It does if the prompt opens its reasoning, or if the template has a switch that is on: because it is set, or because
    the prompt without it is the one with it on.
    """
    prompt = prompt_end(template, tokens, thinking)
    if opened_by(prompt, markers):
        return True
    if not switches_of(template):
        return False
    on, off = (prompt_end(template, tokens, value) for value in (True, False))
    return prompt == on != off


def read_template(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The chat template in a checkpoint's folder, and the special tokens that it may use."""
    config = _read(folder / "tokenizer_config.json")
    found: Any = config.get("chat_template")
    found = _read(folder / "chat_template.json").get("chat_template", found)
    with suppress(OSError, ValueError):
        found = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if isinstance(found, list):  # several by name
        found = next((t.get("template") for t in found if isinstance(t, dict) and t.get("name") == "default"), None)
    tokens = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        tokens[name] = value if isinstance(value, str) else ""
    return found if isinstance(found, str) else None, tokens


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = read_json(path, constants=True)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def syntax_error(template: str) -> str:
    """Why ``template`` is not valid, with the line; empty if it is."""
    try:
        _environment().parse(template)
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {str(error.message).rstrip('.')}"
    except (TemplateError, RecursionError) as error:
        return type(error).__name__
    return ""


def rendered(template: str, variables: Mapping[str, Any]) -> str:
    """The text that ``template`` renders; empty if it fails, for instance because it needs other variables."""
    try:
        return _environment().from_string(template).render(**variables)
    except Exception:  # it is a program of the checkpoint's authors: it can raise anything
        return ""
