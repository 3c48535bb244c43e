"""How a served model's chat template ends prompts: some open the model's reasoning there.

Servers do not send prompts back, and reasoning that the prompt opened and the token limit cut off looks like an answer.
Before a run, one prompt is rendered by the template in the checkpoint's folder, or by llama.cpp (``/apply-template``).
vLLM's replies have the tokens of their prompts, whose end is decoded (``/detokenize``) when an answer was cut off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from evalkit.jsonl import read_json

from .errors import SERVER_ERRORS
from .http import Connection
from .replies import LAST_TOKENS

MESSAGES = [{"role": "user", "content": "x"}]
LONGEST = 1000
"""Characters that are kept of a prompt's end; more than the longest marker of reasoning has."""


def prompt_end(connection: Connection, owner: str, folder: str | None) -> str:
    """The end of a rendered prompt; empty if it cannot be known before the run.

    Args:
        owner: the ``owned_by`` of its entry in the server's list.
        folder: the checkpoint's folder on this machine, if known.
    """
    if owner == "llamacpp":
        return _prompt_of(connection, "/apply-template", {"messages": MESSAGES})
    return "" if folder is None else _by_template(Path(folder))


def decoded(connection: Connection, model: str, tokens: Sequence[int]) -> str:
    """The text of a prompt's last tokens, from vLLM; empty if the server does not decode tokens."""
    return _prompt_of(connection, "/detokenize", {"model": model, "tokens": list(tokens[-LAST_TOKENS:])})


def token_count(connection: Connection, model: str, text: str) -> int | None:
    """The number of tokens of a text, from vLLM or SGLang; None if the server does not tokenize texts."""
    request = {"model": model, "prompt": text, "add_special_tokens": False}
    try:
        reply = connection.post_json(f"{root_url(connection)}/tokenize", request)
    except SERVER_ERRORS:
        return None
    count = reply.get("count") if isinstance(reply, dict) else None
    return count if type(count) is int and count >= 0 else None


def _prompt_of(connection: Connection, path: str, request: Mapping[str, Any]) -> str:
    """The end of the prompt in the reply to a request; empty for a server without this endpoint."""
    try:
        reply = connection.post_json(f"{root_url(connection)}{path}", request)
    except SERVER_ERRORS:
        return ""
    prompt = reply.get("prompt") if isinstance(reply, dict) else None
    return prompt[-LONGEST:] if isinstance(prompt, str) else ""


def root_url(connection: Connection) -> str:
    """The server's address without ``/v1``."""
    parts = urlsplit(connection.endpoint.base_url)
    return urlunsplit(parts._replace(path=parts.path.removesuffix("/v1")))


def _by_template(folder: Path) -> str:
    """The prompt that the folder's chat template renders; empty if there is none, or it needs more than a message."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template, tokens = _template(folder)
    if template is None:
        return ""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )  # fmt: skip
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["strftime_now"] = lambda pattern: ""
    try:
        return environment.from_string(template).render(messages=MESSAGES, add_generation_prompt=True, **tokens)
    except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError):
        return ""


def _template(folder: Path) -> tuple[str | None, dict[str, str]]:
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
