"""Described tasks: a description, in TOML or in the first line of a ``.jsonl`` file, and rows wherever they are.

The rows are read when the task's samples are asked for, since they may be on the hub or below ``--data``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.columns import columns_of
from evalkit.data import Data, OfficialData
from evalkit.described_samples import SampleReader
from evalkit.description import Description, default_metric
from evalkit.errors import UserError
from evalkit.file_task import NEW_TOKENS, SPLIT, FileTask
from evalkit.fingerprint import of_samples
from evalkit.interfaces import Metric
from evalkit.row_sources import Source
from evalkit.row_tables import Table, read_table
from evalkit.types import Decoding, Kind, PromptSpec, PromptTemplate, Sample, Split

TRAIN = "train"


class DescribedTask(FileTask):
    """A task with a description.

    Args:
        path: of the file with the description, absolute.
        rows: those that follow the description in its file; None if it says where they are.
    """

    def __init__(self, path: Path, description: Description, kind: Kind, rows: Table | None = None) -> None:
        super().__init__(path, kind, description.metric or default_metric(kind), "", ())
        self.description = description
        self.groups = description.groups
        self.prompts: Mapping[str, PromptTemplate] = description.prompts
        self.decoding = replace(Decoding(NEW_TOKENS[kind]), **description.decoding)
        self.breakdown_keys: Sequence[str] = description.breakdowns
        configured = description.configured
        self.own_metrics: Mapping[str, Metric] = {} if configured is None else {configured.name: configured}
        self.splits: Mapping[str, Split] = {SPLIT: Split(None, description.about or str(path))}
        if description.shots is not None:
            self.splits = {**self.splits, TRAIN: Split(None, "few-shot examples (--shots)")}
        self.images_advice = f"the names of images are relative to {path.parent}"
        self._rows = rows
        self._read: dict[tuple[str, str], tuple[Sequence[Sample], str]] = {}

    @property
    def digest(self) -> str:
        """See ``FileTask``; of the description and the rows that were read last."""
        rows = [digest for (split, _), (_, digest) in self._read.items() if split == SPLIT]
        return hashlib.sha256(f"{self.description.digest()}\n{(rows or [''])[-1]}".encode()).hexdigest()[:16]

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The samples in the order of the rows.

        Raises:
            UserError: a file is missing, or a row is not as the description says.
        """
        key = split, data.name
        if key not in self._read:
            table = self._table(data, split)
            samples = self._samples_of(table, self.folder(data))
            self._read.pop(key, None)
            self._read[key] = samples, table.digest or of_samples(samples)
        yield from self._read[key][0]

    def folder(self, data: Data) -> Path:
        """The folder that names of files are relative to.  Raises ``UserError`` if ``--data`` cannot be it."""
        if not self.description.below_data:
            return self.path.parent
        if not isinstance(data, OfficialData):
            raise UserError(
                f"{self.description.stated.where('relative_to')}: its files are below --data, which is {data.name} "
                "here; give the root folder of the data with --data ROOT."
            )
        return data.root

    def prompt_spec(self, protocol: str = "official", choice: str = "generate", rule: str = "") -> PromptSpec:
        """See ``Task``; a family's prompts for a benchmark do not apply to a file of the benchmark's name."""
        return replace(super().prompt_spec(protocol, choice, rule), task=self.path.name)

    def _table(self, data: Data, split: str) -> Table:
        if split == SPLIT and self._rows is not None:
            return self._rows
        source: Source | None = self.description.rows if split == SPLIT else self.description.shots
        assert source is not None
        used = [name for column in self.description.columns.values() for name in column.used]
        used += columns_of(self.kind)
        return read_table(source, self.folder(data), data, [*used, *self.description.breakdowns])

    def _samples_of(self, table: Table, folder: Path) -> Sequence[Sample]:
        stated = self.description.stated
        reader = SampleReader(
            self.kind, self.description.columns, folder, self.breakdown_keys, stated.where("breakdowns")
        )
        if not table.rows:
            raise UserError(f"{stated.where('rows')}: {table.name} has no rows.")
        try:
            return reader.samples(table)
        except UserError as error:
            text = str(error)
            named = text.startswith((str(self.path), stated.where(), *(str(row.path) for row in table.rows[:1])))
            raise (error if named else UserError(f"{stated.where('columns')}: {text}")) from None
