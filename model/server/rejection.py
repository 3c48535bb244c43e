"""What an error reply of a server says: its message, its code, and the request's fields that it names.

A field counts as named only where the server puts it: in ``param``, in the ``loc`` of a validation error, or in one of
the sentences of ``SENTENCES``.  Words elsewhere in a message mean nothing, since messages may repeat the request.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .parsing import parse_reply

MAX_BODY = 8_000_000
"""Bytes of an error reply that are parsed; it may repeat the request with its images."""
MAX_LITERAL = 1_000_000
"""Characters of a validation error, as Python prints it, that are parsed."""

_NAME = r"['\"`]?(?P<field>[a-z][a-z0-9_]*)['\"`]?"
_LIST = r"(?P<fields>[\[{(]?['\"`]?[a-z][a-z0-9_]*['\"`]?(?:\s*,\s*['\"`]?[a-z][a-z0-9_]*['\"`]?)*[\]})]?)"
_NOT = r"(?:not |un)(?:supported|recognized|allowed|expected|permitted)"
SENTENCES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^Unsupported (?:parameter|value): {_NAME}",  # OpenAI
        rf"^Unrecognized request arguments? supplied: {_LIST}",
        rf"^Unknown (?:parameter|field|argument)s?: {_LIST}",
        rf"^Unexpected (?:keyword argument|fields? in the request|fields?|parameters?):? {_LIST}",
        rf"^(?:The )?(?:request )?(?:parameter|property|field|argument) {_NAME} (?:is|was) {_NOT}",
        rf"^{_NAME} is (?:not supported|unsupported|not allowed|not permitted)",
        rf"^{_NAME}: Extra inputs are not permitted",  # Anthropic
        rf"^Additional properties are not allowed \({_LIST} (?:was|were) unexpected\)",
        rf"^Argument not supported on this model: {_LIST}",
        rf"^[^{{}}\[\]]*?\bdoes not support (?:the )?(?:parameter|argument|field)s?:? {_LIST}",  # LiteLLM
        rf"^(?:Invalid JSON payload received\. )?Unknown name {_NAME}(?: at '[^']*')?: Cannot find field",  # Gemini
        rf"^{_NAME} (?:is|are) (?:disabled|not (?:enabled|allowed|accepted))",
    )
)  # fmt: skip
"""Sentences that reject a field of the request, each for all messages of its form."""
EXTRA_INPUT = re.compile(rf"^body -> {_NAME}\s*\n\s*Extra inputs are not permitted", re.MULTILINE)
"""NVIDIA NIM's form of a validation error, in two lines."""
COUNTED = re.compile(r"\d+ validation errors?:\s*")
REPLACEMENT = re.compile(
    rf"^Unsupported parameter: {_NAME} is not supported with this model\. Use ['\"`](?P<other>[a-z_]+)['\"`] instead"
)
STREAM_ONLY = re.compile(
    r"^(?:This|The) (?:model|endpoint)(?: \S+)? only supports? (?:the )?stream(?:ing)?\b"
    r"|^(?:The )?['\"`]?stream['\"`]? (?:parameter )?must be (?:set to )?true\b"
    r"|^Non-stream(?:ing)? (?:mode|requests?|calls?) (?:is|are) not supported",
    re.IGNORECASE,
)
"""Sentences of endpoints that answer with a stream of events only."""
FATAL = {
    "insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "insufficient_balance", "invalid_api_key",
    "model_not_found", "deploymentnotfound", "deployment_not_found", "model_not_supported",
}  # fmt: skip
"""Codes of errors that every request has: the account has no quota, or the key or the model is wrong."""
MODERATED = {"content_filter", "content_policy_violation", "moderation_blocked", "data_inspection_failed", "sensitive"}
"""Codes of errors about one request's content."""


