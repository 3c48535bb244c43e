"""A run's samples as a data set in the hub's format: a folder that ``datasets.load_dataset`` reads.

dataset/
    README.md                          the data set's card, with the files of each split
    data/refcoco.testA-00000.parquet   one row per sample (``samples/records.py``), with the images on request
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.registry import module_name
from evalkit.results.leaderboard.rows import Entry
from evalkit.results.leaderboard.table import to_markdown
from evalkit.results.samples.records import Record, as_kind, kinds_of
from evalkit.results.store.files import empty_folder, write_failed
from evalkit.results.store.scored_run import ScoredRun
from evalkit.types import ImageRef
from evalkit.version import __version__

if TYPE_CHECKING:
    import datasets
    import pyarrow.parquet as pq

MARK = "<!-- written by evalkit export -->"
"""Marks a folder that evalkit wrote and may overwrite."""
IMAGES = "embedded_images"
ROWS, ROWS_WITH_IMAGES = 5000, 100  # of a row group, which a reader loads as one
SHARD = 400_000_000  # bytes of images in a file
COLUMNS = (
    "Every row is one sample of one run. `text` is the model's raw answer; the parsed answer is in `answer`, or in "
    "`box` if it is a box: (x1, y1, x2, y2) in pixels of the original image. `score` is the value of the metric "
    "named in `metric`, `scores.*` are all of them, `meta.*` is the benchmark's metadata. `images` are "
    "the images' names{}."
)
LICENCES = "Questions, references and images belong to the benchmarks, and their licences apply."

Splits = Mapping[str, Sequence[Record]]
"""The records of each split, by ``task/split``."""


def write_dataset(
    runs: Sequence[ScoredRun],
    splits: Splits,
    images: Mapping[str, Mapping[str, Sequence[ImageRef]]] | None,
    out: Path,
) -> int:
    """Write the folder ``out``; returns the number of unreadable images, whose cells are empty.

    Args:
        images: by split and sample id; None to leave them out.

    Raises:
        UserError: ``out`` exists and is not such a folder.
        RunFailed: it cannot be written.
    """
    check_place(out)
    building = out.with_name(f".{out.name}.building")
    try:
        (empty_folder(building) / "data").mkdir()
        kinds = kinds_of([record for records in splits.values() for record in records])
        shared = {name: [without_folders(record) for record in records] for name, records in splits.items()}
        features = _features(kinds, with_images=images is not None)
        lost = 0
        names = split_names(splits)
        for name, records in shared.items():
            found = None if images is None else images.get(name, {})
            lost += _write_split(building / "data", names[name], records, kinds, features, found)
        (building / "README.md").write_text(_card(runs, names, images is not None), "utf-8")
        for part in ("README.md", "data"):
            old = out / part
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            out.mkdir(parents=True, exist_ok=True)
            (building / part).replace(old)
    except OSError as error:
        raise write_failed(out, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return lost


def without_folders(record: Record) -> Record:
    """A record to be shared: images are named by the last two components of their paths, without local folders."""
    names = {name: "/".join(PurePath(name).parts[-2:]) for name in record["images"]}
    cluster = record["cluster"]
    return {**record, "images": list(names.values()), "cluster": names.get(cluster, cluster)}


def check_place(out: Path) -> None:
    """Raise ``UserError`` if ``out`` exists and is not such a data set."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder.")
    card = out / "README.md"
    ours = card.is_file() and MARK in card.read_text("utf-8", errors="replace")
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise UserError(f"--out {out} contains other files; give an empty or new folder.")


def split_names(names: Mapping[str, object]) -> dict[str, str]:
    """The hub's name of each split: letters, digits, underscores and full stops, unique."""
    found: dict[str, str] = {}
    for name in names:
        task, _, part = name.rpartition("/")
        wanted = ".".join(re.sub(r"\W", "_", module_name(piece)) or "_" for piece in (task, part))
        taken = set(found.values())
        place = 2
        unique = wanted
        while unique in taken:
            unique, place = f"{wanted}_{place}", place + 1
        found[name] = unique
    return found


def _features(kinds: Mapping[str, str], *, with_images: bool) -> datasets.Features:
    from datasets import Features, Image, Sequence, Value

    types = {
        "text": Value("string"),
        "json": Value("string"),
        "texts": Sequence(Value("string")),
        "box": Sequence(Value("float64")),
        "number": Value("float64"),
        "count": Value("int64"),
        "truth": Value("bool"),
    }
    columns: dict[str, Any] = {IMAGES: Sequence(Image())} if with_images else {}
    return Features({**columns, **{name: types[kind] for name, kind in kinds.items()}})


def _write_split(
    folder: Path,
    name: str,
    records: Sequence[Record],
    kinds: Mapping[str, str],
    features: datasets.Features,
    images: Mapping[str, Sequence[ImageRef]] | None,
) -> int:
    """Write the files of a split; returns the number of unreadable images."""
    import pyarrow as pa

    schema = features.arrow_schema
    lost = 0
    with ExitStack() as stack:
        shards = _shards(folder, name, schema, stack)
        writer, room = next(shards), SHARD
        size = ROWS if images is None else ROWS_WITH_IMAGES
        for start in range(0, max(1, len(records)), size):
            some = records[start : start + size]
            columns: dict[str, Any] = {
                key: [as_kind(record.get(key), kind) for record in some] for key, kind in kinds.items()
            }
            if images is not None:
                cells = [[_cell(image) for image in images.get(str(record["id"]), ())] for record in some]
                lost += sum(cell["bytes"] is None for row in cells for cell in row)
                columns[IMAGES] = [[cell for cell in row if cell["bytes"] is not None] for row in cells]
                room -= sum(len(cell["bytes"] or b"") for row in cells for cell in row)
            writer.write_table(pa.table(columns, schema=schema))
            if room <= 0 and start + size < len(records):
                writer, room = next(shards), SHARD
    return lost


def _shards(folder: Path, name: str, schema: Any, stack: ExitStack) -> Iterator[pq.ParquetWriter]:
    import pyarrow.parquet as pq

    number = 0
    while True:
        yield stack.enter_context(pq.ParquetWriter(folder / f"{name}-{number:05}.parquet", schema, compression="zstd"))
        number += 1


def _cell(image: ImageRef) -> dict[str, Any]:
    """An image in the hub's format, with the bytes of its file; without bytes if it cannot be read."""
    import io

    name = Path(image.name).name
    try:
        if isinstance(image, PathImage) and image.upright:  # as the hub's viewer shows it
            image.size()  # raises for what is no image: data may name any file
            return {"bytes": image.content(), "path": name}
        buffer = io.BytesIO()
        image.load().save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": f"{name}.png"}
    except (OSError, ValueError):
        return {"bytes": None, "path": name}


def _card(runs: Sequence[ScoredRun], names: Mapping[str, str], with_images: bool) -> str:
    """The data set's card; its YAML lists the files of each split."""
    import yaml

    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in names.values()]
    head = {
        "pretty_name": f"evalkit samples: {', '.join(dict.fromkeys(run.model for run in runs))}",
        "tags": ["evalkit"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    entries = [Entry(run.name, run.model, row) for run in runs for row in run.rows.values()]
    columns = COLUMNS.format(", `embedded_images` the images themselves" if with_images else "")
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    sections = [MARK, columns, LICENCES, to_markdown(entries), f"Written by evalkit {__version__}."]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"
