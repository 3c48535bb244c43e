"""Leaderboard rows, and which of them are comparable.

Numbers share a column only if they are comparable: the same task, split, metric and variant, on the same questions and
the same samples.  Protocol and shots may differ; notes below the table say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from evalkit.errors import UserError
from evalkit.reasoning import RULES_VERSION
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import verified_scores
from evalkit.results.store.signature import SUBSET

Key = tuple[str, ...]
ESTIMATED = "≈ "
"""Marks an estimate of a complete split's score."""


@dataclass(frozen=True)
class Entry:
    """One run's row of ``scores.json``, as it is shown: an estimate in place of the score of a subset."""

    run: str
    model: str
    row: ScoreRow

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", self.row.presented)

    @cached_property
    def key(self) -> Key:
        """What two numbers must share to be in one column."""
        row = self.row
        signature = row.parsed_signature
        scored = signature.scorer.format()
        if signature.parsing not in (None, RULES_VERSION):
            scored += f"|parsing:{signature.parsing}"
        if row.estimate is not None:
            scored += f"|{SUBSET}:{row.estimate['subset']}"
        which = row.samples or f"n:{row.n}"
        # A custom task's signature has its file's digest; its annotations' digest once depended on the file's folder.
        data = "" if row.parsed_signature.file is not None else str(row.annotations or "")
        return (row.task, row.split, row.metric, scored, data, str(which))

    @property
    def place(self) -> str:
        return self.row.name

    @property
    def cell(self) -> str:
        """``85.2 ± 2.3``, with an asterisk if samples failed; ``submission`` if there is one instead of a score."""
        star = "*" if self.row.errors else ""
        if self.row.submission:
            return "submission" + star
        return "–" if self.row.value is None else ESTIMATED * self.estimated + with_error(self.row) + star

    @property
    def estimated(self) -> bool:
        """Whether the value is an estimate of the complete split's score, from a subset."""
        return self.row.estimate is not None

    @property
    def samples(self) -> str:
        """The number of scored samples: ``100``, or ``100 of 5,000`` with an estimate."""
        estimate = self.row.estimate
        return f"{self.row.n:,}" if estimate is None else f"{self.row.n:,} of {estimate['size']:,}"

    @property
    def estimate_note(self) -> str:
        """``vqav2/val ≈ 78.4 ± 1.6 (100 of 214,354, from 6 reference runs)``, and any doubt; empty without one."""
        estimate = self.row.estimate
        if estimate is None:
            return ""
        runs = "1 reference run" if estimate["references"] == 1 else f"{estimate['references']} reference runs"
        doubt = f": {estimate['doubt']}" if estimate.get("doubt") else ""
        return f"{self.place} {ESTIMATED}{with_error(self.row, 1)} ({self.samples}, from {runs}){doubt}"


def part_of(row: ScoreRow) -> str:
    """The options that chose the samples of a score of a part of a split."""
    return row.chosen or "--limit"


def truncated_text(row: ScoreRow) -> str:
    """The number of truncated answers, with their share: ``3 (2.5 %)``."""
    share = f" ({100 * row.truncated / row.answers:.1f} %)" if row.truncated and row.n else ""
    return f"{row.truncated:,}{share}"


def reasoning_text(row: ScoreRow) -> str:
    """The mean number of reasoning tokens; a dash if there is none."""
    return "–" if row.reasoning_tokens is None else f"{row.reasoning_tokens:,.1f}"


def with_error(row: ScoreRow, decimals: int = 2) -> str:
    """A score with its interval: ``±`` if that is symmetric, else its ends; the score alone without an interval."""
    text = f"{row.value:.{decimals}f}"
    if row.is_uneven:
        return f"{text} [{row.low:.1f}, {row.high:.1f}]"
    half = row.ci95
    return f"{text} ± {half:.{decimals}f}" if half else text  # a half width of 0 would claim certainty


