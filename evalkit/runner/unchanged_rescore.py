"""Scores that ``evalkit rescore`` computed from the same answers, data and software: they are not computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.jobs import Job
from evalkit.reader import Reader
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.score_row import ScoreRow
from evalkit.scoring import Result
from evalkit.user_cache import Remembered

from .unchanged import digests_of, inputs_of, scored_rows


class RescoreProof:
    """Finds out whether the scores in a run folder are those that rescoring would write, and remembers when they are.

    Args:
        reader: parses the answers; where it needs the images' sizes, nothing is remembered.
        data: where the data is, as the run's leaderboard has it.
    """

    def __init__(self, folder: RunFolder, manifest: Manifest, jobs: Sequence[Job], reader: Reader, data: str) -> None:
        self._folder = folder
        self._jobs = jobs
        self._store = Remembered("rescored")
        sizes = any(reader.needs_sizes(job.task) for job in jobs)
        inputs = None if sizes else inputs_of(folder, jobs)
        self._key: Mapping[str, Any] | None = None
        if inputs is not None:
            splits = {name: split.to_dict() for name, split in manifest.splits.items()}
            self._key = {
                **inputs, "settings": manifest.settings, "family": manifest.family, "model": manifest.model,
                "splits": splits, "schema": manifest.schema, "rule": reader.rule, "protocol": reader.protocol,
                "data": data,
            }  # fmt: skip

    def unchanged(self) -> tuple[Sequence[ScoreRow], Mapping[str, str]] | None:
        """The rows of the scores, and why nearly no answer could be parsed, by job; None if anything has changed."""
        found = None if self._key is None else self._store.get(self._key)
        if found is None or (rows := scored_rows(self._folder, self._jobs)) is None:
            return None
        return (rows, found["reasons"]) if found["digests"] == digests_of(self._folder, self._jobs, rows) else None

    def remember(self, results: Sequence[Result]) -> None:
        """Remember that the scores in the folder are those of ``results``, which were just computed."""
        if self._key is None or not all(result.complete for result in results):
            return
        if (rows := scored_rows(self._folder, self._jobs)) is not None:
            reasons = {result.job.name: result.unparsed_reason for result in results if result.unparsed_reason}
            self._store.put(self._key, {"digests": digests_of(self._folder, self._jobs, rows), "reasons": reasons})
