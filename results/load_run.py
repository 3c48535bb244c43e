"""A finished run in Python: ``evalkit.load_run("runs/A").to_pandas()``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.results.samples.dataframe import to_frame
from evalkit.results.samples.records import Record, chosen_splits, records_of
from evalkit.results.store.scored_run import ScoredRun

if TYPE_CHECKING:
    import pandas as pd


class LoadedRun:
    """A finished run.

    Attributes:
        path: its folder.
        name: the folder's name.
        model: the model's name in tables.
        manifest: settings, versions and hardware.
        scores: the rows of ``scores.json``, by ``task/split``: value, interval, n, unparsed, signature, ….
    """

    def __init__(self, run: ScoredRun, data: str | None = None) -> None:
        self._run = run
        self._data = data
        self.path = run.path
        self.name = run.name
        self.model = run.model
        self.manifest: Mapping[str, Any] = run.manifest.to_dict()
        self.scores: Mapping[str, Mapping[str, Any]] = {name: row.to_dict() for name, row in run.rows.items()}

    def __repr__(self) -> str:
        return f"LoadedRun({fspath(self.path)!r}: {self.model}, {', '.join(self.scores)})"

    def records(self, tasks: str | Sequence[str] = (), *, prompts: bool = True) -> list[Record]:
        """One dictionary per sample, with the columns of ``to_pandas``."""
        names = chosen_splits([self._run], [tasks] if isinstance(tasks, str) else tasks)
        return [
            record
            for _, records, _, _ in records_of(self._run, names, data=self._data, prompts=prompts)
            for record in records
        ]

    def to_pandas(self, tasks: str | Sequence[str] = (), *, prompts: bool = True) -> pd.DataFrame:
        """One row per sample: question, answer, prediction and scores.

        ``text`` is the raw answer, ``answer`` (or ``box``) the prediction, ``score`` the value of the headline metric
        (named in ``metric``), and ``scores.*`` are all scores.  Boxes are (x1, y1, x2, y2) in pixels of the original
        image.  Categories for breakdowns are in ``meta.*``.  Questions and references are read from the data; without
        the data, their columns are empty.

        Args:
            tasks: names of tasks, splits (``refcoco/testA``) or groups; default: all that the run has.
            prompts: whether to render each sample's prompt (column ``prompt``).

        Raises:
            UserError: a task is not in the run, or a file of the run is corrupt.
        """
        return to_frame(self.records(tasks, prompts=prompts))

    def scores_to_pandas(self) -> pd.DataFrame:
        """One row per task split: value, interval, counts and signature, as in ``leaderboard.csv``."""
        import pandas as pd

        plain = ("values", "intervals")
        rows = [{key: value for key, value in row.items() if key not in plain} for row in self.scores.values()]
        return pd.DataFrame(rows)


def load_run(path: str | PathLike[str], *, data: str | PathLike[str] | None = None) -> LoadedRun:
    """Load a finished run for analysis with pandas.

    Args:
        path: the run folder.
        data: the location of the data (as ``--data``); default: where they were during the run.

    Raises:
        UserError: there is no run, it has no scores yet, or its files are corrupt.
    """
    return LoadedRun(ScoredRun.open(Path(fspath(path))), None if data is None else fspath(data))
