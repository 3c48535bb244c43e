"""Placement of models by ``--device``: ``cuda:0,cuda:1`` is two models, ``cuda:0+cuda:1`` one model on both devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evalkit.errors import UserError

from .loading import pick_devices

# Share of a GPU's free memory for weights; the rest is for activations and caches.
WEIGHTS_SHARE = 0.8

Place = tuple[torch.device, ...]


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
