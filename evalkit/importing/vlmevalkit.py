"""VLMEvalKit's tables: ``MODEL_DATASET.xlsx`` (or ``.tsv``, ``.json``), and what its evaluation writes beside it.

Predictions have the columns ``index`` and ``prediction``; the evaluation adds a table of the same name and a suffix
(``_openai_result``, ``_exact_matching_result``, ``_auxmatch``, ``_gpt-4o-mini``) with ``hit`` or ``score``, and
aggregates in ``_acc.csv`` or ``_score.csv`` (``.json``).  Its pickles are caches and are never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import Number
from evalkit.prediction_files import Row, rows_of

from .files import content_of
from .foreign import ForeignAnswer, ForeignResults, as_score, as_text, id_fields

VLMEVALKIT = "VLMEvalKit"
TABLES = (".xlsx", ".tsv", ".csv", ".json")
SCORES = ("hit", "score", "match", "correct")
EXTRACTED = ("extracted", "extract", "extracted_answer", "parsed", "res")
AGGREGATES = ("_acc", "_score", "_acc_all", "_metrics")
STATUS = "status.json"
MOST_STATED = 2000
FAILED = "Failed to obtain answer"
"""How VLMEvalKit writes that the model gave no answer."""


def is_predictions(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of a table of predictions."""
    return "index" in row and "prediction" in row


def is_aggregate(path: Path) -> bool:
    """Whether a file's name is that of a table of aggregates."""
    return path.stem.endswith(AGGREGATES)


def read_table(path: Path, *, metric: str | None = None) -> ForeignResults:
    """The results in a table of predictions, or in one that the evaluation wrote.

    Raises:
        UserError: a file is damaged, or is another table.
    """
    rows = rows_of(content_of(path), path)
    if not rows:
        raise UserError(f"{path} has no rows.")
    if not is_predictions(rows[0][1]):
        has = ", ".join(map(repr, list(rows[0][1])[:8])) or "none"
        raise UserError(f"{path}: its columns are {has}; VLMEvalKit's predictions have 'index' and 'prediction'.")
    evaluated, scores = path, rows
    names = _scores_of(rows[0][1])
    if not names and (beside := _evaluated(path)) is not None:
        evaluated = beside
        scores = rows_of(content_of(beside), beside)
        names = _scores_of(scores[0][1]) if scores else []
    if metric is not None and metric not in names:
        raise UserError(f"{path}: --metric {metric}: its rows have {', '.join(names) or 'no score'}.")
    name = metric or next(iter(names), "")
    by_index = {_index(row): row for _, row in scores}
    answers = [_answer(place, row, by_index.get(_index(row), {}), name, path) for place, row in rows]
    stem = path.stem if evaluated is not path else _base(path)
    model = next((one.name for one in path.absolute().parents[:3] if stem.startswith(f"{one.name}_")), None)
    stated, files = _stated(path.with_name(stem))
    version = _version(path.parent / STATUS)
    found = list(dict.fromkeys([path, evaluated, *files]))
    task = stem if model is None else stem.removeprefix(f"{model}_")
    return ForeignResults(VLMEVALKIT, version, task, model or stem, answers, name, stated, found)


def _scores_of(row: Row) -> list[str]:
    return [name for name in SCORES if name in row]


def _base(path: Path) -> str:
    """The name of the predictions that an evaluated table belongs to; its own if they are not there."""
    names = {one.stem for one in path.parent.iterdir() if one.suffix in TABLES and one != path}
    before = [name for name in names if path.stem.startswith(f"{name}_") and not name.endswith(AGGREGATES)]
    return min(before, key=len, default=path.stem)


def _evaluated(path: Path) -> Path | None:
    """The table beside predictions that has their scores, the first by name."""
    for one in sorted(path.parent.iterdir()):
        if one.suffix not in TABLES or one.is_symlink() or not one.stem.startswith(f"{path.stem}_"):
            continue
        if is_aggregate(one) or not one.is_file():
            continue
        try:
            rows = rows_of(content_of(one), one)
        except UserError:
            continue  # another file than what was named
        if rows and is_predictions(rows[0][1]) and _scores_of(rows[0][1]):
            return one
    return None


def _index(row: Row) -> str:
    value = row.get("index")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _answer(place: str, row: Row, scored: Row, metric: str, path: Path) -> ForeignAnswer:
    if "index" not in row or "prediction" not in row:
        raise UserError(f"{path}, {place}: it has no 'index' or no 'prediction'; earlier rows have both.")
    value = row["prediction"]
    text = value.literal if isinstance(value, Number) else as_text(value)
    if value is not None and text is None:
        raise UserError(f"{path}, {place}: its prediction is neither a text nor a number.")
    text = text or ""
    question, extracted = row.get("question"), next((scored[key] for key in EXTRACTED if key in scored), None)
    return ForeignAnswer(
        place,
        text,
        {**id_fields(row), "index": _index(row)},
        prompt=question if isinstance(question, str) else "",
        score=as_score(scored.get(metric)) if metric else None,
        extracted=as_text(extracted),
        target=as_text(row.get("answer")),
        error=f"VLMEvalKit recorded: {text[:100]}" if text.startswith(FAILED) else None,
    )


def _stated(stem: Path) -> tuple[dict[str, Any], Sequence[Path]]:
    """The aggregates beside predictions, ``row/column``, and their files."""
    found: dict[str, Any] = {}
    files = []
    for suffix in AGGREGATES:
        for ending in (".csv", ".json"):
            path = stem.with_name(f"{stem.name}{suffix}{ending}")
            if not path.is_file() or path.is_symlink():
                continue
            rows = rows_of(content_of(path), path)
            files.append(path)
            for number, (_, row) in enumerate(rows):
                label = as_text(row.get("split")) or (str(number) if len(rows) > 1 else "")
                for key, value in row.items():
                    score = as_score(value) if key != "split" else None
                    if score is not None and len(found) < MOST_STATED:
                        found["/".join(part for part in (label, str(key)) if part)[:200]] = score
    return found, files


def _version(status: Path) -> str | None:
    """The commit in the run's status file; None if there is none."""
    if not status.is_file() or status.is_symlink():
        return None
    rows = rows_of(content_of(status), status)
    return next((commit for _, row in rows if (commit := as_text(row.get("commit")))), None)
