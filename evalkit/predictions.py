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

An answer is a text, a number (scored as it is written in the file), or, for boxes, a list of numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
EXAMPLES = 3
EXPECTED = 'expected a text or a number ("" for an empty answer), or a list of numbers for a box'


@dataclass(frozen=True, slots=True)
class PredictionLine:
    """One answer from a file; ``place`` is its line or entry."""

    id: str
    text: str
    place: str


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
        return [_prediction(row, keys, path, place, boxes) for place, row in rows]
    if len(rows) == 1 and any(key in ids for key in first):
        return [PredictionLine(key, _text(value, path, f"answer to {key}", boxes), key) for key, value in first.items()]
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
        _prediction({"id": name, "text": "" if row.get(field) is None else row[field]}, FORMATS[0], path, place, boxes)
        for place, name, row in named
    ]


def _check_not_questions(first: Mapping[str, Any], keys: tuple[str, str], path: Path) -> None:
    """LLaVA's question files have the fields of its answer files, and a question in ``text``."""
    if keys == ("question_id", "text") and "image" in first and not {"prompt", "model_id", "answer_id"} & set(first):
        raise UserError(
            f"{path} has LLaVA's questions, not answers (its entries have an image and no prompt); give the file "
            "that the model's answers were written to."
        )


def _prediction(row: Row, keys: tuple[str, str], path: Path, place: str, boxes: bool) -> PredictionLine:
    for key in keys:
        if key not in row:
            raise UserError(f"{path}, {place}: missing key {key!r}; earlier entries use {keys[0]!r} and {keys[1]!r}.")
    name, answer = (row[key] for key in keys)
    if isinstance(name, float) and name.is_integer():  # pandas writes ids so if one is missing
        name = int(name)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"{path}, {place}: {keys[0]} is {_shown(name)}; expected a string or an integer.")
    return PredictionLine(str(name), _text(answer, path, f"{place}: {keys[1]}", boxes), place)


def prediction_line(name: object, answer: object, number: int, *, boxes: bool) -> PredictionLine:
    """An answer of a Python mapping; ``number`` is its place from 1.  Raises ``UserError`` as ``read_predictions``."""
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"the id {_shown(name)}: expected a string or an integer.")
    text = _answer_text(answer, boxes)
    if text is None:
        raise UserError(f"the answer to {name} is {_shown(answer)}; {EXPECTED}.")
    return PredictionLine(str(name), text, f"entry {number}")


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


# -------------------------------------------------------------------------------------------------------------- joining


@dataclass(frozen=True)
class Matched:
    """A split's answers.

    Attributes:
        texts: by sample id.
        missing: the ids of samples without an answer.
        unused: the ids of answers to samples outside the split.
    """

    texts: Mapping[str, str]
    missing: Sequence[str] = ()
    unused: Sequence[str] = ()


def match(
    sample_ids: Sequence[str],
    predictions: Sequence[PredictionLine],
    *,
    source: str,
    split: str,
    missing_allowed: bool = False,
    advice: str = "--allow-missing counts them as wrong, and --skip-missing scores the others only.",
) -> Matched:
    """Join answers to the samples of a split by id.

    Answers to samples outside the split are left out, if there are others.

    Args:
        source, split: what messages call the file and the split.
        missing_allowed: whether samples may lack an answer.
        advice: what a message says of missing answers.

    Raises:
        UserError: two answers have the same id, no id is in the split, or, unless allowed, samples lack an answer.
    """
    known = set(sample_ids)
    texts: dict[str, str] = {}
    repeated: dict[str, str] = {}
    places: dict[str, str] = {}
    for prediction in predictions:
        if prediction.id in texts:
            repeated[prediction.id] = f"{prediction.id} in {places[prediction.id]} and {prediction.place}"
        texts.setdefault(prediction.id, prediction.text)
        places.setdefault(prediction.id, prediction.place)
    unused = [name for name in texts if name not in known]
    missing = [name for name in sample_ids if name not in texts]
    other_split = bool(unused) and len(unused) == len(texts)
    if repeated or other_split or (missing and not missing_allowed):
        faults = (
            (missing, "sample without an answer", "samples without an answer"),
            (unused, "answer to an unknown sample", "answers to unknown samples"),
            (list(repeated.values()), "id given more than once", "ids given more than once"),
        )
        counted = "; ".join(_counted(names, one, several) for names, one, several in faults if names)
        if other_split:
            advice = "none of the ids is in this split; is it the right one?"
        elif repeated:
            advice = "give each sample one answer."
        raise UserError(f"{source} does not fit {split} ({len(sample_ids):,} samples): {counted}; {advice}")
    return Matched({name: texts[name] for name in sample_ids if name in texts} if unused else texts, missing, unused)


def _counted(names: Sequence[str], one: str, several: str) -> str:
    """``59 samples without an answer (12, 13, 14, …)``."""
    examples = ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")
    return f"{len(names):,} {one if len(names) == 1 else several} ({examples})"
