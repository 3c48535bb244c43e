"""The files in a checkpoint's folder that loading it can open: all but those that are known to be something else.

The run identity covers these (``evalkit.fingerprint``).  A file of an unknown name counts, since a library may open it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from evalkit.errors import UserError
from evalkit.jsonl import read_json

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLED = ("*.bin", "*.bin.index.json", "*.pt", "*.pth")
CONFIG = ("config.json", "generation_config.json")
PROCESSOR = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "image_processor*.json",
    "tokenizer*", "*.tiktoken", "*.model", "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "chat_template*", "additional_chat_templates/*",
)  # fmt: skip
CODE = ("*.py",)
ADAPTER = ("adapter_config.json", "adapter_model.*")
"""An adapter beside a checkpoint's weights, which is not applied to them."""
OTHER_FORMATS = (
    *WEIGHTS, *PICKLED, "*.index.json", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.ckpt", "*.tar", "*.gz", "*.zip",
)  # fmt: skip
"""Weights of other formats, and weights that are not loaded."""
TRAINING = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "random_states*", "*_states.*", "*.distcp", "*.metadata",
    "trainer_state.json", "training_args*", "*_results.json", "events.out.tfevents*", "*.log", "latest*",
)  # fmt: skip
"""The state of a training, and its records."""
ABOUT = (
    "*.md", "licen[sc]e*", "LICEN[SC]E*", "NOTICE*", "Notice*", "*.pdf", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.webp",
    "*.svg", "*.mp4", ".*",
)  # fmt: skip
OTHER_FOLDERS = ("checkpoint-*", "global_step*", "runs", "logs", "onnx", "original", ".*", "__pycache__")
"""Folders in a checkpoint's that hold other checkpoints, or no part of one."""
INDICES = {"model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json"}
"""In transformers' order: a single file of weights, and the index that is read if there is none."""


def loaded_files(folder: Path, *, pickled: bool = False, code: bool = False) -> dict[str, list[Path]]:
    """The files by purpose: ``weights``, ``config``, ``processor``; ``code`` and ``other files`` if there are any.

    Args:
        pickled: pickled weights are loaded too.
        code: the checkpoint's own code is run, which can open any file in the folder.

    Raises:
        UserError: an index of weights is unreadable, or names a file outside the folder.
        OSError: the folder cannot be read.
    """
    weights = _matching(folder, (*WEIGHTS, *(PICKLED if pickled else ())))
    found = {
        "weights": sorted({*weights, *_shards(folder, pickled=pickled)}),
        "config": _matching(folder, CONFIG),
        "processor": _matching(folder, PROCESSOR),
        **({"code": _matching(folder, CODE)} if code else {}),
    }
    known = {path for paths in found.values() for path in paths}
    if others := sorted(path for path in _others(folder, code=code) if path not in known):
        found["other files"] = others
    return found


def processor_files(folder: Path) -> list[Path]:
    """The files that loading a processor can open, but for the ``config.json``, which may be another checkpoint's.

    Raises:
        OSError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []  # what reads it says so
    others = set(_others(folder, code=False)) - {folder / name for name in CONFIG}
    return sorted({*_matching(folder, PROCESSOR), *others})


def shard_names(index: Path) -> dict[str, str]:
    """The file of each tensor in an index of weights, by the tensor's name; all lie in the index's folder or below.

    Raises:
        ValueError: it is no index, or names a file elsewhere; the message begins with its name.
        OSError: it cannot be read.
    """
    try:
        named = read_json(index)["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{index.name} is not an index of weights ({type(error).__name__}: {error})") from error
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ValueError(f"{index.name} is not an index of weights (its weight_map names no files)")
    for name in named.values():
        if not name or "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{index.name} names a file outside the folder ({name})")
    return named


def index_of(folder: Path, *, pickled: bool) -> Path | None:
    """The index of weights that transformers reads; None if it reads a single file, or none."""
    for single, index in list(INDICES.items())[: 2 if pickled else 1]:
        if (folder / single).is_file():
            return None
        if (folder / index).is_file():
            return folder / index
    return None


def _shards(folder: Path, *, pickled: bool) -> list[Path]:
    index = index_of(folder, pickled=pickled)
    if index is None:
        return []
    try:
        names = set(shard_names(index).values())
    except ValueError as error:
        raise UserError(f"--model: {folder}: {error}.") from error
    return [folder / name for name in names if (folder / name).is_file()]  # loading reports those that are missing


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not _matches(path, ADAPTER))


def _others(folder: Path, *, code: bool) -> Iterator[Path]:
    """The files that are not known to be something else; in folders below, a tokenizer's unless code is run."""
    ignored = (*ABOUT, *TRAINING, *OTHER_FORMATS, *ADAPTER, *(() if code else CODE))
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not _matches(path, OTHER_FOLDERS):
            inside = sorted(path.rglob("*")) if code else _matching(path, (*CONFIG, *PROCESSOR))
            yield from (one for one in inside if one.is_file() and not _matches(one, ignored))
        elif path.is_file() and not _matches(path, ignored):
            yield path


def _matches(path: Path, patterns: Iterable[str]) -> bool:
    return any(path.match(pattern) for pattern in patterns)
