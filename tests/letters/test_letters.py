"""The rules that read option letters: the declared grammar on its cases, VLMEvalKit's on its own published scores."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.letters import LETTERS, RULES, VLMEVALKIT, read_letter

ROOT = Path(__file__).resolve().parents[2]
GROUPS = json.loads((ROOT / "docs" / "letters.json").read_text(encoding="utf-8"))
CASES = [(text, group["options"], letter, source) for group in GROUPS for text, letter, source in group["cases"]]
SHARED = [folder / "shared" / "predictions" for folder in (ROOT, ROOT.parent)]
"""Where the published answers of real models are, if they are here; they are not a part of the repository."""
ANIMALS = ("cat", "dog", "fox", "owl")


@pytest.mark.parametrize(("text", "options", "letter", "source"), CASES, ids=lambda value: ascii(value)[:40])
def test_grammar_reads_its_cases(text: str, options: list[Any], letter: str | None, source: str) -> None:
    reading = read_letter(text, options)
    assert (reading.letter, reading.source) == (letter, source)


def test_cases_are_many_and_of_every_kind() -> None:
    assert len(CASES) >= 200
    assert len({(text, str(options)) for text, options, _, _ in CASES}) == len(CASES)
    assert {source for _, _, letter, source in CASES if letter} == {
        "letter", "text", "tag", "box", "stated", "line", "marked", "bold", "only", "sentence"
    }  # fmt: skip
    assert sum(letter is None for _, _, letter, _ in CASES) > 80


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("text", "options"), [(text, options) for text, options, _, _ in CASES if options])
def test_only_letters_of_options_are_read(rule: str, text: str, options: list[Any]) -> None:
    assert read_letter(text, options, rule).letter in (None, *LETTERS[: len(options)])


@given(
    text=st.text(alphabet="AaBbCcDdEeIi .,:;()[]{}*\n-答案是选项\\<>answer dog fox is not or and the"),
    count=st.integers(1, 26),
)
def test_every_text_is_read_alike_whatever_its_width(text: str, count: int) -> None:
    """Full-width letters and signs are the same answer; no text raises."""
    options = [f"thing {n}" for n in range(count)]
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    reading = read_letter(text, options)
    assert reading.letter in (None, *LETTERS[:count])
    if "\\" not in text and "<" not in text:
        assert read_letter(wide, options) == reading


@pytest.mark.parametrize("letter", LETTERS)
def test_there_are_letters_for_26_options(letter: str) -> None:
    options = [f"thing {n}" for n in range(26)]
    for text in (
        letter,
        f"({letter.lower()})",
        f"The answer is {letter}.",
        f"<answer>{letter}</answer>",
        f"答案是{letter}",
    ):
        assert read_letter(text, options).letter == letter
        assert read_letter(text, options[: LETTERS.index(letter)] or ["only one"]).letter in (
            None,
            "A"[letter != "A" :],
        )
    assert read_letter(f"It is thing {LETTERS.index(letter)}.", options).letter == letter


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="there is no letter rule 'mine': there are evalkit-2, vlmevalkit-2024"):
        read_letter("B", ANIMALS, "mine")


def test_modules_import_neither_torch_nor_plugins() -> None:
    import subprocess

    code = (
        "import sys, evalkit.letters;"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'pandas', 'PIL')"
        " or m.startswith(('evalkit.model', 'evalkit.tasks', 'evalkit.metrics'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------- VLMEvalKit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # until 2025-08, from 2025-08, from 2026-06, Qwen3-VL's copy
        ("B", "BBBB"),
        ("b", "----"),
        ("(B) dog", "BBBB"),
        ("The animal is a dog.", "BBBB"),
        ("B is what I see in this image today", "B--B"),
        ("The answer is B", "BBBB"),
        ("The answer is B because it has a long tail", "B-BB"),
        ("A dog is sitting here", "ABBB"),
        ("A or B", "----"),
        ("E", "----"),
        ("Z", "----"),
        ("Cannot determine the answer, B", "----"),
        ("Option B is incorrect because it shows a cat. The correct answer is C.", "A-CA"),
    ],
)
def test_vlmevalkits_rules(text: str, expected: str) -> None:
    rules = [rule for rule in RULES if rule.startswith(("vlmevalkit", "qwen3"))]
    assert VLMEVALKIT in rules
    assert "".join(read_letter(text, ANIMALS, rule).letter or "-" for rule in rules) == expected


@pytest.mark.parametrize(
    ("name", "rule", "accuracy"),
    [
        ("vila_8b_MMStar", "vlmevalkit-2024", 41.667),
        ("vila_8b_MMStar", "vlmevalkit-2025-08", 40.867),
        ("vila_8b_MMStar", "vlmevalkit-2026-06", 41.067),
        ("vila_8b_MMStar", "qwen3-vl-evaluation", 41.133),
        ("vila_13b_RealWorldQA", "vlmevalkit-2024", 53.464),
        ("vila_13b_SEEDBench_IMG", "vlmevalkit-2024", 72.745),
        ("vila_13b_SEEDBench_IMG", "vlmevalkit-2025-08", 72.723),
        ("vila_13b_ScienceQA_TEST", "vlmevalkit-2024", 79.078),
        ("vila_13b_CCBench", "vlmevalkit-2024", 23.333),
    ],
)
def test_published_scores_are_reproduced(name: str, rule: str, accuracy: float) -> None:
    """Scores that VLMEvalKit printed for real answers; CCBench counts groups of four rotations, all of them right."""
    folder = next((folder for folder in SHARED if folder.is_dir()), None)
    if folder is None:
        pytest.skip("the published answers are not here")
    questions = benchmark_module().vlmevalkit(folder / "vlmevalkit" / f"{name}.xlsx")
    right: dict[int, bool] = {}
    for question in questions:
        group = int(question.id) % 1_000_000 if name.endswith("CCBench") else int(question.id)
        read = read_letter(question.text, question.options, rule).letter
        right[group] = right.get(group, True) and read == question.answer
    assert round(100 * sum(right.values()) / len(right), 3) == accuracy


def benchmark_module() -> Any:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import letters  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return letters


# ------------------------------------------------------------------------------------------------------------- speed

LONG = 1_000_000
HOSTILE = {
    "letters on lines": "B\n", "marked lines": "A. x\n", "boxes": "\\boxed{", "full boxes": "\\boxed{B}",
    "tags": "<answer>", "full tags": "<answer>B</answer>", "bold": "**B** ", "stars": "**", "statements": "the answer is ",
    "headings": "answer\n", "called": "B is correct ", "texts": "dog ", "choices": "选", "suppositions": "if ",
    "brackets": "(B) ", "struck": "~~", "wrapped": "\\text{", "quotes": "> ", "breaks": "\n", "spaces": " ", "accents": "\u0301\u0316",
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", HOSTILE)
def test_megabyte_is_read_in_bounded_time(name: str, rule: str) -> None:
    text = HOSTILE[name] * (LONG // len(HOSTILE[name]))
    begun = time.process_time()
    read_letter(text, ANIMALS, rule)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("rule", RULES)
def test_empty_option_is_none_and_later_ones_keep_their_letters(rule: str) -> None:
    options = ("cat", "", "fox", "owl")
    assert read_letter("D", options, rule).letter == "D"
    assert read_letter("B", options, rule).letter is None
    assert read_letter("", options, rule).letter is None


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.startswith(("vlmevalkit", "qwen3"))])
@pytest.mark.parametrize("text", ["None", "NA", "N/A", "null", "nan"])
def test_vlmevalkit_has_no_option_that_pandas_takes_for_missing(rule: str, text: str) -> None:
    options = ("cat", "dog", "fox", text)
    assert read_letter("D", options, rule).letter is None
    assert read_letter(text, options, rule).letter is None
    assert read_letter("B or D", options, rule).letter == "B"
    assert read_letter("D", options).letter == "D"


def test_missing_values_are_those_of_pandas() -> None:
    from io import StringIO

    import pandas as pd

    from evalkit.letters.vlmevalkit import MISSING

    words = sorted(MISSING)
    table = pd.read_csv(
        StringIO("x\ty\n" + "".join(f"{word}\t.\n" for word in [*words, "none", "No", "Nan"])), sep="\t"
    )
    assert list(table["x"].isna()) == [True] * len(words) + [False] * 3
