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
    """A run read back from its folder.

    Attributes:
        path: its folder.
        name: the folder's name.
        model: what tables call the model.
        manifest: what ran: settings, versions, hardware.
        scores: the rows of ``scores.json``, by ``task/split``: value, interval, n, unparsed, signature, ….
    """

    def __init__(self, run: ScoredRun, data: str | None = None) -> None:
        self._run = run
        self._data = data
        self.path = run.path
        self.name = run.name
        self.model = run.model
        self.manifest: Mapping[str, Any] = run.manifest
        self.scores: Mapping[str, Mapping[str, Any]] = {name: row.to_dict() for name, row in run.rows.items()}

    def __repr__(self) -> str:
        return f"LoadedRun({fspath(self.path)!r}: {self.model}, {', '.join(self.scores)})"

    def records(self, tasks: str | Sequence[str] = (), *, prompts: bool = True) -> list[Record]:
        """A dictionary a sample, with the columns of ``to_pandas``."""
        names = chosen_splits([self._run], [tasks] if isinstance(tasks, str) else tasks)
        return [
            record
            for _, records, _, _ in records_of(self._run, names, data=self._data, prompts=prompts)
            for record in records
        ]

    def to_pandas(self, tasks: str | Sequence[str] = (), *, prompts: bool = True) -> pd.DataFrame:
        """A row a sample: what was asked, what was answered, what was read, and every score.

        ``text`` is the raw answer, ``answer`` (or ``box``) what was read from it, ``score`` the headline metric's value
        (``metric`` names it), and ``scores.*`` all of them.  Boxes are (x1, y1, x2, y2) in pixels of the original
        image.  What breakdowns need is in ``meta.*``.  Questions and references are those of the data; where the data
        are not there any more, those columns are empty.

        Args:
            tasks: names of tasks, splits (``refcoco/testA``) or groups; default: all that the run has.
            prompts: whether to render what each sample was asked (column ``prompt``).

        Raises:
            UserError: a task is not in the run, or a file of the run is damaged.
        """
        return to_frame(self.records(tasks, prompts=prompts))

    def scores_to_pandas(self) -> pd.DataFrame:
        """A row a task split: value, interval, counts, signature, as ``leaderboard.csv`` has them."""
        import pandas as pd

        plain = ("values", "intervals")
        rows = [{key: value for key, value in row.items() if key not in plain} for row in self.scores.values()]
        return pd.DataFrame(rows)


def load_run(path: str | PathLike[str], *, data: str | PathLike[str] | None = None) -> LoadedRun:
    """A finished run, to be looked at with pandas.

    Args:
        path: the run's folder.
        data: where the questions are now (as ``--data``); default: where they were when it ran.

    Raises:
        UserError: there is no run, it has no scores yet, or its files are damaged.
    """
    return LoadedRun(ScoredRun.open(Path(fspath(path))), None if data is None else fspath(data))
