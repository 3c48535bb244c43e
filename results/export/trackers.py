"""Runs in experiment trackers: TensorBoard's event files (the extra ``tensorboard``), Weights & Biases (``wandb``)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.errors import RunFailed, UserError
from evalkit.installation import install_command
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import to_markdown
from evalkit.results.leaderboard.trend import step_of
from evalkit.results.samples.records import Record
from evalkit.results.store.scored_run import ScoredRun
from evalkit.task_groups import MEANS
from evalkit.types import ImageRef

COUNTS = ("n", "unparsed", "errors", "truncated")
COLUMNS = ("id", "question", "prompt", "text", "answer", "box", "references", "reference_box", "status", "score")
"""The columns of a table of samples."""


def scalars_of(run: ScoredRun, names: Sequence[str]) -> dict[str, float]:
    """All values of these splits, with the names of ``evalkit.training``: ``evalkit/refcoco.val/acc@0.5``.

    Each score comes with the ends of its interval (``…/low``, ``…/high``), each split with ``n``, ``unparsed``, ….
    """
    found: dict[str, float] = {}
    for name, row in run.rows.items():
        if name not in names and row.task not in MEANS:
            continue
        place = f"evalkit/{row.task}.{row.split}"
        values = {row.metric: row.value, **row.values}
        if row.estimate is not None:  # the others are of chosen samples only
            row = replace(row.presented, metric=f"{row.metric} (estimate)", intervals={})
            values = {row.metric: row.value}
        for metric, value in values.items():
            if value is None or not math.isfinite(value):
                continue
            found[f"{place}/{metric}"] = float(value)
            interval = row.interval_of(metric)
            for end, sign in (("low", -1), ("high", 1)):
                if interval.get(end) is not None:
                    found[f"{place}/{metric}/{end}"] = float(interval[end])
                elif interval.get("ci95"):
                    found[f"{place}/{metric}/{end}"] = float(value + sign * interval["ci95"])
        found |= {f"{place}/{key}": float(getattr(row, key)) for key in COUNTS}
    return found


def steps_of(runs: Sequence[ScoredRun], given: int | None) -> list[int]:
    """The training step of each run: ``given``, else the one in its model's or its own name, else 0."""
    if given is not None:
        return [given] * len(runs)
    return [step_of(run.model, run.name) or 0 for run in runs]


def leaderboard_of(run: ScoredRun) -> str:
    return to_markdown([Entry(run.name, run.model, row) for row in run.rows.values()])


# --------------------------------------------------------------------------------------------------------- TensorBoard


def to_tensorboard(run: ScoredRun, names: Sequence[str], out: Path, step: int) -> Path:
    """Write an event file into the folder ``out``; returns its path.

    Raises:
        UserError: tensorboard is not installed.
        RunFailed: the file cannot be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise UserError(
            f"--to tensorboard needs tensorboard; install it with: {install_command('tensorboard')}."
        ) from error
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars_of(run, names).items()]
    text = TensorProto(
        dtype=DT_STRING,
        string_val=[leaderboard_of(run).encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    values.append(Summary.Value(tag="evalkit/leaderboard", metadata=plugin, tensor=text))
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = set(out.glob("events.out.tfevents.*"))
        writer = EventFileWriter(str(out), filename_suffix=".evalkit")
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        writer.close()
    except OSError as error:
        raise RunFailed(f"{out} cannot be written ({error.strerror or error}); give another --out.") from error
    return next(iter(sorted(set(out.glob("events.out.tfevents.*")) - before)), out)


# ---------------------------------------------------------------------------------------------------- Weights & Biases


def to_wandb(
    run: ScoredRun,
    names: Sequence[str],
    out: Path,
    step: int,
    *,
    project: str | None,
    samples: Mapping[str, Sequence[Record]],
    images: Mapping[str, Mapping[str, Sequence[ImageRef]]] | None,
) -> str:
    """Log a run to Weights & Biases as the environment is set up (``WANDB_MODE=offline`` only writes below ``out``).

    Args:
        project: of W&B; None for ``WANDB_PROJECT``, else ``evalkit``.
        samples: records for a table of each split.
        images: by split and sample id, for the tables; None to leave them out.

    Returns:
        the run's address, or the folder of an offline run.

    Raises:
        UserError: wandb is not installed, or has no login.
        RunFailed: logging failed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"--to wandb needs wandb; install it with: {install_command('wandb')}.") from error
    import os

    try:
        out.mkdir(parents=True, exist_ok=True)
        with wandb.init(
            project=project or os.environ.get("WANDB_PROJECT") or "evalkit",
            name=run.name,
            dir=str(out),
            job_type="evaluation",
            config=_config(run),
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        ) as logged:
            found: dict[str, Any] = dict(scalars_of(run, names))
            for name, records in samples.items():
                if records:
                    place = f"evalkit/{name.replace('/', '.')}/samples"
                    found[place] = _table(wandb, records, None if images is None else images.get(name, {}))
            logged.log(found, step=step)
            where = str(Path(logged.dir).parent) if logged.offline else logged.url
    except wandb.errors.UsageError as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"--to wandb: {first} (log in with 'wandb login', or set WANDB_MODE=offline and 'wandb sync' later)."
        ) from error
    except (wandb.errors.Error, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunFailed(f"--to wandb: {first}; WANDB_MODE=offline writes it to disk only.") from error
    return str(where)


def _config(run: ScoredRun) -> dict[str, Any]:
    """The run's settings, for W&B's columns."""
    manifest = run.manifest.to_dict()
    keys = ("evalkit", "identity", "created", "family", "shots", "settings", "backend", "python", "platform")
    return {
        "model": run.model,
        **{key: manifest[key] for key in keys if key in manifest},
        "signatures": {name: row.signature for name, row in run.rows.items()},
    }


def _table(wandb: Any, records: Sequence[Record], images: Mapping[str, Sequence[ImageRef]] | None) -> Any:
    columns = [*(["image"] if images is not None else []), *COLUMNS]
    rows = []
    for record in records:
        cells = [_plain(record.get(name)) for name in COLUMNS]
        if images is not None:
            cells.insert(0, next(_images(wandb, record, images.get(str(record["id"]), ())), None))
        rows.append(cells)
    return wandb.Table(columns=columns, data=rows)


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _images(wandb: Any, record: Record, images: Sequence[ImageRef]) -> Iterator[Any]:
    """A sample's own image, the last one, with the reference's and the predicted box."""
    for image in images[-1:]:
        try:
            loaded = image.load()
        except (OSError, ValueError):
            return
        boxes = {
            name: {
                "box_data": [{"position": _position(record[key]), "class_id": place, "domain": "pixel"}],
                "class_labels": {place: name},
            }
            for place, (key, name) in enumerate((("reference_box", "reference"), ("box", "prediction")))
            if record.get(key) is not None
        }
        yield wandb.Image(loaded, boxes=boxes or None)


def _position(box: Sequence[float]) -> dict[str, float]:
    return dict(zip(("minX", "minY", "maxX", "maxY"), map(float, box), strict=True))
