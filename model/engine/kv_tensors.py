"""The tensors in which the model reads and writes keys and values.

``KVTensors`` is a transformers cache over one tensor, whose rows (one per sequence) are aligned at their ends.  Keys
are stored after rotation, so a row may be moved along the slots: its positions do not depend on them.  Slots before the
first token of a row, and padding between a shared prefix and what follows it, are masked.  A row may also refer to
prefixes that are not in the tensor (``prefixes``), for attention that reads them where they are.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from .prefix_groups import Chain, PrefixLevel, prefix_levels
from .transfer import to_device

ROWS_PER_COPY = 8  # rows moved by one copy, which needs memory for all of them


@dataclass(frozen=True)
class KVShape:
    """The shape of one token's keys and values."""

    layers: int
    heads: int
    width: int

    @staticmethod
    def of(config: Any) -> KVShape:
        """From a language model's configuration."""
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return KVShape(config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, width)

    def bytes(self, dtype: torch.dtype) -> int:
        """Bytes per token."""
        return 2 * self.layers * self.heads * self.width * dtype.itemsize


@dataclass(frozen=True)
class GraphShape:
    """The fixed shape of a captured decode step.

    Attributes:
        rows, slots: how much of the cache it uses.
        write_slot: (1,), on the device: the slot that it writes.
    """

    rows: int
    slots: int
    write_slot: torch.Tensor


class _Layer(DynamicLayer):
    """One layer's view of the tensor."""

    def __init__(self, tensors: KVTensors, index: int) -> None:
        super().__init__()
        # Weak: a reference cycle would keep the memory until Python's garbage collector runs.
        self._tensors = weakref.ref(tensors)
        self.index = index
        self.is_initialized = True

    @property
    def tensors(self) -> KVTensors:
        tensors = self._tensors()
        assert tensors is not None
        return tensors

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        cache = self.tensors
        if cache.graph_shape is not None:
            shape = cache.graph_shape
            keys, values = cache.store[self.index, :, : shape.rows].unbind(0)
            keys.index_copy_(2, shape.write_slot, key_states)
            values.index_copy_(2, shape.write_slot, value_states)
            return keys[:, :, : shape.slots], values[:, :, : shape.slots]
        end = cache.filled + key_states.shape[-2]
        keys, values = cache.store[self.index, :, : cache.rows].unbind(0)
        keys[:, :, cache.filled : end] = key_states
        values[:, :, cache.filled : end] = value_states
        return keys[:, :, :end], values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        shape = self.tensors.graph_shape
        return self.tensors.filled if shape is None else shape.slots - 1


class KVTensors(Cache):
    """A transformers cache over one tensor, (layers, 2, rows, heads, slots, width).

    Attributes:
        rows: number of rows in use, from the first.
        filled: number of slots in use; changed by ``advance``, not by a forward pass.
        valid: (rows, slots), which slots are attended to.
        first_slots: the first valid slot of each row, known on the CPU: reading ``valid`` would synchronize.
        own_slots: after a prefill, the number of each row's last slots, which are not a shared prefix's.
        prefixes: of each row, the prefixes before its slots that are not copied into them.
        rope_factors: (rows,), the factor with which each row's keys are rotated (Qwen-VL's dynamic NTK only).
        graph_shape: while a decode step is captured, used instead of ``rows`` and ``filled``.
    """

    def __init__(self, shape: KVShape, rows: int, slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        # Zeros: masked values are still multiplied, and uninitialized memory may hold NaN.
        self.store = _zeros((shape.layers, 2, rows, shape.heads, slots, shape.width), device=device, dtype=dtype)
        self.valid = torch.zeros(rows, slots, dtype=torch.bool, device=device)
        self.rope_factors = torch.ones(rows, device=device)
        self.first_slots = [0] * rows
        self.own_slots = [0] * rows
        self.prefixes: list[Chain] = [()] * rows
        self._levels: tuple[PrefixLevel, ...] | None = None
        self.rows = rows
        self.filled = 0
        self.graph_shape: GraphShape | None = None
        super().__init__(layers=[_Layer(self, layer) for layer in range(shape.layers)])

    @property
    def max_rows(self) -> int:
        """The number of rows there is room for."""
        return int(self.store.shape[2])

    @property
    def max_slots(self) -> int:
        """The number of slots there is room for."""
        return int(self.store.shape[4])

    def advance(self, slots: int) -> None:
        """Count the slots that a forward pass has written."""
        self.filled += slots

    def set_prefixes(self, first_row: int, chains: Sequence[Chain]) -> None:
        """Set the prefixes of consecutive rows."""
        self.prefixes[first_row : first_row + len(chains)] = chains
        self._levels = None

    def prefix_levels(self) -> tuple[PrefixLevel, ...]:
        """The prefixes of the rows in use that are not in the tensor; empty if there are none."""
        if self._levels is None:
            self._levels = prefix_levels(self.prefixes[: self.rows])
        return self._levels

    def write_prefix(self, rows: range, chain: Sequence[torch.Tensor], end: int) -> None:
        """Copy consecutive prefixes (from ``slice_row``) into some rows, so that they end before slot ``end``."""
        selected = slice(rows.start, rows.stop)
        for prefix in reversed(chain):
            start = end - prefix.shape[3]
            self.store[:, :, selected, :, start:end] = prefix[:, :, None]
            self.valid[selected, start:end] = True
            end = start
        self.first_slots[selected] = [end] * len(rows)

    def slice_row(self, row: int, slots: int) -> torch.Tensor:
        """A row's last slots, (layers, 2, heads, slots, width): a view, or a copy if it would retain much more."""
        found = self.store[:, :, row, :, self.filled - slots : self.filled]
        return found.clone() if slots < 0.8 * self.max_slots else found

    def copy_rows(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over others; no row is both a source and a target."""
        for at in range(0, len(sources), ROWS_PER_COPY):
            some, others = sources[at : at + ROWS_PER_COPY], targets[at : at + ROWS_PER_COPY]
            start = min(self.first_slots[row] for row in (*some, *others))
            source, target = to_device(torch.tensor([some, others]), self.store.device).unbind()
            slots = self.store[:, :, :, :, start : self.filled]
            slots.index_copy_(2, target, slots.index_select(2, source))
            self.valid.index_copy_(0, target, self.valid.index_select(0, source))
            self.rope_factors.index_copy_(0, target, self.rope_factors.index_select(0, source))
            for one, other in zip(some, others, strict=True):
                self.first_slots[other] = self.first_slots[one]
                self.own_slots[other] = self.own_slots[one]
                self.prefixes[other] = self.prefixes[one]
        self._levels = None

    def compact(self, kept: Sequence[int]) -> list[int]:
        """Keep some rows: gaps are filled with rows from the end.  Returns the old index of each row."""
        order = list(range(len(kept)))
        gaps = sorted(set(order) - set(kept))
        moved = [row for row in kept if row >= len(kept)]
        self.copy_rows(moved, gaps)
        for gap, row in zip(gaps, moved, strict=True):
            order[gap] = row
        self.rows = len(kept)
        self.set_prefixes(self.rows, [()] * (len(self.prefixes) - self.rows))
        return order


def _zeros(size: tuple[int, ...], *, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """As ``torch.zeros``; on a CPU without writing to memory that the system has zeroed anyway."""
    if device.type != "cpu":
        return torch.zeros(size, device=device, dtype=dtype)
    count = math.prod(size) * dtype.itemsize
    return torch.from_numpy(np.zeros(count, dtype=np.uint8)).view(dtype).view(size)
