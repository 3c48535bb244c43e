"""What ``evalkit.evaluate`` returns: the results of splits with intervals and answers, as a table or with pandas."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.jobs import Record
from evalkit.results.leaderboard import table as board
from evalkit.results.samples.dataframe import to_frame
from evalkit.results.samples.join import status_of
from evalkit.results.samples.records import clean, is_box, plain
from evalkit.results.stats.intervals import scale_of
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import score_row
from evalkit.scoring import Result
from evalkit.text_console import TextConsole

if TYPE_CHECKING:
    import pandas as pd

WIDE = 1000
"""Columns of the printed table: it is never wrapped."""


class EvaluationResults(dict[str, Result]):
    """Results by ``task/split``; prints as a table.

    Args:
        records: the answers of each split, in the order of its samples.
    """

    def __init__(self, results: Mapping[str, Result], records: Mapping[str, Sequence[Record]], model: str) -> None:
        super().__init__(results)
        self.records = records
        self._model = model

    def __repr__(self) -> str:
        entries = board.entries_of(self._model, self._model, list(self.rows.values()))
        out = io.StringIO()
        console = TextConsole(file=out, width=WIDE, color_system=None, highlight=False)
        console.print(board.to_table(entries))
        notes = "\n".join(board.notes(entries))
        lines = [line.rstrip() for line in f"{out.getvalue().rstrip()}\n\n{notes}".splitlines()]
        return "\n".join(lines).strip("\n")

    @cached_property
    def rows(self) -> Mapping[str, ScoreRow]:
        """By ``task/split``: value, interval, counts and signature, as in a run's ``scores.json``."""
        return {name: score_row(result) for name, result in self.items()}

    @property
    def intervals(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        """By ``task/split`` and score: the ends of the 95 % interval, clustered by image, where there is one."""
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for name, row in self.rows.items():
            of_values = ((value, row.interval_of(value)) for value in row.values)
            found[name] = {
                value: (interval["low"], interval["high"])
                for value, interval in of_values
                if interval.get("low") is not None
            }
        return found

    @property
    def answers(self) -> Mapping[str, Mapping[str, str]]:
        """By ``task/split`` and sample id: the raw answers; the second to sample ``12`` is under ``12#2``."""
        return {
            name: {record.key: record.response.text for record in records} for name, records in self.records.items()
        }

    def to_pandas(self, tasks: str | Sequence[str] = ()) -> pd.DataFrame:
        """One row per answer: question, references, answer, prediction and scores; columns as ``LoadedRun.to_pandas``.

        Args:
            tasks: names of tasks or splits; default: all.
        """
        wanted = (tasks,) if isinstance(tasks, str) else tasks
        names = [name for name in self if not wanted or name in wanted or name.rpartition("/")[0] in wanted]
        return to_frame([row for name in names for row in self._sample_rows(name)])

    def _sample_rows(self, name: str) -> Iterator[dict[str, Any]]:
        result, row = self[name], self.rows[name]
        per_sample = {} if result.scores is None else result.scores.per_sample
        columns = next(iter(per_sample.values()), {})
        # A headline that no sample has a score under is represented by the first column, as in reports.
        column = row.metric if row.metric in columns else next(iter(columns), row.metric)
        scale = scale_of(column, row.signature)
        for record in self.records[name]:
            sample, response = record.sample, record.response
            value: Any = record.prediction.value
            if result.repeats:
                per_sample = result.repeats[record.repeat - 1].per_sample
            scores = per_sample.get(sample.id, {})
            score = scores.get(column)
            references = [list(map(float, r)) if is_box(r) else plain(r) for r in sample.references]
            found = {
                "model": self._model,
                "task": row.task,
                "split": row.split,
                "id": sample.id,
                "cluster": sample.cluster,
                "images": [image.name for image in record.images],
                "question": sample.text,
                "options": list(sample.option_texts),
                "references": [reference for reference in references if isinstance(reference, str)],
                "reference_box": next((reference for reference in references if isinstance(reference, list)), None),
                "text": response.text,
                "answer": None if value is None or is_box(value) else plain(value),
                "box": list(map(float, value)) if isinstance(value, tuple) and is_box(value) else None,
                "status": status_of(response.finish, value, score, scale),
                "metric": column,
                "score": score,
                "finish": response.finish,
                "error": response.error,
                "new_tokens": len(response.tokens),
                "prompt_tokens": response.prompt_tokens,
                "seconds": response.seconds,
                "shots": list(record.shots),
                **({"repeat": record.repeat} if result.repeats else {}),
                **{f"scores.{key}": number for key, number in scores.items()},
                **{f"meta.{key}": meta for key, meta in sample.meta.items()},
            }
            yield {key: clean(one) for key, one in found.items()}
