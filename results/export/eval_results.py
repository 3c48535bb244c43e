"""A run's scores as files of a model repository's ``.eval_results``, which the hub collects on its leaderboards.

The format is that of https://huggingface.co/docs/hub/eval-results: an entry names a data set on the hub, one of its
tasks, and a value.  Only scores of complete official splits are written, since the hub compares them by the data set
alone; the interval and the signature are in the entry's notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalkit.errors import UserError
from evalkit.results.leaderboard.rows import part_of, with_error
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.tables import flat
from evalkit.task_groups import MEANS
from evalkit.version import __version__

from .model_card import data_set_of, is_hub_data_set

TASK_ID = "default"
"""The hub's name of a data set's task, where its ``eval.yaml`` has one task."""


@dataclass(frozen=True)
class EvalResultFile:
    """A file for ``.eval_results/``, with the split that it is of."""

    split: str
    file: str
    content: str


def eval_result_files(run: ScoredRun, names: Sequence[str]) -> tuple[list[EvalResultFile], list[str]]:
    """The files of these splits, and a reason for each split that has none.

    Raises:
        UserError: the installed huggingface_hub does not know the format.
    """
    try:
        import yaml
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError as error:
        raise UserError(
            "--to eval-results: the installed huggingface_hub does not know this format; upgrade it with: "
            "pip install -U huggingface_hub."
        ) from error
    found, left_out = [], []
    for name in names:
        row = run.rows[name]
        if reason := _unfit(run, row):
            left_out.append(f"{name}: {reason}")
            continue
        entry = EvalResultEntry(
            dataset_id=data_set_of(run, row)[0],
            task_id=TASK_ID,
            value=round(row.score, 2),
            date=(run.manifest.finished or run.manifest.created or "")[:10] or None,
            notes="; ".join(_notes(row)),
        )
        content = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
        found.append(EvalResultFile(name, f"{row.task}.{row.split}.yaml".replace("/", "_"), content))
    return found, left_out


def _unfit(run: ScoredRun, row: ScoreRow) -> str:
    """Why a score is none for the hub's leaderboards; empty if it is."""
    if row.task in MEANS:
        return "a mean of splits is no result on one data set"
    if row.value is None:
        return "it has no score"
    if row.limited:
        return f"only a subset was scored ({part_of(row)})"
    if row.errors:
        return f"{row.errors:,} samples failed"
    return "" if is_hub_data_set(run, row) else "its data is not known to be that of a data set on the hub"


def _notes(row: ScoreRow) -> Iterator[str]:
    yield f"{row.split}, {row.metric} {with_error(row)} (95 % interval), n={row.n}"
    yield f"evalkit {__version__}"
    yield flat(row.signature)
