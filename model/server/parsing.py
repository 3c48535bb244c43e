"""JSON from a server: strict, and nested no deeper than any reply is."""

from __future__ import annotations

from typing import Any

from evalkit.jsonl import parse

MAX_DEPTH = 64


def parse_reply(raw: bytes) -> Any:
    """The JSON value of ``raw``.  Raises ``ValueError`` if there is none, or it is nested too deeply."""
    value = parse(raw)
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:  # nearly every reply
        return value
    level = [value]
    for _ in range(MAX_DEPTH):
        children = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [child for values in children for child in values if isinstance(child, dict | list)]
        if not level:
            return value
    raise ValueError("nested too deeply")