@dataclass(frozen=True)
class Rejection:
    """An error reply.

    Attributes:
        message: the server's, without the input that validation errors repeat.
        codes: its machine-readable codes and types.
        status: an HTTP status in the body, which replies with status 200 may have; None without one.
        fields: the fields of the request that it names as rejected.
        renamed: fields that have another name on this server.
        stream_only: whether the endpoint only answers with a stream.
    """

    message: str
    codes: frozenset[str] = frozenset()
    status: int | None = None
    fields: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    stream_only: bool = False

    @classmethod
    def parse(cls, body: bytes) -> Rejection:
        """The rejection in the body of an error reply, whichever form the server uses."""
        text = body[:MAX_BODY].decode(errors="replace")
        content = _json(text) if len(body) <= MAX_BODY else None
        if not isinstance(content, dict | list):
            return cls._of(text, {})
        envelope = content if isinstance(content, dict) else {}
        error = envelope.get("error")
        details = error if isinstance(error, dict) else envelope
        message = _message(content)
        return cls._of(message, details, {**envelope, **details})

    @classmethod
    def _of(cls, message: str, details: Mapping[str, Any], every: Mapping[str, Any] | None = None) -> Rejection:
        every = details if every is None else every
        codes = {str(every[key]).lower() for key in ("code", "type") if isinstance(every.get(key), str)}
        status = next((c for c in (every.get("code"), every.get("status")) if _is_status(c)), None)
        fields = set(_field_of(every.get("param")))
        errors = _validation_errors(every.get("detail")) or _validation_errors(message)
        message = "; ".join(map(_sentence, errors)) or message
        for error in errors:
            fields.update(_field_of(error.get("loc")))
        if not errors:
            fields.update(_in_sentences(message))
        match = REPLACEMENT.match(message)
        return cls(
            message, frozenset(codes), status, frozenset(fields), {match["field"]: match["other"]} if match else {},
            not errors and STREAM_ONLY.match(message) is not None,
        )  # fmt: skip


def _is_status(code: Any) -> bool:
    return isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600


def _message(content: Any) -> str:
    for _ in range(4):
        if not isinstance(content, dict):
            break
        content = next((content[k] for k in ("error", "message", "detail", "msg") if content.get(k)), content)
        if isinstance(content, dict) and not set(content) & {"error", "message", "detail", "msg"}:
            break
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _json(text: str) -> Any:
    try:
        return parse_reply(text.encode())
    except ValueError:
        return None


def _validation_errors(value: Any) -> list[Mapping[str, Any]]:
    """pydantic's errors, as JSON or as Python prints them; empty if ``value`` is something else."""
    if isinstance(value, str):
        counted = COUNTED.match(value)  # vLLM's form
        text = f"[{value[counted.end() :]}]" if counted else value.lstrip()
        value = (_json(text) or _literal(text)) if text[:1] in ("[", "{") else None
    if isinstance(value, dict):
        value = value.get("detail", [value])
    found = value if isinstance(value, list) else []
    return [error for error in found if isinstance(error, dict) and "loc" in error]


def _sentence(error: Mapping[str, Any]) -> str:
    """A validation error in words: ``body.top_k: Extra inputs are not permitted``."""
    loc = error["loc"]
    place = ".".join(map(str, loc)) if isinstance(loc, list | tuple) else str(loc)
    return f"{place}: {error.get('msg') or error.get('type') or 'invalid'}"


def _literal(text: str) -> Any:
    if len(text) > MAX_LITERAL:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _field_of(place: Any) -> Iterator[str]:
    """The request's field in ``param`` or ``loc``: ``["body", "top_k"]``, ``messages[0].content``."""
    if isinstance(place, str):
        yield re.split(r"[.\[]", place.strip().removeprefix("body."), maxsplit=1)[0]
    elif isinstance(place, list | tuple):
        parts = [part for part in place if isinstance(part, str) and part not in ("body", "query")]
        yield from parts[:1]


def _in_sentences(message: str) -> Iterator[str]:
    yield from (match["field"] for match in EXTRA_INPUT.finditer(message[:4000]))
    for line in message[:4000].splitlines():
        for pattern in SENTENCES:
            match = pattern.search(line.strip())
            if match is not None:
                yield from re.findall(r"[a-z][a-z0-9_]*", match.groupdict().get("field") or match["fields"])
