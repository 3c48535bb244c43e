"""The KV cache of the running sequences.

``KVCache`` is what the decode batch needs of a cache.  ``ContiguousKVCache`` implements it with one ``KVTensors``, in
which all rows have the same length; ``PagedKVCache`` (paged_cache.py) with pages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from transformers.cache_utils import Cache

from .kv_tensors import KVTensors
from .prefix_tree import Node

SPARE_SLOTS = 64  # added when a cache grows: each costs memory, and each time they run out costs a copy
SLOT_MULTIPLE = 128  # slots of a captured decode step are a multiple of it (``cuda_graphs.py``)


class KVCache(ABC):
    """Keys and values of the running sequences, one row each.

    Attributes:
        tensors: where the model reads and writes them; None without sequences.
    """

    tensors: Cache | None = None

    @abstractmethod
    def set_capacity(self, rows: int, max_bytes: int) -> None:
        """Set for how many rows to allocate memory, as far as ``max_bytes`` allows."""

    @abstractmethod
    def spare_slots(self, limit: int) -> int:
        """The slots that prefilled tensors should have for new tokens, of which there will be at most ``limit``."""

    @abstractmethod
    def append(self, prefilled: KVTensors, prefixes: Sequence[Sequence[Node]]) -> None:
        """Add the rows of prefilled sequences after the present ones.

        Args:
            prefixes: the shared prefixes that each of them begins with; all are computed.
        """

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
        keeps_address: whether the tensor should stay in place as long as possible, because decode steps are captured.
        on_free: called when memory is freed: captured steps use it too.
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

    tensors: KVTensors | None = None

    def set_capacity(self, rows: int, max_bytes: int) -> None:
        self._capacity, self._max_bytes = rows, max_bytes

    def spare_slots(self, limit: int) -> int:
        return limit if self.tensors is None and not self.keeps_address() else 0

    def append(self, prefilled: KVTensors, prefixes: Sequence[Sequence[Node]]) -> None:
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
        cache.set_prefixes(rows, prefilled.prefixes[:more])
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
        prefixes = old.prefixes[:live]
        new = self._allocate(rows, filled + SPARE_SLOTS)
        if new is old:  # its rows move within it
            store = store.clone()
        new.valid.zero_()
        new.rows, new.filled = live, filled
        new.store[:, :, :live, :, filled - used : filled] = store
        new.valid[:live, filled - used : filled] = valid
        new.rope_factors[:live] = factors
        new.first_slots[:live] = first_slots
        new.set_prefixes(0, [*prefixes, *[()] * (new.max_rows - live)])
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
