"""How much memory there is for a batch, and when there was too little."""

from __future__ import annotations

from pathlib import Path

import torch

# Of what is free once the model is loaded: the rest is for activations that nobody counts, and for fragmentation.
SHARE = 0.7
SHARE_OF_HOST = 0.35  # other programs live there too


def free(device: torch.device) -> int:
    """Bytes that a batch may fill, measured now."""
    if device.type == "cuda":
        available, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((available + cached) * SHARE)
    if device.type == "mps":
        return int((torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) * SHARE)
    return int(min(_available(), _cgroup()) * SHARE_OF_HOST)


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 2**30


def _cgroup() -> int:
    """What a container is left, where it is limited."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return 2**62
        return max(int(limit) - int((folder / "memory.current").read_text()), 0)
    except (OSError, ValueError):
        return 2**62


def out_of_memory(error: BaseException) -> bool:
    """Whether a device (or the CPU's allocator) had no room."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
