"""The language of ``--where``: what fits, and what is refused with one sentence."""

from __future__ import annotations

import random
from typing import Any

import pytest

from evalkit.choosing.sample_filter import SampleFilter
from evalkit.errors import UserError
from evalkit.types import Sample


def sample(name: str, **meta: Any) -> Sample:
    return Sample(name, (), f"question {name}", (), cluster=f"image{name[0]}", meta=meta, options=("x", "y"))


SAMPLES = [
    sample("1", category="OCR", level=3, labels=["a", "b"], year="2001", hard=True),
    sample("2", category="Chart", level=1, labels=("b",), year="1999", hard=False),
    sample("3", category="OCR", level=2.5, labels=[], year="n/a", hard=True, **{"question type": "what"}),
    sample("4", category=None, level=None, labels=["c"], year="", hard=False),
]


def chosen(where: str, samples: list[Sample] = SAMPLES, task: str = "t", split: str = "s") -> str:
    found = SampleFilter.of(where, None, None).choose(samples, task, split, seed=0, together=False)
    return "".join(one.id for one in found)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ('category == "OCR"', "13"),
        ('category != "OCR"', "24"),
        ('category == "OCR" and level >= 3', "1"),
        ('category == "Chart" or not hard', "24"),
        ("1 <= level < 3", "23"),
        ("level > -1", "123"),
        ('category in ("OCR", "Chart")', "123"),
        ('category not in ["OCR"]', "24"),
        ('"R" in category', "13"),
        ('"a" in labels or "c" in labels', "14"),
        ('"b" not in labels', "34"),
        ("category == None", "4"),
        ("hard", "13"),
        ("hard == True", "13"),
        ("number(year) > 2000", "1"),
        ("number(year) < 2000", "2"),
        ('lower(category) == "ocr"', "13"),
        ('startswith(category, "Ch") or endswith(id, "4")', "24"),
        ("len(labels) == 2", "1"),
        ('meta["question type"] == "what"', "3"),
        ('cluster == "image2"', "2"),
        ("options == 2 and images == 0", "1234"),
        ('question == "question 4"', "4"),
        ('task == "t" and split != "other" and id in {"1", "2"}', "12"),
        ('task == "other" and nothing == 1 or level == 1', "2"),
    ],
)
def test_expression_chooses(where: str, ids: str) -> None:
    assert chosen(where) == ids


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            'categroy == "OCR"',
            "t/s: --where categroy == \"OCR\": there is no column 'categroy': did you mean category?",
        ),
        ("category == OCR", 'put a text in quotes: "OCR"'),
        ('category = "OCR"', "write == to compare"),
        ('category == "OCR" && level > 1', "write and, or and not"),
        ('(category == "OCR") & (level > 1)', "write and, or and not"),
        ('category == "Ocr"', "no sample fits --where category == \"Ocr\" (category is 'OCR', "),
        ('labels == "a"', "write 'a' in labels"),
        ("category == 3", "the column 'category' has texts ('OCR', "),
        ('level > "2"', "numbers have no quotes"),
        ('"2" in level', "write level == '2'"),
        ('level in "23"', "write level == '23'"),
        ('startswith(level, "2")', "startswith is for texts"),
        ('category.startswith("O")', "write startswith(category, 'O')"),
        ("category.upper()", "the functions are startswith"),
        ("__import__('os').system('true')", "is not supported"),
        ("().__class__.__bases__[0]", "is not supported"),
        ("[x for x in labels]", "is not supported"),
        ("(lambda: 1)()", "is not supported"),
        ("level ** 99999999", "is not supported"),
        ("level := 3", "is no expression"),
        ("f'{level}' == '3'", "is not supported"),
        ("category in (level, 2)", "level in a list is neither"),
        ("startswith(category)", "startswith needs 2 values, and 1 are given"),
        ("len(category, 1)", "len needs 1 value, and 2 are given"),
        ("meta[3] == 1", "is not supported"),
        ("other['level'] == 1", "is not supported"),
        ('"OCR"', "it names no column"),
        ("3", "it names no column"),
        ("", "is empty"),
        ("level ==", "is no expression"),
        ("level == 1\nor level == 2", "give it on one line"),
        ("(" * 500 + "level" + ")" * 500, "is no expression"),
        ("not " * 60 + "hard", "nested more than 40 levels deep"),
        ("level == 1 or " * 200 + "hard", "more than 2,000; use --ids FILE"),
        ('task == "other"', "leave the split out of --tasks"),
        ("1 == 2", "leave the split out of --tasks"),
        ("odd == 1", "there is no column 'odd'"),
    ],
)
def test_refusal_says_what_to_write(where: str, message: str) -> None:
    odd = [*SAMPLES, sample("5", odd={"a": 1})]
    with pytest.raises(UserError) as error:
        chosen(where, odd if where.startswith("odd") else SAMPLES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_metadata_comes_before_columns_of_every_sample() -> None:
    own = [sample("1", task="counting", id="x"), sample("2", task="reading", id="y")]
    assert chosen('task == "reading"', own) == "2"
    assert chosen('id == "x"', own) == "1"


def test_damaged_expressions_are_refused_or_mean_something() -> None:
    drawn = random.Random(0)
    whole = 'category in ("OCR", "Chart") and not (level >= 3 or number(year) < 2000) and "a" in labels'
    pieces = [
        *whole.split(" "),
        "(",
        ")",
        "[",
        "]",
        "not",
        "==",
        ".",
        "lambda",
        "*",
        "{",
        "}",
        "'",
        "\\",
        "\0",
        "é",
        "9" * 40,
    ]
    refused = 0
    for _ in range(2000):
        words = whole.split(" ")
        for _ in range(drawn.randint(1, 4)):
            words[drawn.randrange(len(words))] = drawn.choice(pieces)
        try:
            chosen(" ".join(words))
        except UserError:
            refused += 1
    assert 0 < refused < 2000
