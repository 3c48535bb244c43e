"""What each protocol asks, to the character."""

from __future__ import annotations

import pytest

from evalkit import registry
from evalkit.types import Sample, TextPart

SHORT = "\nAnswer the question using a single word or phrase."
TAIL = " Please answer yes or no."


def prompt(task: str, question: str, family: str, protocol: str) -> tuple[str, int]:
    """The text of the prompt, and the token limit."""
    found = registry.tasks.get(task)
    spec = found.prompt_spec(protocol)
    sample = Sample("1", (), question, ("yes",), "1")
    chosen = registry.families.get(family)
    (message,) = chosen.prompt(spec, sample)
    (part,) = message.content
    assert isinstance(part, TextPart)
    return part.text, chosen.decoding(spec, found.decoding).max_new_tokens


@pytest.mark.parametrize(
    ("task", "question", "family", "protocol", "expected"),
    [
        ("mme", f"A?{TAIL}", "qwen2.5-vl", "official", (f"A?{TAIL}", 16)),
        ("mme", f"A?{TAIL}", "generic", "lmms-eval", (f"A?{SHORT}", 16)),
        ("mme", f"A? {TAIL}", "generic", "lmms-eval", (f"A? {SHORT}", 16)),
        ("mme", f"A?{TAIL}", "qwen2-vl", "vlmevalkit", (f"A?{TAIL}", 16)),
        ("pope", "A?", "generic", "official", (f"A?{SHORT}", 10)),
        ("pope", "A?", "generic", "lmms-eval", (f"A?{SHORT}", 128)),
        ("pope", "A?", "qwen2.5-vl", "vlmevalkit", (f"A?{TAIL}", 10)),
        ("pope", "A?", "qwen2-vl", "vlmevalkit", (f"A?{TAIL}{TAIL}", 10)),
        ("hallusionbench", "A?", "qwen3-vl", "official", ("A?", 128)),
        ("hallusionbench", "A?", "generic", "lmms-eval", ("A?", 128)),
        ("hallusionbench", "A?", "qwen2.5-vl", "vlmevalkit", ("A?", 128)),
        ("hallusionbench", "A?", "qwen2-vl", "vlmevalkit", (f"A?{TAIL}", 128)),
    ],
)
def test_prompt(task: str, question: str, family: str, protocol: str, expected: tuple[str, int]) -> None:
    assert prompt(task, question, family, protocol) == expected
