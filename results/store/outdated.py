"""Stored scores that an earlier version of the parsing rules, of the letter rule or of a metric computed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit import registry
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.letters import GRAMMAR, VLMEVALKIT
from evalkit.reasoning import RULES_VERSION

from .signature import Signature

VERSION = re.compile(r"v\d+")
CHOICE_METRICS = ("choice_accuracy", "circular_accuracy")
"""The beginnings of the names of metrics whose letters may be read by evalkit's grammar."""


def outdated(signature: str) -> str | None:
    """How a stored score's parsing rules, letter rule and metric differ from the installed ones; None if they do not.

    For example: ``an earlier vqa_accuracy (norm:official|v1; now norm:normalised|v2)``.
    """
    found = [reason for reason in (_parsing(signature), _metric(signature)) if reason is not None]
    return " and ".join(found) or None


def _parsing(signature: str) -> str | None:
    version = Signature.parse(signature).parsing
    if version is None or version == RULES_VERSION:
        return None
    return f"earlier parsing rules (version {version}; now {RULES_VERSION})"


def _metric(signature: str) -> str | None:
    parts = signature.split("|")
    for name in parts[1:]:
        if ":" in name or VERSION.fullmatch(name):
            continue
        try:
            metric = registry.metrics.get(name)
        except UserError:
            continue  # not a metric, or not installed
        now = metric.signature
        if now and isinstance(metric, JudgedMetric):  # whoever judged; the prompts and scales are today's
            judge = next((part.partition(":")[2] for part in parts if part.startswith("judge:")), "")
            now = metric.signed(now, judge)
        if not now or f"|{now}|" in f"|{signature}|":
            return _outdated_letters(name, parts)
        scorer = [part for part in parts[parts.index(name) :] if not part.startswith("n:")]
        then = "|".join(part for part in scorer if part not in now.split("|"))
        today = "|".join(part for part in now.split("|") if part not in scorer)
        return f"an earlier {name} ({then}; now {today})"
    return None


def _outdated_letters(metric: str, parts: Sequence[str]) -> str | None:
    """How the rule that read the letters of a choice score differs from today's grammar; None if it does not.

    Other harnesses' rules do not change, and a ranking of letters (``choice:loglikelihood``) reads none.
    """
    fields = dict(part.split(":", 1) for part in parts[1:] if ":" in part)
    if not metric.startswith(CHOICE_METRICS) or "choice" in fields:
        return None
    rule = fields.get("letters", "")
    if rule and (rule == GRAMMAR or not rule.startswith("evalkit-")):
        return None
    now = VLMEVALKIT if fields.get("protocol") == "vlmevalkit" else GRAMMAR
    return f"an earlier letter rule ({f'letters:{rule}' if rule else 'without a name'}; now letters:{now})"
