"""Digests of what a run depends on: a checkpoint's weights and processor, a split's annotations, images.

A digest depends on a file's content, not on its place.  Weights are large, so their digests are cached in the user's
cache folder, under everything that changes when a file is written (device, inode, size, both times).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evalkit.checkpoint_files import loaded_files, processor_files
from evalkit.errors import UserError
from evalkit.jsonl import read_json
from evalkit.types import Sample

SETTLED_SECONDS = 2.0
"""A file written within this time is not remembered: it could be written again without its times showing it."""

THREADS = 4


def of_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hex.  Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_file() -> Path:
    """Where digests are remembered."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit" / "digests.json"


def _written(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def of_files(paths: Sequence[Path]) -> list[str]:
    """The digest of each file, remembered from last time where the file has not been written since."""
    remembered = _remembered()
    keys = [str(path.resolve()) for path in paths]
    written = [_written(path) for path in paths]
    found: dict[str, str] = {}
    for key, stat in zip(keys, written, strict=True):
        entry = remembered.get(key)
        if isinstance(entry, list) and len(entry) == 2 and entry[0] == stat and isinstance(entry[1], str):
            found[key] = entry[1]
    with ThreadPoolExecutor(THREADS) as pool:  # hashing and reading both let other threads run
        todo = [path for path, key in zip(paths, keys, strict=True) if key not in found]
        fresh = {str(path.resolve()): digest for path, digest in zip(todo, pool.map(of_file, todo), strict=True)}
    settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
    new = {
        key: [stat, fresh[key]] for key, stat in zip(keys, written, strict=True) if key in fresh and stat[4] < settled
    }
    if new:
        _remember({**remembered, **new})
    return [{**found, **fresh}[key] for key in keys]


def stamp_of_files(paths: Iterable[str]) -> str | None:
    """A digest of everything that changes when one of the files is written: their places, sizes and times.

    It takes microseconds for each file, and says that they are unchanged, not that they are equal to others.  None if
    one of them cannot be read, or was written so recently that it could be written again without its times showing it.
    """
    state = hashlib.sha256()
    settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
    try:
        for path in paths:
            stat = os.stat(path)  # noqa: PTH116 (Path takes longer to make than this takes)
            if stat.st_ctime_ns >= settled:
                return None
            written = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            state.update(f"{path}\0{written}\n".encode(errors="surrogateescape"))
    except (OSError, ValueError):
        return None
    return state.hexdigest()[:32]


def _remembered() -> dict[str, Any]:
    try:
        content = read_json(cache_file(), own=True)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(content: dict[str, Any]) -> None:
    path = cache_file()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({k: v for k, v in content.items() if Path(k).exists()}), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # no cache folder, or a full one: the digests are computed again next time


def of_checkpoint(folder: Path, *, pickled: bool = False, code: bool = False) -> dict[str, str]:
    """What a checkpoint in ``folder`` is, by the content of all files that loading it can open, by their purpose.

    Args:
        pickled: pickled weights are loaded too, so they count.
        code: the checkpoint's own code is run, so it counts.

    Raises:
        UserError: a file cannot be read, or the index of the weights is corrupt.
    """
    try:
        found = loaded_files(folder, pickled=pickled, code=code)
        return {purpose: _of_group(folder, paths) for purpose, paths in found.items()}
    except OSError as error:
        raise UserError(f"--model: {error.filename or folder} cannot be read ({error.strerror}).") from error


def of_processor(folder: Path) -> str:
    """The digest of a processor's files (see ``processor_files``).  Raises ``UserError`` if one cannot be read."""
    try:
        return _of_group(folder, processor_files(folder))
    except OSError as error:
        raise UserError(f"--processor: {error.filename or folder} cannot be read ({error.strerror}).") from error


def of_other_config(processor: Path, checkpoint: Path) -> str | None:
    """The digest of the ``config.json`` beside a processor, which loading it opens; None if it is the checkpoint's."""
    theirs, own = processor / "config.json", checkpoint / "config.json"
    if not theirs.is_file():
        return None
    try:
        digest = of_file(theirs)
        return None if own.is_file() and of_file(own) == digest else digest[:32]
    except OSError as error:
        raise UserError(f"--processor: {error.filename or theirs} cannot be read ({error.strerror}).") from error


def _of_group(folder: Path, paths: Sequence[Path]) -> str:
    return _of_pairs(zip([path.relative_to(folder).as_posix() for path in paths], of_files(paths), strict=True))


def of_adapter(folder: Path, *, pickled: bool = False) -> str:
    """What a LoRA adapter in ``folder`` is.  Raises ``UserError`` when there is none, or it cannot be read."""
    patterns = ("adapter_config.json", "adapter_model.safetensors", *(("adapter_model.bin",) if pickled else ()))
    paths = [folder / name for name in patterns if (folder / name).is_file()]
    if len(paths) < 2:
        raise UserError(
            f"--adapter {folder}: no adapter in it (adapter_config.json and adapter_model.safetensors; peft writes "
            "them with save_pretrained)."
        )
    try:
        return _of_pairs(zip((path.name for path in paths), of_files(paths), strict=True))
    except OSError as error:
        raise UserError(f"--adapter {folder}: {error.filename} cannot be read ({error.strerror}).") from error


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in pairs).encode()).hexdigest()[:32]


def of_samples(samples: Iterable[Sample], keys: Sequence[str] = ()) -> str:
    """The digest of a split's annotations: of each question, the turns before it, its options and references.

    Images are not included; each has its own digest.

    Args:
        keys: the entries of ``Sample.meta`` to include.
    """
    state = hashlib.sha256()
    encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode
    for s in samples:
        scored_by = [[s.meta.get(key) for key in keys]] if keys else []
        before = [[[turn.role, turn.text()] for turn in s.turns]] if s.turns else []
        line = encode([s.id, s.text, s.option_texts, s.references, s.cluster, *before, *scored_by])
        state.update(line.encode("utf-8", errors="surrogatepass") + b"\n")
    return state.hexdigest()[:32]
