"""A run's folder: what is written, when, and how it is read back.

runs/<run>/
    manifest.json            what ran: settings, model, versions, hardware, state
    refcoco.testA.jsonl      one line per answer, appended as they arrive
    refcoco.testA.scores.jsonl   one line per scored sample
    scores.json              the aggregates
    leaderboard.md, .csv
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from evalkit.errors import UserError
from evalkit.run import Record, Result

from .statistics import clustered_standard_error, half_width

SCHEMA = 1
SYNC_EVERY_SECONDS = 1.0


def write_atomically(path: Path, text: str) -> None:
    """Write ``path`` so that a crash leaves either the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """Floats that JSON has no word for become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def to_json(content: Any, *, indent: int | None = None) -> str:
    return json.dumps(_plain(content), ensure_ascii=False, indent=indent, allow_nan=False)


def record_line(record: Record) -> dict[str, Any]:
    """A journal line: the raw answer, what was read from it, and how it came about."""
    response = record.response
    line: dict[str, Any] = {
        "id": record.sample.id,
        "prompt": record.prompt_digest,
        "text": response.text,
        "answer": record.reading.value,
        "finish": response.finish,
        "new_tokens": len(response.tokens),
        "prompt_tokens": response.prompt_tokens,
        "images": [image.name for image in record.sample.images],
        "frames": [{"original": f.original, "resized": f.resized} for f in response.frames],
    }
    if response.error is not None:
        line["error"] = response.error
    return line


class Journal:
    """Appends answers, line by line; synced to disk at least every second and at the end."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._synced = time.monotonic()

    def append(self, record: Record) -> None:
        self._file.write(to_json(record_line(record)) + "\n")
        self._file.flush()
        if time.monotonic() - self._synced > SYNC_EVERY_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @classmethod
    def create(cls, out: Path, name: str) -> RunFolder:
        """A new folder ``out/name``.

        Raises:
            UserError: it exists with something in it, or lies inside a Python package.
        """
        for folder in (out, *out.resolve().parents):
            if (folder / "__init__.py").exists():
                raise UserError(f"--out {out}: {folder} is a Python package; runs go elsewhere (runs/ by default).")
        path = out / name
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"the run {path} exists already; give another --name or --out, or delete it.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {out}: the folder {path} cannot be made ({error.strerror}).") from error
        return cls(path)

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        write_atomically(self.path / "manifest.json", to_json({"schema": SCHEMA, **content}, indent=2) + "\n")

    @contextmanager
    def journal(self, task: str, split: str) -> Iterator[Journal]:
        with (self.path / f"{task}.{split}.jsonl").open("a", encoding="utf-8") as file:
            journal = Journal(file)
            try:
                yield journal
            finally:
                file.flush()
                journal.sync()

    def write_results(self, results: list[Result], header: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Write ``scores.json`` and the per-sample scores; returns the rows of the leaderboard."""
        rows = [score_row(result) for result in results]
        for result in results:
            job, scores = result.job, result.scores
            lines = [
                to_json({"id": sample, "cluster": result.clusters[sample], **values})
                for sample, values in scores.per_sample.items()
            ]
            path = self.path / f"{job.task.name}.{job.split}.scores.jsonl"
            write_atomically(path, "".join(line + "\n" for line in lines))
        write_atomically(
            self.path / "scores.json", to_json({"schema": SCHEMA, **header, "results": rows}, indent=2) + "\n"
        )
        return rows


def score_row(result: Result) -> dict[str, Any]:
    """A task split's aggregate with its error bar and its counts."""
    job, scores = result.job, result.scores
    values = {s: v[scores.headline] for s, v in scores.per_sample.items()}
    error = clustered_standard_error(values, result.clusters)
    return {
        "task": job.task.name,
        "split": job.split,
        "metric": scores.headline,
        "value": scores.values[scores.headline],
        "stderr": error,
        "ci95": half_width(error),
        "n": result.n,
        "clusters": len(set(result.clusters.values())),
        "unparsed": result.unparsed,
        "errors": result.errors,
        "truncated": result.truncated,
        "limited": job.limited,
        "values": dict(scores.values),
        "signature": f"{job.task.name}:{job.split}|v{job.task.version}|{scores.signature}|n:{result.n}",
        "seconds": round(result.seconds, 3),
    }


def read_scores(path: Path) -> dict[str, Any]:
    """A run's ``scores.json``.  Raises ``UserError`` when it is damaged or from a newer evalkit."""
    try:
        content = json.loads(path.read_bytes())
        schema = content["schema"]
        rows = content["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a scores file that evalkit wrote ({error!r}); run the evaluation again."
        ) from error
    if schema > SCHEMA or not isinstance(rows, list):
        raise UserError(f"{path} has schema {schema}, and this evalkit reads up to {SCHEMA}; upgrade evalkit.")
    return dict(content)
