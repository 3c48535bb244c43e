"""A batch of work, and the result of a prefill."""

from __future__ import annotations

from dataclasses import dataclass, field

from .kv_tensors import KVTensors
from .options import Limits
from .sampler import SampledTokens
from .sequence import Sequence


@dataclass
class Batch:
    """The work that the scheduler runs next.

    Attributes:
        sequences: to prefill, or to decode.
        limits: for a prefill; None for a decode step.
        failed: sequences that were next but whose images cannot be read.
        prefixes_only: for a prefill, whether to compute only some of the prefixes that are missing.
        launch: for a decode step, whether to launch one; else tokens of earlier steps are only read.
    """

    sequences: list[Sequence]
    limits: Limits | None = None
    failed: list[Sequence] = field(default_factory=list)
    prefixes_only: bool = False
    launch: bool = True

    def add_seconds(self, seconds: float) -> None:
        """Divide compute time among the sequences."""
        for sequence in self.sequences:
            sequence.seconds += seconds / len(self.sequences)


@dataclass(frozen=True)
class Prefilled:
    """Prefilled sequences: their keys and values, the positions of their first new tokens, and those tokens."""

    tensors: KVTensors
    positions: list[int]
    sampled: SampledTokens
