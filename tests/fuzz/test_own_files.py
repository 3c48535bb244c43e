"""Your own data, predictions and settings that were changed at random: refused, or scored for what they say."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from PIL import Image

from ..mutations import json_lines, json_value, text, zipped
from .accepted import other_questions_or_answers
from .harness import BOTH, Evalkit, Target, fuzz

SAMPLES, RIGHT = 12, 7
COLOURS = ("red", "blue", "green")


def question(number: int) -> dict[str, Any]:
    """A question; every fourth is about two images, and names them in its text."""
    row: dict[str, Any] = {
        "id": str(number),
        "image": "0.png",
        "question": f"What is {number}?",
        "answers": ["red", "Blue"],
    }
    if number % 4 == 3:
        row |= {"image": ["0.png", "1.png"], "question": "Is <image> as <image>?", "answer_type": "other"}
    return row


def choice(number: int) -> dict[str, Any]:
    right = COLOURS[number % 3] if number % 2 else "ABC"[number % 3]
    return {"id": number, "image": "0.png", "question": "Which?", "options": list(COLOURS), "answer": right}


def grounding(number: int) -> dict[str, Any]:
    return {"id": str(number), "image": "0.png", "question": "the cup", "box": [number, 2.5, number + 20, 40]}


def answer(number: int) -> str:
    return "red" if number < RIGHT else "green"


def letter(number: int) -> str:
    return "ABC"[number % 3] if number < RIGHT else "A"


def box(number: int) -> list[float]:
    return [number, 3, number + (20 if number < RIGHT else 8), 40]


def jsonl(folder: Path, name: str, rows: Iterable[Any]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(rows: Iterable[tuple[Any, Any]], path: Path) -> None:
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in (("index", "prediction"), *rows):
            book.active.append(row)
        book.save(path)
        return
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t").writerows((("index", "prediction"), *rows))


def asking(name: str, row: Callable[[int], Any], folder: Path) -> None:
    """Write a file of questions, ``mine.jsonl`` or ``mine.json``."""
    rows = [row(number) for number in range(SAMPLES)]
    if name.endswith(".json"):
        (folder / name).write_text(json.dumps(rows, indent=1))
    else:
        jsonl(folder, name, rows)


def answering(name: str, text_of: Callable[[int], Any], folder: Path) -> None:
    """Write a file of answers, ``p.*``, in the format that its name says."""
    answers = [(number, text_of(number)) for number in range(SAMPLES)]
    match name:
        case "p.jsonl":
            jsonl(folder, name, ({"id": str(key), "text": value} for key, value in answers))
        case "p-llava.jsonl":
            rows = ({"question_id": key, "prompt": "What?", "text": value, "model_id": "m"} for key, value in answers)
            jsonl(folder, name, rows)
        case "p-list.json":
            (folder / name).write_text(json.dumps([{"id": key, "text": value} for key, value in answers]))
        case "p-map.json":
            (folder / name).write_text(json.dumps({str(key): value for key, value in answers}))
        case "p-indented.json":
            (folder / name).write_text("\n".join(json.dumps({"id": k, "text": v}, indent=2) for k, v in answers))
        case _:
            table(answers, folder / name)


def scoring(questions: str, answers: str, *more: str) -> tuple[tuple[str, ...], ...]:
    return (("score", "-t", questions, "-p", answers, "--name", "N", *more),)


VQA = ("mine.jsonl", question, answer)
Files = tuple[str, Callable[[int], Any], Callable[[int], Any]]
TARGETS: dict[str, tuple[Files, str, Target]] = {
    # What the files hold; the answers' file; the file that is changed, how, and the command that reads it.
    "own questions": (VQA, "p.jsonl", Target("mine.jsonl", json_lines, scoring("mine.jsonl", "p.jsonl"), 350, other_questions_or_answers)),
    "own list": (("mine.json", question, answer), "p.jsonl", Target("mine.json", json_value, scoring("mine.json", "p.jsonl"), 150, other_questions_or_answers)),
    "own choice": (("mine.jsonl", choice, letter), "p.jsonl", Target("mine.jsonl", json_lines, scoring("mine.jsonl", "p.jsonl"), 250, other_questions_or_answers)),
    "own grounding": (("mine.jsonl", grounding, box), "p.jsonl", Target("mine.jsonl", json_lines, scoring("mine.jsonl", "p.jsonl", "--boxes", "pixels"), 250, other_questions_or_answers)),
    "answers": (VQA, "p.jsonl", Target("p.jsonl", json_lines, scoring("mine.jsonl", "p.jsonl"), 250, other_questions_or_answers)),
    "LLaVA's answers": (VQA, "p-llava.jsonl", Target("p-llava.jsonl", json_lines, scoring("mine.jsonl", "p-llava.jsonl"), 100, other_questions_or_answers)),
    "list of answers": (VQA, "p-list.json", Target("p-list.json", json_value, scoring("mine.jsonl", "p-list.json"), 100, other_questions_or_answers)),
    "map of answers": (VQA, "p-map.json", Target("p-map.json", json_value, scoring("mine.jsonl", "p-map.json"), 100, other_questions_or_answers)),
    "indented answers": (VQA, "p-indented.json", Target("p-indented.json", text, scoring("mine.jsonl", "p-indented.json"), 100, other_questions_or_answers)),
    "boxes": (("mine.jsonl", grounding, box), "p.jsonl", Target("p.jsonl", json_lines, scoring("mine.jsonl", "p.jsonl", "--boxes", "pixels"), 150, other_questions_or_answers)),
    "csv": (VQA, "p.csv", Target("p.csv", text, scoring("mine.jsonl", "p.csv"), 150, other_questions_or_answers)),
    "tsv": (VQA, "p.tsv", Target("p.tsv", text, scoring("mine.jsonl", "p.tsv"), 150, other_questions_or_answers)),
    "xlsx": (VQA, "p.xlsx", Target("p.xlsx", zipped, scoring("mine.jsonl", "p.xlsx"), 200, other_questions_or_answers)),
    "evalkit.toml": (VQA, "p.jsonl", Target("evalkit.toml", text, (*scoring("mine.jsonl", "p.jsonl"), ("run", "--dry-run")), 200, other_questions_or_answers)),
    "pyproject.toml": (VQA, "p.jsonl", Target("pyproject.toml", text, (*scoring("mine.jsonl", "p.jsonl"), ("run", "--dry-run")), 100, other_questions_or_answers)),
}  # fmt: skip
SETTINGS = """out = "runs"
tasks = ["mine.jsonl"]
model = "tiny"
data = "tiny"
seed = 3
limit = 10
shots = 0
allow-missing = false
max_pixels = 100000
temperature = 0.0
stop = ["\\n"]
batch_size = "auto"
protocol = "official"
"""


@BOTH
@pytest.mark.parametrize("name", TARGETS)
def test_changed_file_is_refused_or_scored_for_what_it_says(
    evalkit: Evalkit, tmp_path: Path, name: str, total: int
) -> None:
    (questions, row, text_of), answers, target = TARGETS[name]
    made = tmp_path / "made"
    made.mkdir()
    for number in range(2):
        Image.new("RGB", (56, 56)).save(made / f"{number}.png")
    asking(questions, row, made)
    answering(answers, text_of, made)
    if target.file.endswith(".toml"):
        table = "[tool.evalkit]\n" if target.file.startswith("py") else ""
        (made / target.file).write_text(f'[project]\nname = "x"\n{table}{SETTINGS}' if table else SETTINGS)
    for command in target.commands:
        assert evalkit(*command, cwd=made).returncode == 0  # without a limit: importing torch takes time
    shutil.rmtree(made / "runs")
    assert fuzz(evalkit, made, tmp_path / "copy", name, target, total), "every change was refused"
