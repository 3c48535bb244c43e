"""Finished runs read back: scores, per-sample scores and answers; and which runs are comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError
from evalkit.jsonl import parse, read_bytes
from evalkit.task_groups import MEANS

from .manifest import Manifest
from .outdated import outdated
from .run_folder import RunFolder
from .sample_scores import SampleScores as SampleScores
from .sample_scores import read_sample_scores
from .score_row import ScoreRow
from .scores import verified_scores
from .signature import Signature

_ID, _NEXT, _DIGESTS = b'{"id": "', b'", "', b', "digests": ['


@dataclass(frozen=True)
class StoredAnswer:
    """The answer to a sample, and the name of its image; ``texts`` are all answers to it, of which it is the first."""

    text: str
    image: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredRun:
    """A run with scores; ``rows`` are those of ``scores.json``, by ``task/split``."""

    path: Path
    model: str
    rows: Mapping[str, ScoreRow]
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> ScoredRun:
        """Open a run.

        Raises:
            UserError: there is none, or its scores are missing, corrupt, or not of the answers in its journals.
        """
        folder = RunFolder.existing(path)
        if not (path / "scores.json").is_file():
            raise UserError(f"{path} has no scores.json: the run is not finished; run the same command to resume it.")
        scores = verified_scores(path / "scores.json")
        rows = {row.name: row for row in scores.rows}
        return cls(path, path.name if scores.model is None else scores.model, rows, folder.read_manifest())

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def splits(self) -> list[str]:
        """The splits with per-sample scores."""
        return [name for name, row in self.rows.items() if row.task not in MEANS and row.value is not None]

    def sampled(self, name: str) -> SampleScores:
        """The per-sample scores of a split.  Raises ``UserError`` if the file is missing, corrupt or was changed."""
        row = self.rows[name]
        return read_sample_scores(RunFolder(self.path).scores_path(row.task, row.split), row).checked(row.score)

    def answers(self, name: str, wanted: Collection[str] | None = None) -> dict[str, StoredAnswer]:
        """The answers to the samples ``wanted`` (default: all); corrupt lines are skipped."""
        row = self.rows[name]
        path = RunFolder(self.path).journal_path(row.task, row.split)
        texts: dict[str, dict[int, str]] = {}
        images: dict[str, str] = {}
        for raw in read_bytes(path, "the journal").splitlines():
            try:
                line = parse(raw)
                key, repeat = line["id"], int(line.get("repeat", 1))
                if (wanted is None or key in wanted) and repeat <= row.answers_each:
                    texts.setdefault(key, {})[repeat] = str(line["text"])
                    # The question's images come after those of few-shot examples.
                    images[key] = str(line["images"][-1]) if line.get("images") else ""
            except (ValueError, KeyError, TypeError):
                continue
        every = {key: tuple(found[repeat] for repeat in sorted(found)) for key, found in texts.items()}
        return {key: StoredAnswer(found[0], images[key], found) for key, found in every.items()}

    def image_digests(self, name: str) -> dict[str, bytes]:
        """The recorded digests of each sample's images, as the journal has them; without samples lacking one.

        They are found without parsing the lines, which takes seconds for a large benchmark.
        """
        row = self.rows[name]
        found = {}
        for line in read_bytes(RunFolder(self.path).journal_path(row.task, row.split), "the journal").splitlines():
            # Quotes inside JSON strings are escaped, so these are the line's own keys.
            key_end, start = line.find(_NEXT, len(_ID)), line.find(_DIGESTS)
            digests = line[start + len(_DIGESTS) : line.find(b"]", start)]
            if line.startswith(_ID) and 0 < key_end < start and digests and b"null" not in digests:
                key = line[len(_ID) - 1 : key_end + 1]
                found[parse(key) if b"\\" in key else key[1:-1].decode(errors="replace")] = digests
        return found

    def annotations(self, name: str) -> str | None:
        """The digest of a split's questions and references; None if an older evalkit did not write it."""
        recorded = self.rows[name].annotations
        if recorded is None:
            recorded = self.manifest.annotations_of(name)
        return None if recorded is None else str(recorded)[:16]


def reasons_against(a: ScoredRun, b: ScoredRun, name: str) -> list[str]:
    """Why a split's two scores are not comparable: signatures, annotations or protocols differ; empty if they are.

    Different samples are found later, when the samples are joined.
    """
    one, other = a.rows[name].parsed_signature, b.rows[name].parsed_signature
    found = one.differences(other)
    if found and (one.scorer, one.parsing) != (other.scorer, other.parsing):
        found += [
            f"{run.path} was scored by {before}: 'evalkit rescore {run.path}' scores it again"
            for run in (a, b)
            if (before := outdated(run.rows[name].signature)) is not None
        ]
    return found + data_differences(
        (a.rows[name].parsed_signature, a.annotations(name)), (b.rows[name].parsed_signature, b.annotations(name))
    )


def other_images(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> tuple[int, int]:
    """(number of samples with other images, number of samples whose images are known on both sides)."""
    both = [sample for sample in a if sample in b]
    return sum(a[sample] != b[sample] for sample in both), len(both)


def digest_of_images(digests: Mapping[str, bytes], samples: Iterable[str]) -> str | None:
    """One digest of the images of ``samples``; None if an image of one is not known."""
    state = hashlib.sha256()
    for sample in sorted(samples):
        if sample not in digests:
            return None
        state.update(f"{sample}\0".encode() + digests[sample] + b"\n")
    return state.hexdigest()[:16]


def data_differences(a: tuple[Signature, str | None], b: tuple[Signature, str | None]) -> list[str]:
    """Why two scores are of different data, given the signature and the annotations' digest of each; empty if not.

    Custom tasks are compared by the content of their files: in earlier versions, their annotations' digests depended on
    the folder of the file.
    """
    (signature, digest), (other_signature, other_digest) = a, b
    if None in (digest, other_digest) or digest == other_digest:
        return []
    if signature.file is not None and signature.file == other_signature.file:
        return []
    return [f"the data differ (annotations {digest} and {other_digest})"]
