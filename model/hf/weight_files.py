"""The weight files of a checkpoint's folder: which ones transformers reads, and which ones it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.checkpoint_files import INDICES, shard_names

from .formatting import few

SAFE, PICKLED = INDICES.items()


class CorruptFile(ValueError):
    """A weight file or an index is corrupt or missing; the message says how."""


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a checkpoint.

    Attributes:
        folder: the checkpoint's.
        paths: sorted by name; they need not exist.
        index: file name by tensor name, if there are several files.
    """

    folder: Path
    paths: tuple[Path, ...]
    pickled: bool
    index: Mapping[str, str] | None = None

    @property
    def missing(self) -> list[str]:
        """The names of missing files."""
        return [self.name(path) for path in self.paths if not path.is_file()]

    def name(self, path: Path) -> str:
        """A file's name as the index spells it: it may be in a folder below the checkpoint's."""
        return path.relative_to(self.folder).as_posix()


def find_weights(folder: Path) -> WeightFiles:
    """The weight files that transformers would read.

    Raises:
        CorruptFile: there are none, or their index is corrupt.
    """
    for pickled, (single, index) in ((False, SAFE), (True, PICKLED)):
        if (folder / single).is_file():
            return WeightFiles(folder, (folder / single,), pickled)
        if (folder / index).is_file():
            named = _index(folder / index)
            return WeightFiles(folder, tuple(folder / name for name in sorted(set(named.values()))), pickled, named)
    raise CorruptFile(f"no weights: the folder has none of {', '.join((*SAFE, *PICKLED))}")


def _index(path: Path) -> dict[str, str]:
    try:
        return shard_names(path)
    except OSError as error:
        raise CorruptFile(f"{path.name} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CorruptFile(str(error)) from error


# ------------------------------------------------------------------------------------------------------ unread files

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
"""Suffixes of files with tensors."""
OTHER_CONTENT = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "random_states*", "training_args.bin", "*_states.pt",
    "*_states.bin", "*.distcp",
)  # fmt: skip
"""Files of tensors that are not weights: the state of a training."""
OTHER_FORMATS = ("pytorch_model*.bin", "consolidated*")
"""The same weights in another format."""


def tensor_files(folder: Path) -> list[str]:
    """The sorted names of the files in ``folder`` that may have weights."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and path.is_file() and not any(path.match(pattern) for pattern in OTHER_CONTENT)
    )


def unread_weights(folder: Path) -> list[str]:
    """The names of files with weights that are not read with the checkpoint's, its adapter's aside.

    A complete checkpoint can have more: shards of an earlier save, a projector that was trained separately.
    """
    try:
        files = find_weights(folder)
    except CorruptFile:
        return []  # loading fails
    read = {files.name(path) for path in files.paths}
    return [
        name
        for name in tensor_files(folder)
        if name not in read
        and name not in ADAPTER_WEIGHTS
        and not any(Path(name).match(pattern) for pattern in OTHER_FORMATS)
    ]


def holds_adapter(folder: Path) -> bool:
    """Whether ``folder`` has an adapter, alone or with a checkpoint."""
    return (folder / ADAPTER_CONFIG).is_file()


def notes_on_unread(folder: Path) -> list[str]:
    """A sentence about each thing in a checkpoint's folder that is not loaded."""
    notes = []
    if holds_adapter(folder):
        notes.append(
            f"the adapter beside the weights ({ADAPTER_CONFIG}) is not applied: the weights are loaded as they are; "
            f"if they are the base model's, add --adapter {folder}"
        )
    if names := unread_weights(folder):
        notes.append(f"not loaded, since they are not the checkpoint's weight files: {few(names)}")
    return notes
