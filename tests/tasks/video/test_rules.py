"""Rules that read letters in answers about videos, against what lmms-eval's functions (commit 75571cf) gave.

The expected letters were computed with its code, whose random options are None here.
"""

from __future__ import annotations

import pytest

from evalkit import registry
from evalkit.letters import lmms_eval
from evalkit.types import PromptSpec

OPTIONS = ("red car", "a blue dog", "None", "3", "green. tree")
CAPTIONS = ("Caption A: The man runs.", "Caption B: The man walks: slowly.")


def read(task: str, rule: str, text: str, options: tuple[str, ...] = OPTIONS) -> str | None:
    spec: PromptSpec = registry.tasks.get(task).prompt_spec(rule=rule)
    return spec.letter(text, options).letter if spec.kind == "choice" else spec.yes_no(text)


CASES = [
    ("mvbench", lmms_eval.COMMIT, "B. a dog", "B"),
    ("mvbench", lmms_eval.COMMIT, "a man walks", "A"),
    ("mvbench", lmms_eval.COMMIT, "(C)", "C"),
    ("mvbench", lmms_eval.COMMIT, "1,000 is d", "D"),
    ("mvbench", lmms_eval.COMMIT, "f", None),
    ("mvbench", "official", "(b) a blue dog", "B"),
    ("mvbench", "official", "B. a blue dog", "B"),
    ("mvbench", "official", "The answer is B", None),
    ("mvbench", "official", "", None),
    ("mvbench", "official", "(", None),
    ("mlvu", "official", "A) red", "A"),
    ("mlvu", "official", "(A) red", "A"),
    ("mlvu", lmms_eval.COMMIT, "The answer is D", "D"),
    ("mlvu", lmms_eval.COMMIT, "E", None),
    ("lvbench", lmms_eval.COMMIT, "(C) None", "C"),
    ("egoschema", lmms_eval.COMMIT, "D is wrong, (B) is right", "D"),
    ("egoschema", lmms_eval.COMMIT, "(B) or A. or (B)", "A"),
    ("egoschema", lmms_eval.COMMIT, "it is of course a blue dog there", "B"),
    ("egoschema", lmms_eval.COMMIT, "no idea", None),
    ("longvideobench", lmms_eval.COMMIT, "Best option: D", "D"),
    ("longvideobench", lmms_eval.COMMIT, "Everything", "E"),
    ("longvideobench", lmms_eval.COMMIT, "no", None),
    ("perceptiontest", lmms_eval.COMMIT, "ABC, then C", "C"),
    ("perceptiontest", lmms_eval.COMMIT, "E", None),
    ("nextqa", lmms_eval.COMMIT, "(A) or (C)", "C"),
    ("nextqa", lmms_eval.COMMIT, "maybe", None),
    ("tempcompass_mc", "official", "B. a blue dog", "B"),
    ("tempcompass_mc", "official", "C)", "C"),
    ("tempcompass_mc", "official", "The answer is C", None),
    ("tempcompass_yes_no", "official", "Yes, it does.", "yes"),
    ("tempcompass_yes_no", "official", "Nothing", "no"),
    ("tempcompass_yes_no", "official", "It does not.", None),
    ("videommmu", "official", "The answer is (C).", "C"),
]


@pytest.mark.parametrize(("task", "rule", "text", "letter"), CASES)
def test_letters(task: str, rule: str, text: str, letter: str | None) -> None:
    assert read(task, rule, text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Caption A: The man runs.", "A"),
        ("Caption B", "B"),
        ("B.", "B"),
        ("A", "A"),
        ("The man walks", "B"),  # a text ends at the next colon
        ("A) The man runs.", "A"),
        ("Caption C", None),
        ("It is caption A.", None),
    ],
)
def test_captions(text: str, letter: str | None) -> None:
    assert read("tempcompass_match", "official", text, CAPTIONS) == letter


@pytest.mark.parametrize(
    "task", ["mvbench", "mlvu", "egoschema", "nextqa", "longvideobench", "perceptiontest", "tempcompass_mc"]
)
def test_any_text_is_read_in_linear_time(task: str) -> None:
    import time

    for name in registry.tasks.get(task).rules:
        for text in (
            "A" * 200_000,
            "(A) " * 50_000,
            "." * 200_000,
            "1," * 100_000,
            "A. " * 60_000,
            "\x00\ud800",
            "a man " * 40_000,
        ):
            began = time.process_time()  # quadratic time would be minutes
            read(task, name, text)
            assert time.process_time() - began < 20, (name, text[:5])
