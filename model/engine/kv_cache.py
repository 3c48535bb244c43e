"""The KV cache of the running sequences, and the tensors in which the model reads and writes it.

``KVTensors`` is a transformers cache over one tensor, whose rows (one per sequence) are aligned at their ends.  Keys
are stored after rotation, so a row may be moved along the slots: its positions do not depend on them.  Slots before the
first token of a row, and padding between a shared prefix and what follows it, are masked.

``KVCache`` is what the decode batch needs of a cache; ``ContiguousKVCache`` implements it with one ``KVTensors``.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from .transfer import to_device

SPARE_SLOTS = 64  # added when a cache grows: each costs memory, and each time they run out costs a copy
SLOT_MULTIPLE = 128  # slots of a recorded decode step are a multiple of it (``cuda_graphs.py``)
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
class RecordedShape:
    """The fixed shape of a recorded decode step.

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
        if cache.recorded is not None:
            shape = cache.recorded
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
        recorded = self.tensors.recorded
        return self.tensors.filled if recorded is None else recorded.slots - 1


class KVTensors(Cache):
    """A transformers cache over one tensor, (layers, 2, rows, heads, slots, width).

    Attributes:
        rows: number of rows in use, from the first.
        filled: number of slots in use; changed by ``advance``, not by a forward pass.
        valid: (rows, slots), which slots are attended to.
        first_slots: the first valid slot of each row, known on the CPU: reading ``valid`` would synchronize.
        rope_factors: (rows,), the factor with which each row's keys are rotated (Qwen-VL's dynamic NTK only).
        recorded: while a decode step is recorded, used instead of ``rows`` and ``filled``.
    """

    def __init__(self, shape: KVShape, rows: int, slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        # Zeros: masked values are still multiplied, and uninitialized memory may hold NaN.
        self.store = torch.zeros(shape.layers, 2, rows, shape.heads, slots, shape.width, device=device, dtype=dtype)
        self.valid = torch.zeros(rows, slots, dtype=torch.bool, device=device)
        self.rope_factors = torch.ones(rows, device=device)
        self.first_slots = [0] * rows
        self.rows = rows
        self.filled = 0
        self.recorded: RecordedShape | None = None
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

    def compact(self, kept: Sequence[int]) -> list[int]:
        """Keep some rows: gaps are filled with rows from the end.  Returns the old index of each row."""
        order = list(range(len(kept)))
        gaps = sorted(set(order) - set(kept))
        moved = [row for row in kept if row >= len(kept)]
        self.copy_rows(moved, gaps)
        for gap, row in zip(gaps, moved, strict=True):
            order[gap] = row
        self.rows = len(kept)
        return order


class KVCache(ABC):
    """Keys and values of the running sequences, one row each.

    A paged cache can implement this too, if the tensors it offers to the model read its blocks.

    Attributes:
        tensors: where the model reads and writes them; None without sequences.
    """

    tensors: KVTensors | None = None

    @abstractmethod
    def set_capacity(self, rows: int, max_bytes: int) -> None:
        """Set for how many rows to allocate memory, as far as ``max_bytes`` allows."""

    @abstractmethod
    def append(self, prefilled: KVTensors) -> None:
        """Add the rows of prefilled sequences after the present ones."""

    @abstractmethod
    def evict(self, kept: Sequence[int], *, zero: bool) -> list[int]:
        """Keep some rows and compact them.  Returns the old index of each row.

        Args:
            zero: overwrite what is no longer used, since NaN is not stopped by a mask.
        """

    @abstractmethod
    def grow(self) -> None:
        """Make room for one more token in every row."""

    @abstractmethod
    def clear(self, *, free_memory: bool) -> None:
        """Remove all rows; without ``free_memory``, memory may be kept for the next ones."""


class ContiguousKVCache(KVCache):
    """All rows in one tensor, which is replaced by a larger one when it is full.

    Args:
        allocate: returns empty tensors for (rows, slots).
        bytes_per_slot: bytes of one token's keys and values.
        keeps_address: whether the tensor should stay in place as long as possible, because decode steps are recorded.
        on_free: called when memory is freed: recorded steps use it too.
    """

    def __init__(
        self,
        allocate: Callable[[int, int], KVTensors],
        bytes_per_slot: int,
        *,
        keeps_address: Callable[[], bool],
        on_free: Callable[[], None],
    ) -> None:
        self.allocate = allocate
        self.bytes_per_slot = bytes_per_slot
        self.keeps_address = keeps_address
        self.on_free = on_free
        self.retained: KVTensors | None = None  # reused as long as its size suffices
        self._capacity = 1
        self._max_bytes = 0

    def set_capacity(self, rows: int, max_bytes: int) -> None:
        self._capacity, self._max_bytes = rows, max_bytes

    def append(self, prefilled: KVTensors) -> None:
        cache, more = self.tensors, prefilled.rows
        if cache is None:
            self.tensors = self._resized(prefilled, more, 0) if self.keeps_address() else prefilled
            return
        rows = cache.rows
        if rows + more > cache.max_rows or prefilled.filled > cache.filled:
            cache = self.tensors = self._resized(cache, rows + more, prefilled.filled)
        new, start = slice(rows, rows + more), cache.filled - prefilled.filled
        cache.store[:, :, new, :, start : cache.filled] = prefilled.store[:, :, :more, :, : prefilled.filled]
        cache.valid[new] = False
        cache.valid[new, start : cache.filled] = prefilled.valid[:more, : prefilled.filled]
        cache.rope_factors[new] = prefilled.rope_factors[:more]
        cache.first_slots[new] = [start + first for first in prefilled.first_slots[:more]]
        cache.rows = rows + more

    def evict(self, kept: Sequence[int], *, zero: bool) -> list[int]:
        assert self.tensors is not None
        before = self.tensors.rows
        order = self.tensors.compact(kept)
        if zero:
            self.tensors.store[:, :, len(kept) : before] = 0
        return order

    def grow(self) -> None:
        assert self.tensors is not None
        if self.tensors.filled == self.tensors.max_slots:
            self.tensors = self._resized(self.tensors, self.tensors.rows, 0)

    def clear(self, *, free_memory: bool) -> None:
        self.tensors = None
        if free_memory:
            self.retained = None
            self.on_free()

    def _resized(self, old: KVTensors, rows: int, filled: int) -> KVTensors:
        """Copy to tensors for ``rows`` rows with spare slots, of which at least ``filled`` are filled."""
        live = old.rows
        used = old.filled - min(old.first_slots[:live], default=old.filled)
        filled = max(filled, used)
        start = old.filled - used
        store = old.store[:, :, :live, :, start : old.filled]
        valid, factors = old.valid[:live, start : old.filled].clone(), old.rope_factors[:live].clone()
        first_slots = [first - old.filled + filled for first in old.first_slots[:live]]
        new = self._allocate(rows, filled + SPARE_SLOTS)
        if new is old:  # its rows move within it
            store = store.clone()
        new.valid.zero_()
        new.rows, new.filled = live, filled
        new.store[:, :, :live, :, filled - used : filled] = store
        new.valid[:live, filled - used : filled] = valid
        new.rope_factors[:live] = factors
        new.first_slots[:live] = first_slots
        return new

    def _allocate(self, rows: int, slots: int) -> KVTensors:
        """Tensors of at least this size; their slots may hold old values, but no NaN."""
        retained = self.retained
        if retained is not None and retained.max_rows >= rows and retained.max_slots >= slots:
            return retained
        if self.tensors is None:
            self.retained = retained = None  # unused, so its memory can be freed first
        if self.keeps_address():
            slots = -(-slots // SLOT_MULTIPLE) * SLOT_MULTIPLE
        affordable = self._max_bytes // (slots * self.bytes_per_slot)
        new = self.allocate(max(rows, min(self._capacity, affordable)), slots)
        if self.keeps_address():
            self.retained = new
        return new
