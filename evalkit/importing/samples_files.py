"""Sample files of lm-evaluation-harness and of lmms-eval, which began as a copy of it.

lm-evaluation-harness 0.4 writes ``samples_TASK_DATE.jsonl`` beside ``results_DATE.json``, with a line for each sample
and filter: ``doc_id`` (the sample's place in the split), ``doc``, ``arguments``, ``resps`` (raw), ``filtered_resps``,
``filter`` and a key for each metric (``lm_eval/loggers/evaluation_tracker.py``).  lmms-eval writes
``DATE_samples_TASK.jsonl`` beside ``DATE_results.json``: ``input`` in place of ``arguments``, ``resps`` only where they
differ from ``filtered_resps``, and in recent versions no ``doc`` (``lmms_eval/loggers/evaluation_tracker.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

from .files import json_lines, json_of
from .foreign import ForeignAnswer, ForeignResults, as_score, as_text, id_fields

LM_EVAL, LMMS_EVAL = "lm-evaluation-harness", "lmms-eval"
LM_NAME = re.compile(r"samples_(?P<task>.+?)_(?P<date>\d{4}-\d\d-\d\dT[\d.\-]+)")
LMMS_NAME = re.compile(r"(?P<date>\d{8}_\d{6})_samples_(?P<task>.+)")
OWN = frozenset(
    {
        "doc_id", "doc", "target", "input", "input_media", "arguments", "resps", "filtered_resps", "filter", "metrics",
        "doc_hash", "prompt_hash", "target_hash", "token_counts", "submission",
    }
)  # fmt: skip
"""The keys of a line that are no metric."""
SUPPORTED_LM_EVAL = "0.4"
NOT_KNOWN = "unknown@unknown"
"""What lmms-eval records as its branch and commit outside of a checkout: no version."""
SCORES = ("score", "accuracy", "acc", "correct", "is_correct", "hit")
EXTRACTED = ("parsed_pred", "parsed_answer", "pred_answer", "extracted_answer", "extracted", "pred", "prediction")
"""The keys of a metric's object, in lmms-eval, that may hold the score and the extracted answer."""


def is_samples(row: Mapping[str, Any]) -> bool:
    """Whether an object is a line of one of these files."""
    return "doc_id" in row and "target" in row and ("resps" in row or "filtered_resps" in row)


def task_of(path: Path) -> str:
    """The task's name, from the file's."""
    found = LM_NAME.fullmatch(path.stem) or LMMS_NAME.fullmatch(path.stem)
    return found["task"] if found else path.stem


def read_samples(path: Path, *, metric: str | None = None, chosen_filter: str | None = None) -> ForeignResults:
    """The results in a file of samples.

    Args:
        metric: which of the harness's scores; None for the first.
        chosen_filter: of several filters of lm-evaluation-harness; None for the first.

    Raises:
        UserError: the file is damaged, or has log-likelihoods instead of texts.
    """
    lines = list(_lines(path, chosen_filter))
    if not lines:
        raise UserError(f"{path} has no samples.")
    first = lines[0][1]
    harness = LMMS_EVAL if "input" in first else LM_EVAL
    metrics = _metrics_of(first)
    if metric is not None and metric not in metrics:
        raise UserError(f"{path}: --metric {metric}: its samples have {', '.join(metrics) or 'no score'}.")
    name = metric or next((key for key in metrics if _score_of(first.get(key)) is not None), "")
    name = name or next(iter(metrics), "")
    answers = [answer for number, row in lines for answer in _answers(row, f"line {number}", name, path)]
    task = task_of(path)
    results = _results_file(path)
    version, model, stated = _summary(results, harness, task)
    own_filter = as_text(first.get("filter")) or ""
    notes = []
    others = [key for key in metrics if key != name]
    if metric is None and others and name:
        notes.append(f"{path.name}: compared with its score {name}; it also has {', '.join(others)} (--metric).")
    if own_filter and own_filter != "none":
        name = f"{name},{own_filter}" if name else ""
    files = [path] if results is None else [path, results]
    return ForeignResults(harness, version, task, model, answers, name, stated, files, notes)


