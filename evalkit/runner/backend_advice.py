"""One line at the start of a run whose answers another backend would generate clearly faster (``docs/speed.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.options import RunSettings

from .plan import Plan

LONG_ANSWER = 512
"""New tokens: below this limit, most answers are short."""


def backend_advice(plan: Plan, about: Mapping[str, Any]) -> str:
    """The sentence; empty if no other backend is known to be clearly faster.

    On a CPU, a vLLM server was 1.4 times as fast with long answers, and about as fast with others.  On a GPU, the two
    have not been compared.

    Args:
        about: the opened backend's description.
    """
    if about.get("backend") != RunSettings.backend or about.get("device") != "cpu":
        return ""
    limits = [(job.decoding(plan.family).max_new_tokens, job.answers) for job in plan.jobs]
    long = sum(answers for limit, answers in limits if limit >= LONG_ANSWER)
    if 2 * long <= sum(answers for _, answers in limits):
        return ""
    longest = max(limit for limit, _ in limits)
    return (
        f"answers may have up to {longest:,} new tokens; on a CPU, a vLLM server is faster with long ones "
        "(--backend vllm, docs/speed.md)"
    )
