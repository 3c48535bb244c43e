"""The tensors of a paged KV cache, in which the model reads and writes keys and values during decode steps.

``PagedTensors`` is a transformers cache over one tensor of pages.  Where the model's attention is evalkit's
(``patches/attention.py``) and computes in float32, it reads the pages in place (``patches/paged_attention.py``).
Otherwise each layer's pages are gathered into one row per sequence, which any attention function can read.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from .kv_tensors import KVShape
from .pages import PAGE_TOKENS
from .transfer import to_device

PAGES_PER_COPY = 8  # pages moved by one copy, which needs memory for all of them


@dataclass(frozen=True)
class PageGroup:
    """Pages that attention multiplies by the queries of equally many rows, all on the device.

    An entry is one row's part of a page: entry m × ``width`` + n is that of the n-th row of page m.  Entries without a
    row belong to row 0, which does not read them.

    Attributes:
        pages: a slice, or (n,) indices.  Those of a slice may have entries without a row.
        width: entries per page.
        rows: (n × ``width``,), the row of each entry.
        places: (n × ``width``,), its place in the flattened table of ``StepLayout``.
        lengths: (n,), number of tokens in each page.
    """

    pages: slice | torch.Tensor
    width: int
    rows: torch.Tensor
    places: torch.Tensor
    lengths: torch.Tensor

    def __len__(self) -> int:
        """The number of entries."""
        return len(self.rows)

    def select(self, store: torch.Tensor) -> torch.Tensor:
        """The keys or values of the pages, (n × heads, ``PAGE_TOKENS``, width), from those of all pages."""
        found = store[self.pages] if isinstance(self.pages, slice) else store.index_select(0, self.pages)
        return found.flatten(0, 1)

    def bias(self, heads: int) -> torch.Tensor:
        """(n × heads, ``PAGE_TOKENS``, 1): 0 for a token of a page, -inf for an empty slot."""
        empty = torch.arange(PAGE_TOKENS, device=self.lengths.device) >= self.lengths[:, None]
        found = torch.zeros(empty.shape, device=empty.device).masked_fill_(empty, -torch.inf)
        return found[:, None].expand(-1, heads, -1).reshape(-1, PAGE_TOKENS, 1)


@dataclass(frozen=True)
class StepLayout:
    """Where a decode step writes and reads, all on the device.

    Attributes:
        write_pages, write_slots: (rows,), where each row's new token is written.
        table: (rows, longest), the pages of each row in order, filled with -1; if attention reads pages in place, their
            entries, as numbered over all groups, filled with one number more.
        lengths: (pages,), number of tokens in each page; empty if attention reads pages in place.
        groups: the pages, if attention reads them in place.
    """

    write_pages: torch.Tensor
    write_slots: torch.Tensor
    table: torch.Tensor
    lengths: torch.Tensor
    groups: tuple[PageGroup, ...] = ()


@dataclass(frozen=True)
class Workspace:
    """Tensors that the layers of a decode step use one after another.

    Attributes:
        table: the layout's, flattened.
        biases: of the layout's groups.
        scores: (entries + 1, kv_heads, groups, ``PAGE_TOKENS``); the last ones, of no page, are -inf.
        parts: (entries + 1, kv_heads, groups, width); the last ones are zero.
    """

    table: torch.Tensor
    biases: tuple[torch.Tensor, ...]
    scores: torch.Tensor
    parts: torch.Tensor


class _Layer(DynamicLayer):
    """One layer's view of the pages."""

    def __init__(self, tensors: PagedTensors, index: int) -> None:
        super().__init__()
        # Weak: a reference cycle would keep the memory until Python's garbage collector runs.
        self._tensors = weakref.ref(tensors)
        self.index = index
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        cache = self._tensors()
        assert cache is not None
        assert cache.layout is not None
        keys, values = cache.store[self.index].unbind(0)
        where = cache.layout.write_pages, slice(None), cache.layout.write_slots
        keys[where] = key_states[:, :, 0]
        values[where] = value_states[:, :, 0]
        if cache.in_place:
            return key_states, value_states
        return cache.gather(keys), cache.gather(values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        cache = self._tensors()
        assert cache is not None
        return 0 if cache.layout is None else cache.layout.table.shape[1] * PAGE_TOKENS - 1


class PagedTensors(Cache):
    """A transformers cache over one tensor of pages, (layers, 2, pages, heads, ``PAGE_TOKENS``, width).

    Pages are not initialized: on a CPU, those that have never been used need no memory.

    Attributes:
        layout: of the next decode step.
        in_place: whether attention reads the pages (then the layers return only the new token's keys and values).
        rope_factors: (rows,), the factor with which each row's keys are rotated (Qwen-VL's dynamic NTK only).
    """

    def __init__(self, shape: KVShape, pages: int, *, device: torch.device, dtype: torch.dtype) -> None:
        size = (shape.layers, 2, pages, shape.heads, PAGE_TOKENS, shape.width)
        self.store = torch.empty(size, device=device, dtype=dtype)
        self.rope_factors = torch.ones(0, device=device)
        self.layout: StepLayout | None = None
        self.in_place = False
        self._workspace: Workspace | None = None
        self._indices: tuple[torch.Tensor, torch.Tensor] | None = None
        super().__init__(layers=[_Layer(self, layer) for layer in range(shape.layers)])

    def begin_step(self, layout: StepLayout, *, in_place: bool) -> torch.Tensor:
        """Prepare a decode step.  Returns its mask, (rows, 1, 1, slots); of one slot if attention reads the pages."""
        self.layout, self.in_place = layout, in_place
        self._workspace = self._indices = None
        rows, longest = layout.table.shape
        if in_place:
            return torch.ones(rows, 1, 1, 1, dtype=torch.bool, device=self.store.device)
        # Empty entries read the row's own first page: another row's may hold NaN, which a mask does not stop.
        pages = torch.where(layout.table >= 0, layout.table, layout.table[:, :1])
        heads = torch.arange(self.store.shape[3], device=self.store.device)
        self._indices = pages, (pages[:, None] * len(heads) + heads[:, None]).flatten()
        slots = torch.arange(PAGE_TOKENS, device=self.store.device)
        valid = (slots < layout.lengths[pages][..., None]) & (layout.table >= 0)[..., None]
        return valid.view(rows, 1, 1, longest * PAGE_TOKENS)

    def workspace(self, groups: int) -> Workspace:
        """That of the current step, for so many query heads per key head."""
        if self._workspace is None or self._workspace.scores.shape[2] != groups:
            assert self.layout is not None
            heads, width = self.store.shape[3], self.store.shape[5]
            entries = sum(map(len, self.layout.groups))
            scores = self.store.new_empty(entries + 1, heads, groups, PAGE_TOKENS)
            parts = self.store.new_empty(entries + 1, heads, groups, width)
            scores[-1], parts[-1] = -torch.inf, 0
            biases = tuple(group.bias(heads) for group in self.layout.groups)
            self._workspace = Workspace(self.layout.table.flatten(), biases, scores, parts)
        return self._workspace

    def gather(self, store: torch.Tensor) -> torch.Tensor:
        """Copy one layer's keys or values into (rows, heads, slots, width)."""
        assert self._indices is not None
        pages, indices = self._indices
        found = store.flatten(0, 1).index_select(0, indices)
        return found.view(len(pages), store.shape[1], -1, store.shape[3])

    def write(self, pages: list[int], tokens: torch.Tensor) -> None:
        """Copy consecutive tokens, (layers, 2, heads, tokens, width), to pages; the last page is filled with zeros."""
        for at in range(0, len(pages), PAGES_PER_COPY):
            some = pages[at : at + PAGES_PER_COPY]
            part = tokens[:, :, :, at * PAGE_TOKENS : (at + len(some)) * PAGE_TOKENS]
            missing = len(some) * PAGE_TOKENS - part.shape[3]
            if missing:
                part = torch.nn.functional.pad(part, (0, 0, 0, missing))
            part = part.unflatten(3, (len(some), PAGE_TOKENS)).transpose(2, 3)
            self.store.index_copy_(2, self._index(some), part)

    def zero(self, pages: list[int]) -> None:
        """Overwrite pages with zeros: masked values are still multiplied, and old memory may hold NaN."""
        self.store.index_fill_(2, self._index(pages), 0)

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy pages over others; no page is both a source and a target."""
        for at in range(0, len(sources), PAGES_PER_COPY):
            some, others = sources[at : at + PAGES_PER_COPY], targets[at : at + PAGES_PER_COPY]
            self.store.index_copy_(2, self._index(others), self.store.index_select(2, self._index(some)))

    def _index(self, pages: list[int]) -> torch.Tensor:
        return to_device(torch.tensor(pages), self.store.device)
