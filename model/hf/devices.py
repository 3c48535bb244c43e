"""Devices of ``--device``, and placement on them: ``cuda:0,cuda:1`` is two models, ``cuda:0+cuda:1`` one on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evalkit.errors import UserError

# Share of a GPU's free memory for weights; the rest is for activations and caches.
WEIGHTS_SHARE = 0.8

Place = tuple[torch.device, ...]


def pick_device(wanted: str) -> torch.device:
    """The named device; ``auto`` is cuda, else mps, else cpu.  Raises ``UserError`` if it is not available."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(
            f"--device {wanted}: no such device; use auto, cpu, cuda, cuda:N or mps, or several with commas."
        ) from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"--device {wanted}: this machine (or this torch) has no CUDA GPU; use --device cpu or auto."
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {wanted}: there are only {torch.cuda.device_count()} CUDA devices, from cuda:0.")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {wanted}: this machine has no Apple GPU; use --device cpu or auto.")
    elif device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {wanted}: not supported; use auto, cpu, cuda, cuda:N or mps.")
    return device


def pick_devices(wanted: str) -> list[torch.device]:
    """The devices of ``cuda:0,cuda:1``, or of ``cuda:*`` (all GPUs); a device may be named twice.

    Raises:
        UserError: one of them is not available, or they are of several kinds.
    """
    if wanted.strip() == "cuda:*":
        pick_device("cuda")
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in wanted.split(",")]
    if len(names) == 1:
        return [pick_device(wanted)]
    if "" in names or "auto" in names or "cuda:*" in names:
        raise UserError(
            f"--device {wanted}: give several devices by their names, as in cuda:0,cuda:1; cuda:* alone is all GPUs."
        )
    devices = [pick_device(name) for name in names]
    if len({device.type for device in devices}) > 1:
        raise UserError(
            f"--device {wanted}: devices of several kinds round differently, so answers would depend on the device; "
            "give devices of one kind."
        )
    return [torch.device("cuda", d.index or 0) if d.type == "cuda" else d for d in devices]


def pick_places(wanted: str) -> list[Place]:
    """The devices of each worker.

    Raises:
        UserError: a device is missing, they are of several kinds, or a model cannot be spread over them.
    """
    if "+" not in wanted:
        return [(device,) for device in pick_devices(wanted)]
    names = [[name.strip() for name in place.split("+")] for place in wanted.split(",")]
    every = [name for place in names for name in place]
    if not all(name.startswith("cuda:") and name[5:].isdigit() for name in every):
        raise UserError(f"--device {wanted}: name the GPUs to spread a model over, as in cuda:0+cuda:1.")
    devices = iter(pick_devices(",".join(every)))
    places = [tuple(next(devices) for _ in place) for place in names]
    if any(len(set(place)) < len(place) for place in places):
        raise UserError(f"--device {wanted}: a GPU is named twice; spread a model over different ones.")
    return places


def named(place: Place) -> str:
    """A place in the syntax of ``--device``."""
    return "+".join(map(str, place))


def spread(devices: Sequence[torch.device]) -> Mapping[str, Any]:
    """Arguments of ``from_pretrained`` that spread a model's layers evenly over ``devices``; none for one device."""
    if len(devices) < 2:
        return {}
    max_memory = {device.index: int(torch.cuda.mem_get_info(device)[0] * WEIGHTS_SHARE) for device in devices}
    return {"device_map": "balanced", "max_memory": max_memory}
