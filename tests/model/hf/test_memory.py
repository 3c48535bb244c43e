"""Peak memory of a run does not grow with the number of its samples."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RUN = """
import json, resource, sys
from dataclasses import dataclass
import torch
from PIL import Image
from evalkit import registry
from evalkit.checkpoint import resolve_checkpoint
from evalkit.types import Decoding, ImagePart, ImageRef, Message, Request, TextPart

torch.set_num_threads(1)

@dataclass(frozen=True)
class Drawn(ImageRef):
    number: int
    @property
    def name(self): return str(self.number)
    def size(self): return 120 + self.number % 7, 100
    def load(self): return Image.linear_gradient("L").rotate(self.number).resize(self.size()).convert("RGB")
    def digest(self): return self.name

def ask(n):
    return Request(str(n), (Message("user", (ImagePart(Drawn(n // 2)), TextPart(f"How many of kind {n}?"))),), Decoding(3))

backend = registry.backends.get("hf").open(resolve_checkpoint("tiny"), device="cpu", dtype="float32")
assert backend.engine is not None
count = sum(1 for r in backend.generate([ask(n) for n in range(int(sys.argv[1]))]) if r.error is None)
print(json.dumps([count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def _run(samples: int) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-P", "-c", RUN, str(samples)], capture_output=True, text=True, check=True)
    count, peak = json.loads(done.stdout.splitlines()[-1])
    return count, peak


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_split() -> None:
    (few, small), (many, large) = _run(1000), _run(10_000)
    assert (few, many) == (1000, 10_000)
    assert large < 1.1 * small, f"{small} kB for 1,000 samples, {large} kB for 10,000"
