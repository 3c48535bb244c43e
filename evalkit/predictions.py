"""Answers from files that other programs wrote, joined to a split's samples by id.

A file is a JSON list, JSON lines, one or more indented JSON objects, or a table (``.xlsx``, ``.csv``, ``.tsv``), whose
entries have an id and an answer (``FORMATS``); or one JSON object that maps ids to answers.  Other fields are ignored.

    {"id": "262148000", "text": "yes"}                       evalkit's own
    {"question_id": 262148000, "text": "yes"}                LLaVA's
    {"image_id": 391895, "caption": "a man on a bike"}       COCO's and nocaps's results
    {"question_id": 262148000, "answer": "yes"}              VQA's and TextVQA's
    {"questionId": 49153, "answer": "1/8/93"}                DocVQA's and InfographicVQA's
    {"questionId": "201307251", "prediction": "no"}          GQA's
    {"image": "VizWiz_val_00000000.jpg", "answer": "soda"}   VizWiz's
    index, prediction                                        VLMEvalKit's (a table)

With ``field``, the answer is in the field of that name, beside an id as above or in the objects that ids map to, such
as ``extraction`` in the files of MathVista's scorer.

An answer is a text, a number (scored as it is written in the file), or, for boxes, a list of numbers.  Several answers
to a sample are a list of them, or rows with the same id and different numbers in ``repeat``; every sample has as many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import Number, read_bytes
from evalkit.prediction_files import Row, rows_of

FORMATS = (
    ("id", "text"),
    ("question_id", "text"),
    ("image_id", "caption"),
    ("question_id", "answer"),
    ("questionId", "answer"),
    ("questionId", "prediction"),
    ("image", "answer"),
    ("index", "prediction"),
    ("id", "prediction"),
)
"""The fields of a sample's id and its answer."""
REPEAT = "repeat"
"""The field with the number of an answer among several to a sample."""
EXAMPLES = 3
EXPECTED = 'expected a text or a number ("" for an empty answer), or a list of numbers for a box'


@dataclass(frozen=True, slots=True)
class PredictionLine:
    """One answer from a file; ``place`` is its line or entry, ``repeat`` its number among those to its sample."""

    id: str
    text: str
    place: str
    repeat: int | None = None


# ------------------------------------------------------------------------------------------------------------- reading


def read_predictions(
    path: Path, ids: Collection[str] = (), *, boxes: bool = False, field: str | None = None
) -> list[PredictionLine]:
    """The answers in ``path``, in the file's order.

    Args:
        ids: the ids of the split's samples, by which a map of ids to answers is recognised.
        boxes: whether lists of numbers are answers; their text is JSON.
        field: the name of the field that holds the answers; None for those of ``FORMATS``.

    Raises:
        UserError: the file is missing, corrupt, or in none of the formats; the message names the line or entry.
    """
    rows = rows_of(read_bytes(path, "--predictions"), path)
    if not rows:
        return []
    if field is not None:
        return _of_field(rows, field, ids, path, boxes)
    place, first = rows[0]
    keys = next((keys for keys in FORMATS if all(key in first for key in keys)), None)
    if keys is not None:
        _check_not_questions(first, keys, path)
        return [line for place, row in rows for line in _predictions(row, keys, path, place, boxes)]
    if len(rows) == 1 and any(key in ids for key in first):
        return [
            PredictionLine(key, _text(one, path, f"answer to {key}", boxes), key, repeat)
            for key, value in first.items()
            for one, repeat in several(value, boxes=boxes)
        ]
    if len(rows) == 1 and len(first) > len(FORMATS) and all(isinstance(value, str) for value in first.values()):
        some = ", ".join(list(first)[:EXAMPLES])
        raise UserError(
            f"{path} maps {len(first):,} ids to answers, and none of the ids ({some}, …) is in this split; "
            "is it the right one?"
        )
    expected = " or ".join(f'{{"{key}": …, "{text}": …}}' for key, text in FORMATS)
    raise UserError(
        f"{path}, {place}: it has {', '.join(map(repr, first)) or 'no fields'}; expected {expected}, or one object "
        "that maps each id to its answer."
    )


