"""The weight files of a checkpoint's folder: which ones transformers reads, and which ones it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.jsonl import read_json

from .formatting import few

# In transformers' order: one file, else an index of several.
SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


class CorruptFile(ValueError):
    """A weight file or an index is corrupt or missing; the message says how."""


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a checkpoint.

    Attributes:
        paths: sorted by name; they need not exist.
        index: file name by tensor name, if there are several files.
    """

    paths: tuple[Path, ...]
    pickled: bool
    index: Mapping[str, str] | None = None

    @property
    def missing(self) -> list[str]:
        """The names of missing files."""
        return [path.name for path in self.paths if not path.is_file()]


def find_weights(folder: Path) -> WeightFiles:
    """The weight files that transformers would read.

    Raises:
        CorruptFile: there are none, or their index is corrupt.
    """
    for pickled, (single, index) in ((False, SAFE), (True, PICKLED)):
        if (folder / single).is_file():
            return WeightFiles((folder / single,), pickled)
        if (folder / index).is_file():
            named = _index(folder / index)
            return WeightFiles(tuple(folder / name for name in sorted(set(named.values()))), pickled, named)
    raise CorruptFile(f"no weights: the folder has none of {', '.join((*SAFE, *PICKLED))}")


def _index(path: Path) -> dict[str, str]:
    try:
        named = read_json(path)["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"{path.name} is not an index of weights ({type(error).__name__}: {error})") from error
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise CorruptFile(f"{path.name} is not an index of weights (its weight_map names no files)")
    outside = [name for name in named.values() if Path(name).name != name]
    if outside:
        raise CorruptFile(f"{path.name} names a file outside the folder ({outside[0]})")
    return named


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
        read = {path.name for path in find_weights(folder).paths}
    except CorruptFile:
        return []  # loading fails
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