def _lines(path: Path, chosen: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of one filter, the first if none is chosen."""
    filters: dict[str, None] = {}
    for number, row in json_lines(path):
        if not is_samples(row):
            missing = next(key for key in ("doc_id", "target", "filtered_resps") if key not in row)
            raise UserError(f"{path}, line {number}: missing key {missing!r}; the other lines are samples.")
        name = str(row.get("filter", ""))[:200]
        if chosen is None:
            chosen = name
        filters[name] = None
        if name == chosen:
            yield number, row
    if chosen is not None and chosen not in filters:
        raise UserError(f"{path}: --filter {chosen}: its filters are {', '.join(filters)}.")


def _metrics_of(row: Mapping[str, Any]) -> list[str]:
    named = row.get("metrics")
    if isinstance(named, list) and all(isinstance(one, str) for one in named):
        return [one for one in named if one in row]
    return [key for key in row if key not in OWN and (isinstance(row[key], Mapping) or as_score(row[key]) is not None)]


def _score_of(value: Any) -> float | None:
    if isinstance(value, Mapping):
        return next((score for key in SCORES if (score := as_score(value.get(key))) is not None), None)
    return as_score(value)


def _answers(row: Mapping[str, Any], place: str, metric: str, path: Path) -> Iterator[ForeignAnswer]:
    texts = _texts(row.get("resps", row.get("filtered_resps")))
    if texts is None:
        raise UserError(
            f"{path}, {place}: its answers are not one text a sample (log-likelihoods of options, for example); only "
            "generated texts are imported."
        )
    value = row.get(metric)
    filtered = _texts(row.get("filtered_resps"))
    extracted = None
    if isinstance(value, Mapping):
        extracted = next((text for key in EXTRACTED if (text := as_text(value.get(key))) is not None), None)
    if extracted is None and "filter" in row and filtered:
        extracted = filtered[0]
    if extracted is None and filtered and filtered[0] != texts[0]:
        extracted = filtered[0]
    doc_id = row["doc_id"]
    fields = {**id_fields(row.get("doc")), **(id_fields(value) if isinstance(value, Mapping) else {})}
    for key, other in row.items():  # the objects of other metrics may have the id
        if key not in OWN and isinstance(other, Mapping):
            fields = {**id_fields(other), **fields}
    for number, text in enumerate(texts, start=1):
        yield ForeignAnswer(
            place,
            text,
            fields,
            position=doc_id if type(doc_id) is int else None,
            prompt=_prompt(row),
            repeat=number,
            score=_score_of(value) if number == 1 else None,
            extracted=extracted if number == 1 else None,
            target=as_text(row.get("target")),
        )


def _texts(value: Any) -> list[str] | None:
    """The answers to a sample; None if there are requests for several options, or no texts."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return value
    return None


def _prompt(row: Mapping[str, Any]) -> str:
    """The texts that were shown to the model."""
    if isinstance(doc := row.get("doc"), Mapping) and isinstance(question := doc.get("question"), str):
        return question
    found: list[str] = []
    rest: list[Any] = [row.get("input", row.get("arguments"))]
    while rest and len(found) < 1000:
        one = rest.pop()
        if isinstance(one, str):
            found.append(one.replace("\\n", "\n"))
        elif isinstance(one, list):
            rest += one[::-1]
        elif isinstance(one, Mapping):
            rest += list(one.values())[::-1]
    return "\n".join(found)


def _results_file(path: Path) -> Path | None:
    """The aggregates that were written with a file of samples."""
    if found := LM_NAME.fullmatch(path.stem):
        beside = path.with_name(f"results_{found['date']}.json")
    elif found := LMMS_NAME.fullmatch(path.stem):
        beside = path.with_name(f"{found['date']}_results.json")
    else:
        return None
    return beside if beside.is_file() and not beside.is_symlink() else None


def _summary(path: Path | None, harness: str, task: str) -> tuple[str | None, str | None, Mapping[str, Any]]:
    """(version, model, aggregates of the task) in a results file."""
    if path is None:
        return None, None, {}
    content = json_of(path)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise UserError(f"{path}: it has no results of {harness}; restore it, or move it away.")
    version = as_text(content.get("lm_eval_version" if harness == LM_EVAL else "lmms_eval_version"))
    if harness == LM_EVAL and version and not version.startswith(SUPPORTED_LM_EVAL):
        raise UserError(f"{path} was written by {LM_EVAL} {version[:40]}; files of version 0.4 are supported.")
    version = None if version == NOT_KNOWN else version
    config = content.get("config")
    model = as_text(content.get("model_name")) or (
        as_text(config.get("model")) if isinstance(config, Mapping) else None
    )
    scores = content["results"].get(task)
    stated = {} if not isinstance(scores, Mapping) else numbers_of(scores)
    return version or None, model or None, stated


def numbers_of(scores: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of an object."""
    found = {str(key)[:200]: as_score(value) for key, value in scores.items() if not isinstance(value, str)}
    return {key: value for key, value in found.items() if value is not None}
