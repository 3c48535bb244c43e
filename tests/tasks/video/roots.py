"""Small data roots of video benchmarks: tables, clips and archives in the official formats."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalkit import registry
from evalkit.data import open_data
from evalkit.jobs import Job, load_job
from evalkit.types import Sample, TextPart

from ...video.clips import write_clip


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def clip(path: Path, seconds: float = 2.0, rate: int = 5) -> Path:
    """Write a clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, int(seconds * rate), rate=rate)


def archived(path: Path, **files: bytes) -> Path:
    """Write a zip archive; ``__`` in names is a slash, ``_DOT_`` a point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return path


def loaded(root: Path | str, name: str, split: str = "") -> Job:
    """The job of a task on a data root, or on a mirror of the hub (``hub:…``)."""
    task = registry.tasks.get(name)
    return load_job(task, split or task.default_splits[0], open_data(str(root)), limit=None, seed=0)


def prompt_of(job: Job, sample: Sample, protocol: str, sampling: str = "fps=2") -> str:
    """The text of the prompt that the task has under a protocol."""
    asked = job.task.asked(sample, protocol, sampling)
    (message,) = registry.families.get("generic").prompt(job.task.prompt_spec(protocol), asked)
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def reading(name: str, rule: str, text: str, sample: Sample) -> str | None:
    """The letter that a rule of a task reads in an answer."""
    spec = registry.tasks.get(name).prompt_spec(rule=rule)
    return spec.letter(text, [option if isinstance(option, str) else None for option in sample.options]).letter
