"""How much memory is taken."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import torch


def occupied(device: torch.device) -> int:
    """Bytes: the most that a CUDA device has held for this process; what an MPS device, or the process, holds now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux: the most that it has held
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
