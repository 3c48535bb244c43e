"""Where the models of ``--device`` are: ``cuda:0,cuda:1`` are two, ``cuda:0+cuda:1`` is one, spread over both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evalkit.errors import UserError

from .loading import pick_devices

# Of a GPU's free memory, what weights may take: activations and caches need the rest.
SHARE = 0.8

Place = tuple[torch.device, ...]


def pick_places(wanted: str) -> list[Place]:
    """A place for each worker.

    Raises:
        UserError: a device is absent, they are not of one kind, or a model is to be spread over what cannot be.
    """
    if "+" not in wanted:
        return [(device,) for device in pick_devices(wanted)]
    names = [[name.strip() for name in place.split("+")] for place in wanted.split(",")]
    every = [name for place in names for name in place]
    if not all(name.startswith("cuda:") and name[5:].isdigit() for name in every):
        raise UserError(f"--device {wanted}: a model is spread over GPUs that are named, as in cuda:0+cuda:1.")
    devices = iter(pick_devices(",".join(every)))
    places = [tuple(next(devices) for _ in place) for place in names]
    if any(len(set(place)) < len(place) for place in places):
        raise UserError(f"--device {wanted}: a model is spread over different GPUs; one is named twice.")
    return places


def named(place: Place) -> str:
    """A place as ``--device`` has it."""
    return "+".join(map(str, place))


def spread(devices: Sequence[torch.device]) -> Mapping[str, Any]:
    """What ``from_pretrained`` takes to spread a model's layers evenly over ``devices``; nothing for one of them."""
    if len(devices) < 2:
        return {}
    most = {device.index: int(torch.cuda.mem_get_info(device)[0] * SHARE) for device in devices}
    return {"device_map": "balanced", "max_memory": most}
