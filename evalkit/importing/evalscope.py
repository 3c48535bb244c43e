"""EvalScope's results: ``predictions/MODEL/DATASET_SUBSET.jsonl`` and the same name below ``reviews``.

A line of predictions has ``index``, ``model``, ``model_output`` and ``messages``; one of reviews has ``index``,
``target``, ``messages`` and ``sample_score`` (``evalscope/api/evaluator/cache.py``, versions 1.0 to 1.14).  Reports are
``reports/MODEL/DATASET.json``; the version is in ``configs/task_config.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

from .files import content_of, json_lines, json_of
from .foreign import ForeignAnswer, ForeignResults, as_score, as_text, id_fields
from .messages import answer_of, error_of, question_of, text_of

EVALSCOPE = "EvalScope"
PREDICTIONS, REVIEWS = "predictions", "reviews"
SUPPORTED = "1."
REPORT_SCHEMAS = (None, 1, 2)
LARGEST_CONFIG = 4 << 20
_VERSION = re.compile(rb"^evalscope_version:\s*['\"]?([\w.\-+]{1,40})", re.MULTILINE)

Rows = Mapping[tuple[Any, Any], tuple[str, Mapping[str, Any]]]


def is_prediction(row: Mapping[str, Any]) -> bool:
    """Whether an object is a line of predictions."""
    return "index" in row and "model_output" in row and "messages" in row


def is_review(row: Mapping[str, Any]) -> bool:
    """Whether an object is a line of reviews."""
    return "index" in row and isinstance(row.get("sample_score"), Mapping)


def read_evalscope(path: Path, *, metric: str | None = None) -> ForeignResults:
    """The results in a file of predictions or reviews, with its counterpart if that is in its place.

    Raises:
        UserError: a file is damaged, or of a version that is not supported.
    """
    reviews, predictions = _beside(path, REVIEWS), _beside(path, PREDICTIONS)
    files = [file for file in dict.fromkeys((path, predictions, reviews)) if file is not None]
    asked: dict[Any, tuple[str, Mapping[str, Any]]] = {}
    scored: dict[Any, tuple[str, Mapping[str, Any]]] = {}
    for file in files:
        for number, row in json_lines(file):
            if not (is_prediction(row) or is_review(row)):
                raise UserError(f"{file}, line {number}: it is neither a prediction nor a review of EvalScope 1.")
            index = row["index"]
            if type(index) is not int:
                raise UserError(f"{file}, line {number}: its index is no whole number.")
            (scored if is_review(row) else asked)[index] = (f"line {number}", row)
    if not asked and not scored:
        raise UserError(f"{path} has no samples.")
    names = _scores_of(next(iter(scored.values()))[1]) if scored else {}
    if metric is not None and metric not in names:
        raise UserError(f"{path}: --metric {metric}: its samples have {', '.join(names) or 'no score'}.")
    name = metric or next(iter(names), "")
    answers = [
        _answer(index, *(asked.get(index) or scored[index]), scored.get(index, ("", {}))[1], name, path)
        for index in dict.fromkeys([*asked, *scored])
    ]
    model = next((as_text(row.get("model")) for _, row in asked.values()), None) or path.parent.name
    version = _version(path)
    if version is not None and not version.startswith(SUPPORTED):
        raise UserError(f"{path} was written by EvalScope {version}; files of EvalScope 1 are supported.")
    report, stated = _report(path)
    notes = []
    others = [key for key in names if key != name]
    if metric is None and others:
        notes.append(f"{path.name}: compared with its score {name}; it also has {', '.join(others[:5])} (--metric).")
    return ForeignResults(
        EVALSCOPE, version, path.stem, model, answers, name, stated, [*files, *([report] if report else [])], notes
    )


def _beside(path: Path, kind: str) -> Path | None:
    """The file of the same name below ``predictions`` or ``reviews`` of the same run."""
    if len(path.parts) < 4 or path.parent.parent.name not in (PREDICTIONS, REVIEWS):
        return None
    other = path.parent.parent.with_name(kind) / path.parent.name / path.name
    return other if other.is_file() and not other.is_symlink() else None


def _scores_of(review: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a sample by name, the main one first."""
    score = review["sample_score"].get("score")
    value = score.get("value") if isinstance(score, Mapping) else None
    if not isinstance(value, Mapping):
        return {}
    main = score.get("main_score_name")
    names = [main] if isinstance(main, str) and main in value else []
    return {key: value[key] for key in dict.fromkeys([*names, *value])}


