"""Devices of servers: as many servers as the devices hold, each on as few devices as hold the model."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.errors import UserError

CPU = "cpu"
ENGINE = "auto"
"""The device that the engine chooses."""
WEIGHTS_SHARE = 0.75
"""Of a GPU's memory, for weights; the rest is for the KV cache, activations and what the engine needs itself."""
QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class GPU:
    """A GPU that this process may use.

    Attributes:
        name: as in ``CUDA_VISIBLE_DEVICES``.
        memory: in bytes; None if unknown.
    """

    name: str
    memory: int | None = None


def visible_gpus() -> list[GPU]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` allows, in its order; without it, those that NVIDIA's driver lists."""
    listed = _listed()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return [GPU(index, memory) for index, _, memory in listed]
    memories = {name: memory for index, uuid, memory in listed for name in (index, uuid)}
    names = [name.strip() for name in allowed.split(",") if name.strip() and name.strip() != "-1"]
    return [GPU(name, memories.get(name)) for name in names]


def _listed() -> list[tuple[str, str, int]]:
    """(index, UUID, bytes of memory) of every GPU; none without NVIDIA's driver."""
    if shutil.which(QUERY[0]) is None:
        return []
    try:
        found = subprocess.run(QUERY, capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in found.stdout.splitlines()]
    return [(row[0], row[1], int(row[2]) << 20) for row in rows if len(row) == 3 and row[2].isdecimal()]


def on_gpus(place: Sequence[str]) -> bool:
    """Whether a server's devices are GPUs that were chosen here."""
    return not set(place) & {CPU, ENGINE}


def places(device: str, each: int | None, weights: int, heads: int | None) -> tuple[tuple[str, ...], ...]:
    """The devices of each server.

    Args:
        device: as ``--device``; ``auto`` is every visible GPU, or what the engine chooses if none is known.
        each: the GPUs of each server; None for as few as hold the weights.
        weights: of the model, in bytes.
        heads: the attention heads, which have to be divided evenly among GPUs; None if unknown.

    Raises:
        UserError: there is no such device, or there are too few.
    """
    names = [name.strip() for name in device.split(",")]
    if set(names) == {CPU}:
        if each is not None and each != 1:
            raise UserError(f"--gpus-per-worker {each}: there are no GPUs on --device {device}; leave it out.")
        return ((CPU,),) * len(names)
    gpus = visible_gpus()
    if device == ENGINE and not gpus:
        if each is not None and each > 1:
            raise UserError(
                f"--gpus-per-worker {each}: no GPUs are known here (nvidia-smi lists none); name them with --device, "
                "such as cuda:0,cuda:1."
            )
        return ((ENGINE,),)
    if "+" in device:
        if each is not None:
            raise UserError(f"--gpus-per-worker {each}: --device {device} says it already; leave out one of the two.")
        chosen = [[_gpu(name, gpus, device) for name in place.split("+")] for place in names]
    else:
        every = gpus if device in (ENGINE, "cuda:*") else [_gpu(name, gpus, device) for name in names]
        if not every:
            raise UserError(f"--device {device}: there is no GPU here; use --device cpu or auto.")
        count = _fewest(every, weights, heads) if each is None else each
        if not 1 <= count <= len(every):
            raise UserError(f"--gpus-per-worker {count}: there are only {len(every)} GPUs; name more with --device.")
        chosen = [every[start : start + count] for start in range(0, len(every) - count + 1, count)]
    for place in chosen:
        if len({gpu.name for gpu in place}) < len(place):
            raise UserError(f"--device {device}: a GPU is named twice; spread a model over different ones.")
    return tuple(tuple(gpu.name for gpu in place) for place in chosen)


def _gpu(name: str, gpus: Sequence[GPU], device: str) -> GPU:
    """The GPU that ``cuda`` or ``cuda:N`` names."""
    kind, colon, number = name.strip().partition(":")
    if kind != "cuda" or (colon and not (number.isascii() and number.isdecimal())):
        raise UserError(
            f"--device {device}: give auto, cpu, cuda:*, or GPUs by their names, such as cuda:0,cuda:1; a model on "
            "several is cuda:0+cuda:1."
        )
    index = int(number or 0)
    if not gpus:
        return GPU(str(index))  # a driver without nvidia-smi
    if index >= len(gpus):
        raise UserError(f"--device {name}: there are only {len(gpus)} GPUs, from cuda:0.")
    return gpus[index]


def _fewest(gpus: Sequence[GPU], weights: int, heads: int | None) -> int:
    """The fewest GPUs, a power of two, that hold the weights; all that can be used together if none do."""
    memories = [gpu.memory for gpu in gpus if gpu.memory is not None]
    count = 1
    if not memories:
        return count
    while weights / count > WEIGHTS_SHARE * min(memories):
        if 2 * count > len(gpus) or (heads is not None and heads % (2 * count)):
            break
        count *= 2
    return count
