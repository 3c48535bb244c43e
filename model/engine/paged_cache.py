"""A KV cache of pages, which holds what sequences hold: they grow page by page, and refer to those of shared prefixes.

Compared with ``ContiguousKVCache``, whose rows all have the length of the longest one, it suits answers of very
different lengths, and limits far above the usual length.  Its decode steps cannot be captured as CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from .kv_cache import KVCache
from .kv_tensors import KVTensors
from .paged_tensors import PagedTensors, PageGroup, StepLayout
from .pages import PAGE_TOKENS, OutOfPages, Page, PageAllocator, pages_for
from .prefix_tree import Node
from .transfer import to_device

POOL_SHARE = 0.75  # of the memory; the rest is for prefill, and for the prefixes that sequences are waiting for
SHARERS = (8, 32, 128, 512)  # pages of up to so many rows are read together: all get the entries of the one with most
MIN_GAPS = 8  # free pages among those in use, before which the others are not moved


@dataclass(eq=False)
class _Row:
    """The pages of a sequence, those of its prefixes first; its own tokens are in the others."""

    pages: list[Page]


@dataclass(eq=False)
class _Shared:
    """A ``PageGroup`` whose entries have the place of the page in their row."""

    pages: slice | torch.Tensor
    width: int
    rows: torch.Tensor
    places: torch.Tensor
    lengths: torch.Tensor


class PagedKVCache(KVCache):
    """All rows' pages in one tensor, which is allocated with the first row and kept until the cache is cleared.

    Args:
        allocate: returns tensors with so many pages.
        bytes_per_token: bytes of one token's keys and values.
        device: of the tensors.
        in_place: whether attention reads the pages in place (see ``PagedTensors``).
    """

    tensors: PagedTensors | None = None

    def __init__(
        self,
        allocate: Callable[[int], PagedTensors],
        bytes_per_token: int,
        device: torch.device,
        *,
        in_place: Callable[[], bool],
    ) -> None:
        self.in_place = in_place
        self.allocate = allocate
        self.page_bytes = bytes_per_token * PAGE_TOKENS
        self.device = device
        self.pool = PageAllocator(0)
        self._rows: list[_Row] = []
        self._max_pages = 0
        self._lengths = torch.zeros(0, dtype=torch.long)  # of each page in tokens, on the CPU
        self._owners = self._places = torch.zeros(0, dtype=torch.long)  # of each page of a single row: row, place in it
        self._last = self._slots = torch.zeros(0, dtype=torch.long)  # of each row: its last page, tokens in it
        self._table: torch.Tensor | None = None  # on the CPU, filled with -1; None after rows have changed
        self._entries = 0  # before those of pages of single rows
        self._shared: list[_Shared] = []
        self._layout: StepLayout | None = None

    def set_capacity(self, rows: int, max_bytes: int) -> None:
        self._max_pages = max(1, int(max_bytes * POOL_SHARE) // self.page_bytes)
        if self.tensors is None:
            self.pool.resize(self._max_pages)

    def spare_slots(self, limit: int) -> int:
        return 0

    @property
    def free(self) -> int:
        """Number of free pages."""
        return self.pool.free

    def pages_for(self, nodes: Iterable[Node], own_tokens: int, counted: set[Node]) -> int:
        """The number of free pages that another row needs, for one token more than it begins with.

        Args:
            nodes: its shared prefixes.
            own_tokens: its other tokens.
            counted: nodes whose pages have been counted already; its own are added.
        """
        needed = parts = 0
        for node in nodes:
            parts += node.tokens
            if node.part:
                continue
            if node not in counted and not _held(node):
                needed += pages_for(parts)
                counted.add(node)
            parts = 0
        return needed + pages_for(parts + own_tokens + 1)

    def pages_to_grow(self) -> int:
        """The number of free pages that ``grow`` needs."""
        return int((self._slots == PAGE_TOKENS).sum())

    def append(self, prefilled: KVTensors, prefixes: Sequence[Sequence[Node]]) -> None:
        if self.tensors is None:
            self._allocate()
        assert self.tensors is not None
        counted: set[Node] = set()
        needed = sum(
            self.pages_for(nodes, own - 1, counted)
            for nodes, own in zip(prefixes, prefilled.own_slots[: prefilled.rows], strict=True)
        )
        if needed > self.pool.free:
            raise OutOfPages(f"{needed} pages of the KV cache are needed, and {self.pool.free} are free")
        last, slots = [], []
        for row, nodes in enumerate(prefixes):
            pages: list[Page] = []
            parts: list[torch.Tensor] = []
            for node in nodes:
                parts.append(node.prefix.kv)
                if not node.part:
                    pages += self._share(node, parts)
                    parts = []
            start = prefilled.filled - prefilled.own_slots[row]
            parts.append(prefilled.store[:, :, row, :, start : prefilled.filled])
            pages += self._write(parts)
            self._rows.append(_Row(pages))
            last.append(pages[-1].index)
            slots.append(int(self._lengths[pages[-1].index]))
        self._last = torch.cat([self._last, torch.tensor(last)])
        self._slots = torch.cat([self._slots, torch.tensor(slots)])
        factors = prefilled.rope_factors[: prefilled.rows]
        self.tensors.rope_factors = torch.cat([self.tensors.rope_factors, factors])
        self._table = None

    def evict(self, kept: Sequence[int], *, zero: bool) -> list[int]:
        assert self.tensors is not None
        remaining = set(kept)
        self.pool.release(page for at, row in enumerate(self._rows) if at not in remaining for page in row.pages)
        self._rows = [self._rows[at] for at in kept]
        index = torch.tensor(list(kept), dtype=torch.long)
        self._slots = self._slots[index]
        self.tensors.rope_factors = self.tensors.rope_factors[to_device(index, self.device)]
        if self.pool.gaps > max(MIN_GAPS, self.pool.used // 4):
            sources, targets = self.pool.compact()
            self.tensors.move(sources, targets)
            self._lengths[targets] = self._lengths[sources]
        self._last = torch.tensor([row.pages[-1].index for row in self._rows], dtype=torch.long)
        self._table = None
        return list(kept)

    def grow(self) -> None:
        assert self.tensors is not None
        full = (self._slots == PAGE_TOKENS).nonzero()[:, 0].tolist()
        pages = self.pool.allocate(len(full))
        if pages:
            self.tensors.zero([page.index for page in pages])
        for row, page in zip(full, pages, strict=True):
            self._rows[row].pages.append(page)
            self._last[row], self._slots[row], self._lengths[page.index] = page.index, 0, 0
        if self._table is None:
            self._describe()
        elif full:
            places = [len(self._rows[row].pages) - 1 for row in full]
            self._add_entries(*torch.tensor([full, places, [page.index for page in pages]]))
        slots = self._slots.clone()
        self._slots += 1
        self._lengths[self._last] = self._slots
        written = to_device(self._last.clone(), self.device), to_device(slots, self.device)
        self._layout = self._in_groups(*written) if self.in_place() else self._in_rows(*written)

    def begin_step(self) -> torch.Tensor:
        """Prepare the decode step after ``grow``.  Returns its mask (see ``PagedTensors.begin_step``)."""
        assert self.tensors is not None
        assert self._layout is not None
        return self.tensors.begin_step(self._layout, in_place=self.in_place())

    def clear(self, *, free_memory: bool) -> None:
        self._rows, self._table, self._layout = [], None, None
        self._last = self._slots = torch.zeros(0, dtype=torch.long)
        self.tensors = None
        self.pool.resize(self._max_pages)

    # -------------------------------------------------------------------------------------------------------- pages

    def _allocate(self) -> None:
        self.tensors = self.allocate(self.pool.capacity)
        self._lengths = torch.zeros(self.pool.capacity, dtype=torch.long)
        self._owners, self._places = torch.zeros(2, self.pool.capacity, dtype=torch.long)

    def _share(self, node: Node, parts: list[torch.Tensor]) -> list[Page]:
        """The pages of a prefix, with one reference more; they are written for its first row, from ``parts``."""
        if _held(node):
            self.pool.retain(node.pages)
        else:
            node.pages = self._write(parts, shared=self.in_place())
        return node.pages

    def _write(self, parts: list[torch.Tensor], *, shared: bool = False) -> list[Page]:
        """Copy consecutive tokens, each (layers, 2, heads, tokens, width), to new pages."""
        assert self.tensors is not None
        tokens = torch.cat(parts, dim=3) if len(parts) > 1 else parts[0]
        count = tokens.shape[3]
        pages = self.pool.allocate(pages_for(count), shared=shared)
        indices = [page.index for page in pages]
        self.tensors.write(indices, tokens)
        self._lengths[indices] = PAGE_TOKENS
        self._lengths[indices[-1]] = count - PAGE_TOKENS * (len(pages) - 1)
        return pages

    # -------------------------------------------------------------------------------------------------- descriptions

    def _describe(self) -> None:
        """List the pages of all rows, or their entries (see ``StepLayout``)."""
        longest = max((len(row.pages) for row in self._rows), default=1)
        self._table = torch.full((len(self._rows), longest), -1)
        sharing: dict[Page, list[tuple[int, int]]] = {}  # row and place in it
        own = []
        for at, row in enumerate(self._rows):
            for place, page in enumerate(row.pages):
                if page.shared:
                    sharing.setdefault(page, []).append((at, place))
                else:
                    own.append((at, place, page.index))
        self._shared, self._entries = [], 0
        self._owners.zero_()  # free pages belong to no row that there is not
        self._places.zero_()
        for least, most in pairwise((0, *SHARERS, len(self._rows) + 1)):
            chosen = {page.index: found for page, found in sharing.items() if least < len(found) <= most}
            if chosen:
                self._add_shared(chosen)
        if own:
            rows, places, indices = torch.tensor(own).unbind(1)
            self._add_entries(rows, places, indices)

    def _add_shared(self, sharing: dict[int, list[tuple[int, int]]]) -> None:
        """Add a group of shared pages; given are their indices, with their rows and the places in them."""
        assert self._table is not None
        indices = sorted(sharing)
        span = indices[-1] + 1 - indices[0]
        in_one_piece = span <= len(indices) + max(MIN_GAPS, len(indices) // 4)
        width = max(map(len, sharing.values()))
        chosen = range(indices[0], indices[-1] + 1) if in_one_piece else indices
        entries = [
            (number * width + sharer, at, place)
            for number, index in enumerate(chosen)
            for sharer, (at, place) in enumerate(sharing.get(index, ()))
        ]
        numbers, rows, places = torch.tensor(entries).unbind(1)
        self._table[rows, places] = self._entries + numbers
        self._entries += len(chosen) * width
        every = torch.zeros(2, len(chosen) * width, dtype=torch.long)
        every[0, numbers], every[1, numbers] = rows, places
        pages = torch.tensor(list(chosen))
        where = slice(indices[0], indices[-1] + 1) if in_one_piece else to_device(pages, self.device)
        on_device = to_device(every, self.device)
        lengths = to_device(self._lengths[pages], self.device)
        self._shared.append(_Shared(where, width, on_device[0], on_device[1], lengths))

    def _add_entries(self, rows: torch.Tensor, places: torch.Tensor, indices: torch.Tensor) -> None:
        """Add pages of single rows to the table."""
        assert self._table is not None
        missing = int(places.max()) + 1 - self._table.shape[1]
        if missing > 0:
            self._table = torch.nn.functional.pad(self._table, (0, missing), value=-1)
        self._table[rows, places] = self._entries + indices
        self._owners[indices], self._places[indices] = rows, places

    def _in_groups(self, write_pages: torch.Tensor, write_slots: torch.Tensor) -> StepLayout:
        """The layout for attention that reads the pages in place."""
        assert self._table is not None
        end, longest = self.pool.end, self._table.shape[1]
        rows, places, lengths = (
            to_device(tensor[:end], self.device) for tensor in (self._owners, self._places, self._lengths)
        )
        groups = tuple(
            PageGroup(one.pages, one.width, one.rows, one.rows * longest + one.places, one.lengths)
            for one in (*self._shared, _Shared(slice(0, end), 1, rows, places, lengths))
        )
        table = torch.where(self._table >= 0, self._table, self._entries + end)
        return StepLayout(write_pages, write_slots, to_device(table, self.device), self._lengths[:0], groups)

    def _in_rows(self, write_pages: torch.Tensor, write_slots: torch.Tensor) -> StepLayout:
        """The layout for attention that reads the pages gathered row by row."""
        assert self._table is not None
        lengths = to_device(self._lengths[: self.pool.end], self.device)
        return StepLayout(write_pages, write_slots, to_device(self._table, self.device), lengths)


def _held(node: Node) -> bool:
    """Whether rows hold the prefix, so that its pages can be shared."""
    return bool(node.pages) and node.pages[0].references > 0