def _answer(
    index: int, place: str, row: Mapping[str, Any], review: Mapping[str, Any], metric: str, path: Path
) -> ForeignAnswer:
    score = review["sample_score"].get("score") if review else None
    score = score if isinstance(score, Mapping) else {}
    sample = review["sample_score"] if review else {}
    text = answer_of(row.get("model_output"))
    if text is None:
        text = as_text(score.get("prediction"))
    if text is None and isinstance(messages := row.get("messages"), list) and messages:
        last = messages[-1]
        text = text_of(last.get("content")) if isinstance(last, Mapping) and last.get("role") == "assistant" else None
    output = row.get("model_output")
    error = error_of(output.get("error")) if isinstance(output, Mapping) else None
    if text is None and error is None:
        raise UserError(f"{path}, {place}: it has no answer.")
    group, generation = sample.get("group_id"), sample.get("generation_index")
    repeat = generation + 1 if isinstance(generation, int) and isinstance(group, int) and generation > 0 else 1
    target = row.get("target", review.get("target"))
    if isinstance(target, list) and target:
        target = target[0]
    metadata = row.get("metadata") or sample.get("sample_metadata")
    return ForeignAnswer(
        place,
        text or "",
        {"index": str(index), **id_fields(metadata)},
        position=group if repeat > 1 else index,
        prompt=question_of(row.get("messages")),
        repeat=repeat,
        score=as_score(_scores_of(review).get(metric)) if review else None,
        extracted=as_text(score.get("extracted_prediction")),
        target=as_text(target),
        error=error,
    )


def _run_folder(path: Path) -> Path | None:
    return path.parent.parent.parent if path.parent.parent.name in (PREDICTIONS, REVIEWS) else None


def _version(path: Path) -> str | None:
    """The version that the run's configuration names; None if there is none."""
    folder = _run_folder(path)
    for file in () if folder is None else ("task_config.yaml", "task_config_*.yaml"):
        for config in sorted((folder / "configs").glob(file))[:1]:  # type: ignore[operator]
            found = _VERSION.search(content_of(config, LARGEST_CONFIG))
            if found:
                return found[1].decode()
    return None


def _report(path: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """The report of the run's data set, and its scores by name."""
    folder = _run_folder(path)
    if folder is None:
        return None, {}
    place = folder / "reports" / path.parent.name
    found = [file for file in sorted(place.glob("*.json"))[:1000] if path.stem.startswith(f"{file.stem}_")]
    if not found:
        return None, {}
    report = max(found, key=lambda file: len(file.stem))
    content = json_of(report)
    if not isinstance(content, Mapping) or content.get("schema_version") not in REPORT_SCHEMAS:
        schema = content.get("schema_version") if isinstance(content, Mapping) else None
        raise UserError(f"{report}: a report with schema version {str(schema)[:40]}; versions 1 and 2 are supported.")
    metrics = content.get("metrics")
    stated: dict[str, Any] = {}
    for one in metrics if isinstance(metrics, list) else []:
        if isinstance(one, Mapping):
            identity = one.get("identity")
            name = as_text(one.get("name")) or (
                as_text(identity.get("name")) if isinstance(identity, Mapping) else None
            )
            if name and (score := as_score(one.get("score"))) is not None:
                stated[name[:200]] = score
    return report, stated
