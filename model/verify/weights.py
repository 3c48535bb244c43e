"""Weight files, read without building a model: the names, shapes, dtypes and values of their tensors, and whether they
are complete.

A safetensors file is 8 bytes (the header's length, little-endian), a JSON header with the offsets of each tensor's
bytes, and those bytes; the file's length follows from the header (https://github.com/huggingface/safetensors).  Pickles
are read with ``weights_only=True``, which creates only tensors.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open

from evalkit.jsonl import parse
from evalkit.model.hf.formatting import first_line
from evalkit.model.hf.weight_files import CorruptFile

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip

MAX_HEADER = 100_000_000
"""Bytes; safetensors' own limit."""
CHUNK = 1 << 24
"""Number of values checked together."""
LFS_POINTER = b"version https://git-lfs"
READING_ERRORS = (OSError, ValueError, RuntimeError, EOFError, TypeError, SafetensorError, pickle.UnpicklingError)

Tensors = dict[str, torch.Tensor]
"""Tensors by name, on the meta device: shapes and dtypes, no values."""


# ------------------------------------------------------------------------------------------------- names and shapes


def read_tensors(path: Path, *, pickled: bool) -> Tensors:
    """The tensors of a file, without their values.

    Raises:
        CorruptFile: it is truncated, or not a weight file.
    """
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CorruptFile(f"{path.name} is a git-lfs pointer, not the file; run git lfs pull")
    try:
        return _pickled(path) if pickled else _safe(path)
    except CorruptFile:
        raise
    except READING_ERRORS as error:
        raise CorruptFile(f"{path.name} cannot be read ({first_line(error)})") from error


def _safe(path: Path) -> Tensors:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > MAX_HEADER:
            raise CorruptFile(f"{path.name} is not a safetensors file ({size:,} bytes)")
        if 8 + length > size:
            raise CorruptFile(f"{path.name} is truncated in its header: {size:,} bytes")
        try:
            header = parse(file.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
            found = {
                name: torch.empty(
                    [int(n) for n in entry["shape"]], dtype=DTYPES.get(entry["dtype"], torch.uint8), device="meta"
                )
                for name, entry in entries.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError) as error:
            raise CorruptFile(
                f"{path.name} has a corrupt header ({type(error).__name__}: {first_line(error)})"
            ) from error
    if expected != size:
        what = "is truncated" if size < expected else "is too long"
        raise CorruptFile(f"{path.name} {what}: {size:,} bytes instead of {expected:,}")
    with safe_open(path, framework="pt"):  # the library checks for overlaps and wrong sizes
        return found


def _pickled(path: Path) -> Tensors:
    with path.open("rb") as file:
        packed = file.read(2) == b"PK"
    if packed and not is_zipfile(path):
        raise CorruptFile(f"{path.name} is truncated: {path.stat().st_size:,} bytes, without the end of a zip file")
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CorruptFile(
            f"{path.name} contains something other than tensors, or is corrupt; no code in it was executed"
        ) from error
    if not isinstance(content, Mapping):
        raise CorruptFile(f"{path.name} contains no dictionary of tensors but a {type(content).__name__}")
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


# ------------------------------------------------------------------------------------------------------------- values


def iterate_values(path: Path, *, pickled: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file with their values, one by one; files are memory-mapped."""
    if not pickled:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                yield name, file.get_tensor(name)
        return
    content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    yield from ((str(name), value) for name, value in content.items() if isinstance(value, torch.Tensor))


def count_not_finite(tensor: torch.Tensor) -> int:
    """The number of NaN or infinite values."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    return sum(map(_count_not_finite, torch.split(tensor.reshape(-1), CHUNK)))


def _count_not_finite(values: torch.Tensor) -> int:
    longer = values.float() if values.element_size() == 1 else values  # torch has no sums of 8-bit floats
    if longer.element_size() <= 4 and bool(torch.isfinite(longer.sum(dtype=torch.float32))):
        return 0  # one pass instead of three: a value that is not finite makes the sum so
    return int((~torch.isfinite(longer)).sum())
