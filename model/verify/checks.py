"""Checks of a checkpoint: its files, tensors, processor, one forward pass, and a few generated tokens.

Names and shapes are checked by transformers: it loads the tensors into the config's architecture, both on the meta
device.  Names are thus converted as in real loading, and no values are read.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.model.hf.adapter import read_adapter
from evalkit.model.hf.devices import pick_device
from evalkit.model.hf.dtypes import pick_dtype, quantization
from evalkit.model.hf.formatting import SHOWN, dtype_name, few, first_line, gigabytes, quiet, shape
from evalkit.model.hf.loading import architecture, check_architecture
from evalkit.model.hf.weight_files import CorruptFile, WeightFiles, find_weights, notes_on_unread
from evalkit.types import Check

from .forward import forward_check, mismatches, processor_check
from .generation import NAME as GENERATION
from .generation import MakeBackend, generation_check
from .weights import (
    READING_ERRORS,
    Tensors,
    count_not_finite,
    iterate_values,
    read_tensors,
)

NAMES = "names and shapes"


def verify(
    checkpoint: Checkpoint, *, device: str, dtype: str, forward: bool, make_backend: MakeBackend
) -> Iterator[Check]:
    """The checks of a checkpoint in a local folder, one by one; see ``evalkit.interfaces.BackendFactory.verify``.

    Args:
        make_backend: makes the backend of a run.
    """
    target = pick_device(device)
    pick_dtype(dtype, target)
    check_architecture(checkpoint)
    return _checks(checkpoint, target, dtype, forward, make_backend)


def _checks(
    checkpoint: Checkpoint, device: torch.device, dtype: str, forward: bool, make_backend: MakeBackend
) -> Iterator[Check]:
    files, present = files_check(checkpoint)
    yield present
    content, complete = content_check(files)
    yield complete
    intact = present.ok is True and complete.ok is True
    model: Any = None
    try:
        model = architecture(checkpoint)
        yield (
            names_check(checkpoint, model, content.tensors)
            if intact
            else Check(NAMES, None, "skipped: tensors are missing")
        )
    except Exception as error:  # a broken config raises any type of error
        yield Check(NAMES, False, f"no model can be built from config.json: {first_line(error)}")
    yield dtypes_check(checkpoint, content.tensors)
    yield parameters_check(model)
    yield values_check(content)
    processed, processor = processor_check(checkpoint, model)
    yield processed
    if checkpoint.adapter is not None:
        adapted = adapter_check(checkpoint.adapter, pickled=checkpoint.allow_pickled_weights)
        yield adapted
        intact &= adapted.ok is True
    skipped = "skipped: an earlier check failed" if forward else "skipped (--no-forward)"
    loaded: Any = None
    if not forward or not intact or processor is None or model is None:
        yield Check("forward pass", None, skipped)
    else:
        passed, loaded = forward_check(checkpoint, processor, device, dtype, content.tensors, model)
        yield passed
        skipped = "skipped: the forward pass failed or was skipped"
    yield Check(GENERATION, None, skipped) if loaded is None else generation_check(loaded, processor, make_backend)


# -------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class Content:
    """The tensors of the readable files, and these files."""

    tensors: Tensors
    readable: tuple[Path, ...]
    pickled: bool


def files_check(checkpoint: Checkpoint) -> tuple[WeightFiles, Check]:
    """Every weight file exists; notes how pickles are read."""
    try:
        files = find_weights(Path(checkpoint.location))
    except CorruptFile as error:
        return WeightFiles(Path(checkpoint.location), (), False), Check("files", False, str(error))
    details = []
    if files.pickled:
        how = "pickled weights, read with weights_only=True, which executes no code"
        run = "so does 'evalkit run'" if checkpoint.pickled else "'evalkit run' needs --allow-pickled-weights"
        details.append(f"{how}; {run}")
    details += notes_on_unread(Path(checkpoint.location))
    if missing := files.missing:
        message = f"{len(missing)} of {len(files.paths)} weight files are missing: {few(missing)}"
        return files, Check("files", False, message, tuple(details))
    what = files.paths[0].name if files.index is None else f"{len(files.paths)} weight files and their index"
    size = gigabytes(sum(path.stat().st_size for path in files.paths))
    return files, Check("files", True, f"{what}, {size}", tuple(details))


def content_check(files: WeightFiles) -> tuple[Content, Check]:
    """No file is truncated, and each has the tensors that the index lists."""
    tensors: Tensors = {}
    readable: list[Path] = []
    faults: list[str] = []
    for path in files.paths:
        if not path.is_file():
            continue
        try:
            own = read_tensors(path, pickled=files.pickled)
        except (CorruptFile, OSError) as error:
            faults.append(str(error))
            continue
        file_name = files.name(path)
        listed = {name for name, file in (files.index or {}).items() if posixpath.normpath(file) == file_name}
        if missing := sorted(listed - set(own)):
            faults.append(f"{file_name} lacks {len(missing)} tensors of the index: {few(missing)}")
        if files.index is not None and (more := sorted(set(own) - listed)):
            faults.append(f"{file_name} has {len(more)} tensors that are not in the index: {few(more)}")
        tensors |= own
        readable.append(path)
    content = Content(tensors, tuple(readable), files.pickled)
    if faults:
        return content, Check("complete", False, faults[0], tuple(faults[1:]))
    if not tensors:
        return content, Check("complete", False if readable else None, "no tensors")
    return content, Check("complete", True, f"{len(tensors):,} tensors, none truncated")


# -------------------------------------------------------------------------------------------------- names and shapes


def names_check(checkpoint: Checkpoint, model: Any, tensors: Tensors) -> Check:
    """Every parameter has a tensor of the right shape, and there are no other tensors."""
    if (method := quantization(checkpoint)) is not None:
        return Check(NAMES, None, f"quantised ({method}): checked by the forward pass")
    if find_spec("accelerate") is None:  # transformers needs it for device_map
        return Check(NAMES, None, "needs accelerate (pip install accelerate); checked by the forward pass")
    with quiet():
        _, report = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=dict(tensors),
            device_map={"": "meta"},
            dtype="auto",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    faults = mismatches(report)
    if faults:
        return Check(NAMES, False, "; ".join(faults), tuple(_mismatched(report)))
    return Check(NAMES, True, f"match {type(model).__name__}")


def _mismatched(report: Mapping[str, Any]) -> Iterator[str]:
    for name, found, expected in sorted(report["mismatched_keys"], key=lambda entry: str(entry[0]))[:SHOWN]:
        yield f"{name}: {shape(found)} instead of {shape(expected)}"


def dtypes_check(checkpoint: Checkpoint, tensors: Tensors) -> Check:
    """The dtypes of the tensors in the files."""
    if not tensors:
        return Check("dtype", None, "no tensors")
    counts = Counter(dtype_name(tensor.dtype) for tensor in tensors.values())
    found = ", ".join(f"{name} ({count:,})" if len(counts) > 1 else name for name, count in counts.most_common())
    configured = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    return Check("dtype", True, found + (f"; config.json says {configured}" if configured else ""))


def parameters_check(model: Any) -> Check:
    """The number of parameters, in total and per part; tied ones count once."""
    if model is None:
        return Check("parameters", None, "no model")
    prefix = f"{model.base_model_prefix}."
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        depth = 2 if name.startswith(prefix) else 1
        parts[".".join(name.split(".")[:depth])] += parameter.numel()
    lines = (f"{name}: {count:,}" for name, count in parts.items())
    return Check("parameters", True, f"{sum(parts.values()):,}", tuple(lines))


def values_check(content: Content) -> Check:
    """No weight is NaN or infinite."""
    if not content.tensors:
        return Check("values", None, "no tensors")
    fault = _not_finite(content.readable, pickled=content.pickled)
    return Check("values", fault is None, fault or "all finite")


def _not_finite(paths: Iterable[Path], *, pickled: bool) -> str | None:
    """The tensors with NaN or infinite values in files, as a phrase; None if there are none."""
    bad: list[str] = []
    try:
        for path in paths:
            for name, tensor in iterate_values(path, pickled=pickled):
                if count := count_not_finite(tensor):
                    bad.append(f"{name} ({count:,} of {tensor.numel():,})")
    except READING_ERRORS as error:
        return f"cannot be read: {first_line(error)}"
    return f"{len(bad)} tensors with NaN or infinite values: {few(bad)}" if bad else None


def adapter_check(given: str, *, pickled: bool) -> Check:
    """The adapter's folder is complete, and its values are finite; the forward pass applies it to the model."""
    try:
        adapter = read_adapter(given, pickled=pickled)
        tensors = read_tensors(adapter.weights, pickled=adapter.weights.suffix == ".bin")
    except (UserError, CorruptFile) as error:
        return Check("adapter", False, str(error).removeprefix(f"--adapter {given}: ").rstrip("."))
    fault = _not_finite([adapter.weights], pickled=adapter.weights.suffix == ".bin")
    kind, rank = adapter.config.get("peft_type"), adapter.config.get("r")
    what = f"{kind}, rank {rank}" if rank is not None else str(kind)
    return Check("adapter", fault is None, fault or f"{what}, {len(tensors):,} tensors, all finite")
