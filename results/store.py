"""A run's folder: what is written, when, and how it is read back.

runs/<run>/
    manifest.json            what ran: settings, model, versions, hardware, state
    refcoco.testA.jsonl      one line per answer, appended as they arrive
    refcoco.testA.scores.jsonl   one line per scored sample
    (a file for the official server, under the task's name for it, in the place of scores that nobody can compute)
    scores.json              the aggregates
    leaderboard.md, .csv
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from evalkit.errors import UserError
from evalkit.groups import MEANS
from evalkit.run import Record, Result

from .statistics import clustered_standard_error, half_width, standard_error_of_mean

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

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run's folder that is there.  Raises ``UserError`` where there is none."""
        if not (path / "manifest.json").is_file():
            raise UserError(f"{path} is no run: it has no manifest.json (give the folder that 'evalkit run' named).")
        return cls(path)

    def read_manifest(self) -> dict[str, Any]:
        """What ran.  Raises ``UserError`` when the file is damaged or from a newer evalkit."""
        return _read_versioned(self.path / "manifest.json", "a manifest", ("settings", "model", "jobs", "cwd"))

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        write_atomically(self.path / "manifest.json", to_json({"schema": SCHEMA, **content}, indent=2) + "\n")

    def journal_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.jsonl"

    def scores_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.scores.jsonl"

    @contextmanager
    def journal(self, task: str, split: str) -> Iterator[Journal]:
        with self.journal_path(task, split).open("a", encoding="utf-8") as file:
            journal = Journal(file)
            try:
                yield journal
            finally:
                file.flush()
                journal.sync()

    def write_results(self, results: list[Result], header: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Write ``scores.json`` and the per-sample scores or submissions; returns the rows of the leaderboard."""
        files = submission_files(results)
        rows = [{**score_row(result), "submission": files.get(result.job.name)} for result in results]
        rows += mean_rows(results, rows)
        for result in results:
            job = result.job
            if result.submission is not None:
                write_atomically(self.path / files[job.name], result.submission.content)
            if result.scores is not None:
                lines = [
                    to_json({"id": sample, "cluster": result.clusters[sample], **values})
                    for sample, values in result.scores.per_sample.items()
                ]
                write_atomically(self.scores_path(job.task.name, job.split), "".join(line + "\n" for line in lines))
        write_atomically(
            self.path / "scores.json", to_json({"schema": SCHEMA, **header, "results": rows}, indent=2) + "\n"
        )
        return rows


def submission_files(results: Sequence[Result]) -> dict[str, str]:
    """The name of each submission's file, by job; a name that several splits have is put behind the split's."""
    found = {r.job.name: (r.job.split, r.submission.file) for r in results if r.submission is not None}
    times = Counter(file for _, file in found.values())
    return {job: file if times[file] == 1 else f"{split}.{file}" for job, (split, file) in found.items()}


def score_row(result: Result) -> dict[str, Any]:
    """A task split's aggregate with its error bar and its counts; no value where a submission was written instead."""
    job = result.job
    return {
        "task": job.task.name,
        "split": job.split,
        **_aggregate(result),
        "n": result.n,
        "clusters": len(set(result.clusters.values())),
        "unparsed": result.unparsed,
        "errors": result.errors,
        "truncated": result.truncated,
        "limited": job.limited,
        "signature": signature(result),
        "seconds": round(result.seconds, 3),
    }


def mean_rows(results: Sequence[Result], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for every group of ``evalkit.groups.MEANS`` whose splits all have a score; ``rows`` are the splits' own."""
    by_name = {result.job.name: (result, row) for result, row in zip(results, rows, strict=True)}
    found = []
    for group, members in MEANS.items():
        if any(name not in by_name or by_name[name][1]["value"] is None for name in members):
            continue
        parts = [by_name[name][0] for name in members]
        own = [by_name[name][1] for name in members]
        error = standard_error_of_mean([(_headline_values(part), part.clusters) for part in parts])
        # What tells two means apart: every split's own signature.
        digest = hashlib.sha256("\n".join(row["signature"] for row in own).encode()).hexdigest()[:12]
        found.append(
            {
                "task": group,
                "split": f"mean of {len(members)}",
                "metric": own[0]["metric"],
                "value": fmean(row["value"] for row in own),
                "stderr": error,
                "ci95": half_width(error),
                "values": {},
                "n": sum(row["n"] for row in own),
                "clusters": len({cluster for part in parts for cluster in part.clusters.values()}),
                **{key: sum(row[key] for row in own) for key in ("unparsed", "errors", "truncated")},
                "limited": any(row["limited"] for row in own),
                "signature": f"{group}:mean|splits:{len(members)}|{digest}",
                "seconds": round(sum(row["seconds"] for row in own), 3),
                "submission": None,
            }
        )
    return found


def _headline_values(result: Result) -> dict[str, float]:
    assert result.scores is not None
    return {sample: values[result.scores.headline] for sample, values in result.scores.per_sample.items()}


def _aggregate(result: Result) -> dict[str, Any]:
    scores = result.scores
    if scores is None:
        return {"metric": result.job.task.metric, "value": None, "stderr": None, "ci95": None, "values": {}}
    error = clustered_standard_error(_headline_values(result), result.clusters)
    return {
        "metric": scores.headline,
        "value": None if math.isnan(scores.values[scores.headline]) else scores.values[scores.headline],
        "stderr": error,
        "ci95": half_width(error),
        "values": dict(scores.values),
    }


def signature(result: Result) -> str:
    """What two numbers must share to be comparable; a file of one's own is told by its content, not by its name."""
    job = result.job
    digest = getattr(job.task, "digest", None)
    own = f"|file:{digest}" if digest else ""
    scored = "submission" if result.scores is None else result.scores.signature
    return f"{job.task.name}:{job.split}|v{job.task.version}{own}|{scored}|n:{result.n}"


def read_scores(path: Path) -> dict[str, Any]:
    """A run's ``scores.json``.  Raises ``UserError`` when it is damaged or from a newer evalkit."""
    content = _read_versioned(path, "a scores file", ("results",))
    if not isinstance(content["results"], list):
        raise UserError(
            f"{path} is not a scores file that evalkit wrote (no list of results); run the evaluation again."
        )
    return content


def _read_versioned(path: Path, what: str, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON file with a schema.  Raises ``UserError`` when it is damaged, lacks ``keys``, or is too new."""
    try:
        content = json.loads(path.read_bytes())
        schema = content["schema"]
        newer = schema > SCHEMA
        absent = [key for key in keys if key not in content]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not {what} that evalkit wrote ({error!r}); run the evaluation again.") from error
    if newer:
        raise UserError(f"{path} has schema {schema}, and this evalkit reads up to {SCHEMA}; upgrade evalkit.")
    if absent:
        raise UserError(f"{path} is not {what} that evalkit wrote (it has no {absent[0]}); run the evaluation again.")
    return dict(content)
