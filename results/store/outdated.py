"""Stored scores that an earlier version of a metric computed."""

from __future__ import annotations

import re

from evalkit import registry
from evalkit.errors import UserError

VERSION = re.compile(r"v\d+")


def outdated(signature: str) -> str | None:
    """How a stored score's metric differs from the installed one; None if it does not, or is not installed.

    For example: ``an earlier vqa_accuracy (norm:official|v1; now norm:normalised|v2)``.
    """
    parts = signature.split("|")
    for name in parts[1:]:
        if ":" in name or VERSION.fullmatch(name):
            continue
        try:
            now = registry.metrics.get(name).signature
        except UserError:
            continue  # not a metric, or not installed
        if not now or f"|{now}|" in f"|{signature}|":
            return None
        scorer = [part for part in parts[parts.index(name) :] if not part.startswith("n:")]
        then = "|".join(part for part in scorer if part not in now.split("|"))
        today = "|".join(part for part in now.split("|") if part not in scorer)
        return f"an earlier {name} ({then}; now {today})"
    return None
