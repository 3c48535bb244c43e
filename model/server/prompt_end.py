"""How a served model's chat template ends prompts: some open the model's reasoning there.

Servers do not send prompts back, and reasoning that the prompt opened and the token limit cut off looks like an answer.
Before a run, one prompt is rendered by the template in the checkpoint's folder, or by llama.cpp (``/apply-template``).
vLLM's replies have the tokens of their prompts, whose end is decoded (``/detokenize``) when an answer was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from evalkit import chat_template
from evalkit.chat_template import read_template

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
    template, tokens = (None, {}) if folder is None else read_template(Path(folder))
    return "" if template is None else chat_template.prompt_end(template, tokens)


def switches(folder: str | None) -> tuple[str, ...] | None:
    """The switches of the chat template in a folder; None if it has none, or there is no folder."""
    template = None if folder is None else read_template(Path(folder))[0]
    return None if template is None else chat_template.switches_of(template)


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
