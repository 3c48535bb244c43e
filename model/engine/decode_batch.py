"""The running sequences, which are decoded together: finished ones are evicted, prefilled ones are appended."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .kv_cache import ContiguousKVCache, KVCache
from .kv_tensors import KVTensors
from .paged_cache import PagedKVCache
from .sampler import SampledTokens
from .sequence import Sequence, Status
from .transfer import to_device


class DecodeBatch:
    """The state of the running sequences; row n of every tensor is that of sequence n.

    Attributes:
        sequences: some may have finished, and wait to be evicted.
        cache: their keys and values: ``contiguous`` or ``paged`` (see ``use_pages``).
        positions: (rows,), on the device: the position of each sequence's next token.
        most_likely: (rows,), on the device: each sequence's most likely last token.
        pending: tokens of launched steps that the CPU has not read yet, in order.
    """

    def __init__(self, contiguous: ContiguousKVCache, paged: PagedKVCache, device: torch.device) -> None:
        self.contiguous = contiguous
        self.paged = paged
        self.cache: KVCache = contiguous
        self.device = device
        self.sequences: list[Sequence] = []
        self.positions = torch.zeros(0, dtype=torch.long)
        self.most_likely = torch.zeros(0, dtype=torch.long)
        self.pending: list[SampledTokens] = []

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def uses_pages(self) -> bool:
        """Whether keys and values are in the paged cache."""
        return self.cache is self.paged

    def use_pages(self, paged: bool) -> None:
        """Choose the cache; there must be no sequences."""
        assert not self.sequences
        if paged != self.uses_pages:
            self.cache.clear(free_memory=True)
            self.cache = self.paged if paged else self.contiguous

    def append(
        self, sequences: Iterable[Sequence], tensors: KVTensors, positions: list[int], sampled: SampledTokens
    ) -> None:
        """Add the prefilled sequences that have not finished with their first token.

        Args:
            tensors: their keys and values, which the cache may take over.
            positions: the position of each sequence's first new token.
            sampled: their first tokens.
        """
        sequences = list(sequences)
        order = tensors.compact([row for row, sequence in enumerate(sequences) if not sequence.finished])
        if not order:
            return
        following = to_device(torch.tensor([positions[row] for row in order]), self.device)
        tokens = sampled.most_likely if len(order) == len(sequences) else sampled.most_likely[self._index(order)]
        if self.sequences:
            following = torch.cat([self.positions, following])
            tokens = torch.cat([self.most_likely, tokens])
        # Last: if it runs out of memory, nothing else has changed.
        self.cache.append(tensors, [sequences[row].prefixes for row in order])
        self.positions, self.most_likely = following, tokens
        for row in order:
            sequences[row].status = Status.RUNNING
            self.sequences.append(sequences[row])

    def input_ids(self) -> torch.Tensor:
        """(rows,), on the device: the tokens that the next step takes."""
        if all(sequence.is_greedy for sequence in self.sequences):
            return self.most_likely
        return to_device(torch.tensor([sequence.tokens[-1] for sequence in self.sequences]), self.device)

    def advance(self, sampled: SampledTokens) -> None:
        """Continue with a step's tokens."""
        self.positions = self.positions + 1
        self.most_likely = sampled.most_likely
        self.pending.append(sampled)

    def fetch(self, steps: int) -> list[Sequence]:
        """Read the tokens of the first pending steps.  Returns the sequences that finish with them."""
        read, self.pending = self.pending[:steps], self.pending[steps:]
        return [sequence for sampled in read for sequence in sampled.fetch()]

    def evict_finished(self) -> None:
        """Remove the sequences that have finished, and compact the cache."""
        kept = [row for row, sequence in enumerate(self.sequences) if not sequence.finished]
        if len(kept) == len(self.sequences):
            return
        # NaN is not stopped by a mask.
        order = self.cache.evict(kept, zero=any(sequence.broken for sequence in self.sequences))
        self.sequences = [self.sequences[row] for row in order]
        if self.sequences:
            rows = self._index(order)
            self.positions, self.most_likely = self.positions[rows], self.most_likely[rows]
        else:
            self.cache.clear(free_memory=False)
            self.pending = []  # tokens of sequences that have finished

    def remove_last(self) -> Sequence:
        """Remove the last sequence, ready to be continued later.  All tokens must have been read."""
        assert not self.pending
        removed = self.sequences[-1]
        order = self.cache.evict(range(len(self.sequences) - 1), zero=False)
        self.sequences = self.sequences[:-1]
        rows = self._index(order)
        self.positions, self.most_likely = self.positions[rows], self.most_likely[rows]
        removed.interrupt()
        return removed

    def clear(self, *, free_memory: bool) -> list[Sequence]:
        """Remove all sequences.  Returns those that had not finished, ready to be continued."""
        self.cache.clear(free_memory=free_memory or any(sequence.broken for sequence in self.sequences))
        removed = [sequence for sequence in self.sequences if not sequence.finished]
        self.sequences, self.pending = [], []
        for sequence in removed:
            sequence.interrupt()
        return removed

    def _index(self, rows: list[int]) -> torch.Tensor:
        return to_device(torch.tensor(rows), self.device)