def with_interval(row: ScoreRow, name: str) -> str:
    """The value ``name`` with its interval, as ``with_error``."""
    found = row.interval_of(name)
    low, high, half = found.get("low"), found.get("high"), found.get("ci95")
    return with_error(
        replace(row, value=row.values[name], interval=found.get("interval"), low=low, high=high, ci95=half)
    )


def error_of(row: ScoreRow) -> float | None:
    """The standard error; for an interval that is not symmetric, the one that gives an interval of the same width."""
    if row.is_uneven and row.ends is not None:
        low, high = row.ends
        return (high - low) / 3.92
    return None if row.stderr is None else float(row.stderr)


def entries_of(run: str, model: str, rows: Sequence[ScoreRow]) -> list[Entry]:
    return [Entry(run, model, row) for row in rows]


def run_folders(folders: Sequence[Path]) -> dict[str, Path]:
    """Every run in ``folders``, each a run folder or a folder of runs, by the name that tables give it.

    Raises:
        UserError: there is no run.
    """
    chosen: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give a run folder, or the folder of the runs.")
        own = folder / "scores.json"
        files = [own] if own.is_file() else sorted(folder.glob("*/scores.json"))
        if not files:
            raise UserError(f"{folder} has no finished run (no scores.json in it or one level below).")
        for file in files:
            chosen.setdefault(file.resolve(), file)
    names = named([path.parent for path in chosen])
    return {name: file.parent for name, file in zip(names, chosen.values(), strict=True)}


def collect(folders: Sequence[Path]) -> list[Entry]:
    """The rows of every run in ``folders``, each a run folder or a folder of runs.

    Raises:
        UserError: there is no run, no score, or the scores are corrupt.
    """
    runs = run_folders(folders)
    entries = [entry for name, folder in runs.items() for entry in _read(name, folder / "scores.json")]
    if not entries:
        raise UserError(f"there is no score in {', '.join(map(str, folders))}: its runs have no task.")
    return entries


def _read(name: str, file: Path) -> list[Entry]:
    scores = verified_scores(file)
    return entries_of(name, scores.model or "", scores.rows)


def named(runs: Sequence[Path]) -> list[str]:
    """The names of the runs' folders, with enough parent folders to be unique."""
    names = [run.name for run in runs]
    for depth in range(2, max((len(run.parts) for run in runs), default=0) + 1):
        longer = ["/".join(run.parts[-depth:]) for run in runs]
        names = [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]
    return names


def runs_of(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(e.run for e in entries))


def heading(entries: Sequence[Entry], run: str) -> str:
    """The model's name if it is unique among the runs, else the run's."""
    models = {e.run: e.model for e in entries}
    unique = len(set(models.values())) == len(models)
    return models[run] if unique else run


@dataclass(frozen=True)
class Column:
    """A column: a task's split, scored by one metric over one set of samples.  ``cells`` are by run."""

    label: str
    cells: Mapping[str, Entry]

    @property
    def first(self) -> Entry:
        return next(iter(self.cells.values()))


def columns_of(entries: Sequence[Entry]) -> list[Column]:
    """The columns in order of first appearance; equal labels get the number of samples, or a number."""
    by_key: dict[Key, dict[str, Entry]] = {}
    for e in entries:
        by_key.setdefault(e.key, {})[e.run] = e
    firsts = [(next(iter(cells.values())), cells) for cells in by_key.values()]
    found = [Column(ESTIMATED * first.estimated + first.place, cells) for first, cells in firsts]
    for marks in ([f"(n={c.first.row.n:,})" for c in found], [f"#{place}" for place in range(1, len(found) + 1)]):
        labels = [c.label for c in found]
        found = [
            replace(c, label=f"{c.label} {mark}") if labels.count(c.label) > 1 else c
            for c, mark in zip(found, marks, strict=True)
        ]
    return found


def labels(columns: Sequence[Column]) -> list[str]:
    return [c.label for c in columns]
