"""Where a benchmark's rows and images are: official downloads under a root, or data sets in the hub's format.

A task asks for files by the names the official download gives them; ``OfficialData`` knows the few places where people
keep them in.  Images are references: found by name, opened when a backend needs them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError, first_line
from evalkit.fingerprint import of_files
from evalkit.images import PathImage
from evalkit.jsonl import parse, read_bytes
from evalkit.paths import user_path
from evalkit.shards import split_files
from evalkit.values import image_in as image_in
from evalkit.values import is_valid_id as is_valid_id
from evalkit.values import path_in as path_in
from evalkit.values import shown as shown

if TYPE_CHECKING:
    from evalkit.tsv import TsvFile

HUB = "hub"
BUNDLED = "tiny"


@dataclass(frozen=True)
class Data:
    """A place to read benchmarks from; ``name`` is its name in records."""

    name: str


@dataclass(frozen=True)
class OfficialData(Data):
    """A root folder of official downloads.

    Attributes:
        images_required: whether a missing folder of images is an error.  Scoring texts does not need the images.
    """

    root: Path
    images_required: bool = True

    def find(self, *candidates: str, task: str) -> Path:
        """The first of ``candidates`` (paths below the root) that exists.

        Raises:
            UserError: none exists; the message lists them.
        """
        for candidate in candidates:
            path = self.root / candidate
            if path.exists():
                return path
        expected = " or ".join(candidates)
        raise UserError(
            f"{task}: no {Path(candidates[0]).name} under {self.root}; expected {expected} "
            f"('evalkit tasks {task}' shows the layout)."
        )

    def image_folder(self, *candidates: str, task: str) -> Path:
        """As ``find``, for a folder of images: the first candidate if none exists and no images are required."""
        if not self.images_required and not any((self.root / candidate).exists() for candidate in candidates):
            return self.root / candidates[0]
        return self.find(*candidates, task=task)

    def json(self, *candidates: str, task: str) -> Any:
        """The parsed content of the first existing candidate.  Raises ``UserError`` if missing or corrupt."""
        path = self.find(*candidates, task=task)
        content = read_bytes(path, f"{task}:")
        try:
            return parse(content)
        except ValueError as error:
            raise UserError(f"{task}: {path} is not valid JSON ({error}); download it again.") from error

    def tsv(self, *candidates: str, task: str, columns: Sequence[str] = ()) -> TsvFile:
        """The rows of the first existing candidate, one of VLMEvalKit's TSV files (``evalkit.tsv``).

        Args:
            columns: the columns that it must have, beside ``index`` and, where images are required, ``image`` or
                ``image_path``.

        Raises:
            UserError: it is missing, corrupt, or lacks a column.
        """
        from evalkit.tsv import read_tsv

        path = self.find(*candidates, task=task)
        return read_tsv(path, columns=columns, task=task, images=self.images_required)

    def coco_images(self, split: str, task: str) -> CocoImages:
        """The COCO images of ``split`` (``train2014``, ``val2014``, ``test2015``), by image id."""
        folders = (f"coco/{split}", split, f"coco/images/{split}", f"images/{split}", "coco/images")
        return CocoImages(self.image_folder(*folders, task=task), split)


def tsv_places(task: str, *names: str) -> tuple[str, ...]:
    """Where people keep VLMEvalKit's files: candidates for ``OfficialData.tsv``.

    Args:
        names: the names of the file without its suffix, the usual one first (``MMBench_DEV_EN``).
    """
    return tuple(f"{folder}{name}.tsv" for name in names for folder in (f"{task}/", "", "vlmevalkit/", "LMUData/"))


@dataclass(frozen=True)
class CocoImages:
    """COCO images in one folder, under 2014 names (``COCO_val2014_000000000042.jpg``) or bare ids."""

    folder: Path
    split: str
    _found: dict[int, PathImage] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, image_id: int) -> PathImage:
        found = self._found.get(image_id)  # an image often has several questions
        if found is None:
            official = self.folder / f"COCO_{self.split}_{image_id:012d}.jpg"
            bare = self.folder / f"{image_id:012d}.jpg"
            # If neither exists, keep the official name: the sample then fails with it.
            found = PathImage(str(bare if not official.exists() and bare.exists() else official))
            self._found[image_id] = found
        return found


@dataclass(frozen=True)
class HubData(Data):
    """Data sets in the hub's format, from the hub or from a local ``mirror`` folder (``mirror/ORG/NAME/…parquet``)."""

    mirror: Path | None = None

    def rows(
        self,
        repo: str,
        split: str,
        config: str | None = None,
        *,
        task: str,
        columns: Sequence[str],
        advice: str = "give --data ROOT with the official downloads",
    ) -> Any:
        """The split's rows, with images still encoded.

        Args:
            advice: what else to do without a network, for messages.

        Raises:
            UserError: the data set cannot be loaded, or lacks one of ``columns``.
        """
        import datasets

        source = repo if self.mirror is None else str(self.mirror / repo)
        try:
            if self.mirror is None:
                rows = datasets.load_dataset(repo, config, split=split)
            else:
                rows = self._mirrored(repo, split, config, task=task)
        except UserError:
            raise
        except Exception as error:  # offline, gated, renamed, no such split: datasets has many exceptions for it
            advice = f"Check the network, or {advice}." if self.mirror is None else "Download its files again."
            raise UserError(
                f"{task}: the data set {source} (split {split}) could not be loaded: "
                f"{first_line(error.__cause__ or error)}. {advice}"
            ) from error
        missing = [c for c in columns if c not in rows.column_names]
        if missing:
            raise UserError(
                f"{task}: {source} has no column {', '.join(missing)} (it has {', '.join(rows.column_names)})."
            )
        return encoded(rows)

    def _mirrored(self, repo: str, split: str, config: str | None, *, task: str) -> Any:
        """The rows of the mirror's parquet files."""
        folder = Path(self.mirror or "") / repo
        if not folder.is_dir():
            raise UserError(f"{task}: no folder {folder}; a mirror has the data set's parquet files under {repo}/.")
        return _rows_of_files(split_files(folder, split, config, task=task))

    def iterate(self, rows: Any, without: Sequence[str] = ("image",)) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(index, row) pairs without the heavy columns."""
        light = rows.remove_columns([c for c in without if c in rows.column_names])
        yield from enumerate(light)


def _rows_of_files(files: Sequence[Path]) -> Any:
    """The rows of parquet files, as ``datasets`` reads and caches them."""
    import datasets

    # datasets caches rows by the files' paths and times; the name of the configuration adds their content.
    content = hashlib.sha256("".join(of_files(files)).encode()).hexdigest()[:16]
    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()  # the files are here
    try:
        return datasets.load_dataset("parquet", content, data_files=[str(path) for path in files], split="train")
    finally:
        if shown:
            datasets.utils.enable_progress_bars()


def encoded(rows: Any) -> Any:
    """The rows of a data set with images as the bytes of their files, not decoded."""
    import datasets

    for column, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):  # a list of images
            rows = rows.cast_column(column, type(feature)(datasets.Image(decode=False)))
    return rows


def parquet_rows(files: Sequence[Path]) -> Any:
    """The rows of parquet files, with images still encoded.  Raises whatever ``datasets`` raises."""
    return encoded(_rows_of_files(files))


def bundled_root() -> Path:
    """The root of the bundled tiny subset, in the layout of official downloads."""
    return Path(str(files("evalkit.tasks"))) / BUNDLED


def open_data(name: str, *, images_required: bool = True) -> Data:
    """The data that ``--data`` names: ``tiny`` (bundled), ``hub``, ``hub:MIRROR``, or a root of official files.

    Args:
        images_required: see ``OfficialData``.

    Raises:
        UserError: the folder does not exist.
    """
    if name == BUNDLED:
        return OfficialData(BUNDLED, bundled_root())
    if name == HUB:
        return HubData(HUB)
    if name.startswith(f"{HUB}:"):
        mirror = user_path(name.removeprefix(f"{HUB}:"), "--data")
        if not mirror.is_dir():
            raise UserError(f"--data {name}: there is no folder {mirror}.")
        return HubData(name, mirror)
    root = user_path(name, "--data")
    if not root.is_dir():
        raise UserError(
            f"--data {name}: there is no folder {root}; give the root of the official downloads, "
            f"'{HUB}', or '{BUNDLED}' for the bundled subset."
        )
    return OfficialData(os.fspath(root), root, images_required)
