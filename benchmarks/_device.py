"""Device measurements for ``throughput.py``: matrix rate, GPU utilization, peak memory."""

from __future__ import annotations

import statistics
import subprocess
import time
from threading import Thread
from types import TracebackType
from typing import Any

import torch


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a product of large matrices."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(8):
        wait(device)
        began = time.perf_counter()
        for _ in range(10):
            one @ other
        wait(device)
        times.append((time.perf_counter() - began) / 10)
    return 2 * side**3 / statistics.median(times[2:])


class Busy:
    """GPU utilization, sampled with ``nvidia-smi``; ``share`` is None if it is not available.

    Each sample looks back for up to a second, so that those of the first second are left out.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.share: float | None = None
        self._watch: subprocess.Popen[str] | None = None
        self._samples: list[tuple[float, float]] = []

    def __enter__(self) -> Busy:
        if self.device.type == "cuda":
            number = (
                f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"  # numbers change by CUDA_VISIBLE_DEVICES
            )
            command = ["nvidia-smi", "-i", number, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            try:
                self._watch = subprocess.Popen(
                    [*command, "-lms", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            except OSError:
                self._watch = None
            else:
                self._reader = Thread(target=self._read, args=(self._watch,))
                self._reader.start()
        self._began = time.monotonic()
        return self

    def _read(self, watch: subprocess.Popen[str]) -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            if line.strip().isdigit():
                self._samples.append((time.monotonic(), float(line)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._watch is None:
            return
        self._watch.terminate()
        self._reader.join()
        self._watch.wait()
        samples = [share for at, share in self._samples if at > self._began + 1]
        if samples:
            self.share = statistics.fmean(samples) / 100


def peak_of(device: torch.device, work: Any) -> float | None:
    """Return the peak bytes that ``work()`` allocates beyond what was allocated before; None on a CPU."""
    if device.type != "cuda":
        work()
        return None
    wait(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    wait(device)
    return float(torch.cuda.max_memory_allocated(device) - before)
