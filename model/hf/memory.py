"""How much memory is free, how much is in use, and which errors mean that it ran out."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import torch

# Share of the memory that is free after loading the model. The rest is for activations and fragmentation.
DEVICE_SHARE = 0.7
HOST_SHARE = 0.35  # other programs use the host's memory too


def free_memory(device: torch.device) -> int:
    """Bytes that a batch may use on the device, measured now."""
    if device.type == "cuda":
        available, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((available + cached) * DEVICE_SHARE)
    if device.type == "mps":
        return int((torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) * DEVICE_SHARE)
    return int(min(_available_on_host(), _available_in_cgroup()) * HOST_SHARE)


def memory_in_use(device: torch.device) -> int:
    """Bytes: the peak reserved by this process on a CUDA device; the current use of an MPS device or the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the process's peak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the CPU's allocator is out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _available_on_host() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 2**30


def _available_in_cgroup() -> int:
    """Bytes left in this container; 2**62 where it has no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return 2**62
        return max(int(limit) - int((folder / "memory.current").read_text()), 0)
    except (OSError, ValueError):
        return 2**62
