"""Checks that stored scores are unchanged and belong to the answers stored with them.

``scores.json``, ``manifest.json`` and baselines have a checksum of their content.  Each row of ``scores.json`` has the
digests of the journal that it was computed from and of its file of per-sample scores.  Files of older versions have
neither; their scores are compared with their per-sample scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from evalkit import registry
from evalkit.aggregation import Corpus, OfSums
from evalkit.errors import UserError
from evalkit.task_groups import MEANS

from .run_folder import RunFolder
from .sample_scores import read_sample_scores
from .score_row import ScoreRow
from .seal import digest_of_file

TOLERANCE = 1e-6
"""The largest difference between a stored score and the mean of its samples that is attributed to rounding."""


def check_rows(run: Path, rows: Iterable[ScoreRow], *, sealed: bool) -> None:
    """Check the rows of a run's ``scores.json``.

    Args:
        sealed: the file has a checksum, which was right.

    Raises:
        UserError: a score was not made from the answers in its journal, or is not what its samples give.
    """
    for row in rows:
        if row.task in MEANS:
            continue
        _check_journal(run, row)
        if not sealed and row.value is not None:
            _check_samples(run, row)


def _check_journal(run: Path, row: ScoreRow) -> None:
    if row.journal is None:
        return
    path = RunFolder(run).journal_path(row.task, row.split)
    now = digest_of_file(path)
    verdicts = RunFolder(run).verdicts_path(row.task, row.split)
    if row.verdicts is not None and digest_of_file(verdicts) not in (None, row.verdicts):
        raise UserError(
            f"{run}: the score of {row.name} was computed from other verdicts than {verdicts.name} has now (the judge "
            f"was stopped, or the file was changed). Run the same command again, or score the answers with 'evalkit "
            f"rescore {run}'."
        )
    if now is not None and now != row.journal:  # without a journal, the score is all that is known
        raise UserError(
            f"{run}: the score of {row.name} was computed from other answers than {path.name} has now (the run was "
            f"resumed and is not finished, or the file was changed). Run the same command again, or score the answers "
            f"with 'evalkit rescore {run}'."
        )


def _check_samples(run: Path, row: ScoreRow) -> None:
    """Compare a score without a checksum with its samples, if they are there."""
    path = RunFolder(run).scores_path(row.task, row.split)
    if not path.is_file():
        return
    found = read_sample_scores(path, row).measured().mean
    reasons = []
    if abs(found - row.score) > TOLERANCE * max(1.0, abs(found)) and _is_mean(row):
        reasons.append(f"its samples give {found:.2f}")
    if row.ends is not None and not row.ends[0] - TOLERANCE <= row.score <= row.ends[1] + TOLERANCE:
        reasons.append(f"its interval is [{row.ends[0]:.2f}, {row.ends[1]:.2f}]")
    if reasons:
        raise UserError(
            f"{run / 'scores.json'} is corrupt: the score of {row.name} is {row.score:.2f}, but "
            f"{' and '.join(reasons)}; 'evalkit rescore {run}' writes it again."
        )


def _is_mean(row: ScoreRow) -> bool:
    """Whether a score is the mean of its samples' scores, according to its metric if that is installed."""
    for name in row.signature.split("|")[1:]:
        try:
            declared = registry.metrics.get(name).aggregation.get(row.metric)
        except UserError:
            continue  # no metric's name
        return not isinstance(declared, Corpus | OfSums)
    return False