def _of_field(
    rows: Sequence[tuple[str, Row]], field: str, ids: Collection[str], path: Path, boxes: bool
) -> list[PredictionLine]:
    """The answers in the field ``field``, which an entry without an answer may lack: its answer is then empty."""
    place, first = rows[0]
    if len(rows) == 1 and any(key in ids and isinstance(value, Mapping) for key, value in first.items()):
        named = [(f"entry {key}", key, value) for key, value in first.items() if isinstance(value, Mapping)]
    else:
        key = next((key for key, _ in FORMATS if key in first), "pid" if "pid" in first else None)
        if key is None:
            known = ", ".join(dict.fromkeys(key for key, _ in FORMATS))
            raise UserError(f"{path}, {place}: none of its fields is an id ({known}).")
        missing = next((place for place, row in rows if key not in row), None)
        if missing is not None:
            raise UserError(f"{path}, {missing}: missing key {key!r}; earlier entries have it.")
        named = [(place, row[key], row) for place, row in rows]
    if not any(field in row for _, _, row in named):
        fields = ", ".join(map(repr, named[0][2])) or "no fields"
        raise UserError(f"{path}: --field {field}: no entry has it; the first has {fields}.")
    return [
        line
        for place, name, row in named
        for line in _predictions(
            {**row, "id": name, "text": "" if row.get(field) is None else row[field]}, FORMATS[0], path, place, boxes
        )
    ]


def _check_not_questions(first: Mapping[str, Any], keys: tuple[str, str], path: Path) -> None:
    """LLaVA's question files have the fields of its answer files, and a question in ``text``."""
    if keys == ("question_id", "text") and "image" in first and not {"prompt", "model_id", "answer_id"} & set(first):
        raise UserError(
            f"{path} has LLaVA's questions, not answers (its entries have an image and no prompt); give the file "
            "that the model's answers were written to."
        )


def _predictions(row: Row, keys: tuple[str, str], path: Path, place: str, boxes: bool) -> list[PredictionLine]:
    """The answer in a row, or its answers if it has a list of them."""
    for key in keys:
        if key not in row:
            raise UserError(f"{path}, {place}: missing key {key!r}; earlier entries use {keys[0]!r} and {keys[1]!r}.")
    name, answer = (row[key] for key in keys)
    if isinstance(name, float) and name.is_integer():  # pandas writes ids so if one is missing
        name = int(name)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"{path}, {place}: {keys[0]} is {_shown(name)}; expected a string or an integer.")
    own = row.get(REPEAT)
    if isinstance(own, str) and own.isascii() and own.strip().isdigit():  # a table's cell
        own = int(own)
    if own is not None and type(own) is not int:
        raise UserError(f"{path}, {place}: {REPEAT} is {_shown(own)}; expected an integer, such as 1.")
    lines = [
        PredictionLine(str(name), _text(one, path, f"{place}: {keys[1]}", boxes), place, repeat)
        for one, repeat in several(answer, boxes=boxes)
    ]
    if own is None:
        return lines
    if len(lines) != 1 or lines[0].repeat is not None:
        raise UserError(f"{path}, {place}: it has a list of answers and a number in {REPEAT}; give one of them.")
    return [replace(lines[0], repeat=own)]


def several(answer: Any, *, boxes: bool) -> list[tuple[Any, int | None]]:
    """(answer, number from 1) for each answer in a list of them; (answer, None) for a single one."""
    if not isinstance(answer, list | tuple) or not answer or (boxes and not isinstance(answer[0], str | list | tuple)):
        return [(answer, None)]
    return [(one, number) for number, one in enumerate(answer, start=1)]


def prediction_lines(name: object, answer: object, number: int, *, boxes: bool) -> list[PredictionLine]:
    """The answers of an entry of a Python mapping; ``number`` is its place from 1.

    Raises:
        UserError: as ``read_predictions``.
    """
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"the id {_shown(name)}: expected a string or an integer.")
    lines = []
    for one, repeat in several(answer, boxes=boxes):
        text = _answer_text(one, boxes)
        if text is None:
            raise UserError(f"the answer to {name} is {_shown(one)}; {EXPECTED}.")
        lines.append(PredictionLine(str(name), text, f"entry {number}", repeat))
    return lines


def _text(answer: Any, path: Path, where: str, boxes: bool) -> str:
    text = _answer_text(answer, boxes)
    if text is None:
        raise UserError(f"{path}, {where} is {_shown(answer)}; {EXPECTED}.")
    return text


def _answer_text(answer: Any, boxes: bool) -> str | None:
    """An answer as text: a number as the file spells it, a list (``boxes``) as JSON; None if it is something else."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Number):
        return answer.literal
    if isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer):
        return str(answer)
    if boxes and isinstance(answer, list | tuple | dict):
        return json.dumps(answer, ensure_ascii=False)
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
