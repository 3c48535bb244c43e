"""What scoring a run again has changed, a line for each split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from evalkit.errors import UserError
from evalkit.jobs import Job
from evalkit.jsonl import objects, read_bytes
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import read_scores
from evalkit.scoring import Result

from .recorded import EXAMPLES

SampleScores = Mapping[str, Mapping[str, Any]]
"""Sample id → its line in the file of per-sample scores."""


def old_rows(folder: RunFolder, console: Console) -> dict[str, dict[str, Any]]:
    """The rows of ``scores.json`` by job; empty if the run was never scored or the file is corrupt."""
    path = folder.path / "scores.json"
    if not path.is_file():
        return {}
    try:
        return {row.name: row.presented.to_dict() for row in read_scores(path).rows}
    except UserError:
        console.print(f"{path} is corrupt; rewriting it")
        return {}


def read_before(folder: RunFolder, job: Job) -> dict[str, dict[str, Any]]:
    """The per-sample scores written before, by sample id; empty if they cannot be read."""
    path = folder.scores_path(job.task.name, job.split)
    try:
        return {line["id"]: line for _, line in objects(read_bytes(path, "the scores"), str(path), own=True)}
    except (UserError, KeyError, TypeError):
        return {}


def changes(old: Mapping[str, Any] | None, new: Mapping[str, Any], before: SampleScores, result: Result) -> str:
    """One line: what rescoring changed in a split."""
    name = f"{new['task']}/{new['split']}"
    if result.failure is not None:
        return f"{name} has no score: {result.failure}"
    if old is None:
        return f"{name}: scored for the first time"
    parts = [
        f"{label} {formatted(old.get(key))} → {formatted(new[key])}"
        for key, label in (
            ("value", new["metric"]), ("n", "n"), ("unparsed", "unparsed"), ("errors", "errors"),
            ("signature", "signature"), ("submission", "submission"),
        )
        if old.get(key) != new[key]
    ]  # fmt: skip
    after = {} if result.scores is None else result.scores.per_sample
    # A column that an older evalkit did not write does not count as a change.
    moved = [
        key
        for key, values in after.items()
        if key not in before or any(before[key].get(column, value) != value for column, value in values.items())
    ]
    moved += [key for key in before if key not in after]
    if moved:
        examples = ", ".join(moved[:EXAMPLES]) + (", …" if len(moved) > EXAMPLES else "")
        parts.append(f"{len(moved):,} of {len(result.job.samples):,} samples changed ({examples})")
    return f"{name}: {'; '.join(parts) or 'unchanged'}"


def formatted(value: Any) -> str:
    """A value as the leaderboard shows it."""
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
