"""Pages of a paged KV cache: which are in use, and by how many rows.  No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

PAGE_TOKENS = 64  # per page: small pages waste less memory, large ones need fewer numbers to describe a row


class OutOfPages(MemoryError):
    """There are fewer free pages than are needed."""


@dataclass(eq=False, slots=True)
class Page:
    """A page in use.

    Attributes:
        index: its place in the cache; changed by ``PageAllocator.compact``.
        shared: whether it was allocated for several rows.
        references: number of rows that contain it; at zero it is free, and the object is not used again.
    """

    index: int
    shared: bool = False
    references: int = 1


def pages_for(tokens: int) -> int:
    """The number of pages for so many consecutive tokens."""
    return -(-tokens // PAGE_TOKENS)


class PageAllocator:
    """Counts the references to pages.

    Pages for single rows are taken from the beginning, and pages for several rows from the end, so that each kind can
    be read in one piece.  Only where memory is nearly exhausted do they mix.

    Attributes:
        capacity: number of pages.
        end: one more than the highest index of pages for single rows.
        shared_start: the lowest index of pages for several rows.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.end, self.shared_start = 0, capacity
        self._pages: dict[int, Page] = {}
        self._forget_released()

    @property
    def used(self) -> int:
        """Number of pages in use."""
        return len(self._pages)

    @property
    def free(self) -> int:
        """Number of free pages."""
        return self.capacity - len(self._pages)

    @property
    def gaps(self) -> int:
        """Number of free pages between those in use, where no pages are mixed."""
        return self.end + self.capacity - self.shared_start - self.used

    def allocate(self, count: int, *, shared: bool = False) -> list[Page]:
        """Take free pages, each with one reference: the lowest ones, or the highest ones if they are ``shared``.

        Raises:
            OutOfPages: there are not so many; none is taken.
        """
        if count > self.free:
            raise OutOfPages(f"{count} pages of the KV cache are needed, and {self.free} of {self.capacity} are free")
        found = [Page(self._highest() if shared else self._lowest(), shared) for _ in range(count)]
        for page in found:
            self._pages[page.index] = page
            if shared:
                self.shared_start = min(self.shared_start, page.index)
            else:
                self.end = max(self.end, page.index + 1)
        return found

    def retain(self, pages: Iterable[Page]) -> None:
        """Count one more reference to each page."""
        for page in pages:
            assert page.references > 0, "the page is free"
            page.references += 1

    def release(self, pages: Iterable[Page]) -> None:
        """Count one reference less to each page; those without any are free."""
        for page in pages:
            assert page.references > 0, "the page is free"
            page.references -= 1
            if page.references == 0:
                del self._pages[page.index]
                self._released.add(page.index)
                heappush(self._lowest_released, page.index)
                heappush(self._highest_released, -page.index)
        while self.end and not self._holds(self.end - 1, shared=False):
            self.end -= 1
        while self.shared_start < self.capacity and not self._holds(self.shared_start, shared=True):
            self.shared_start += 1

    def compact(self) -> tuple[list[int], list[int]]:
        """Close the gaps between pages of each kind.  Returns the old and new indices of those that must be copied."""
        own = [page for page in self._pages.values() if not page.shared]
        shared = [page for page in self._pages.values() if page.shared]
        boundary = self.capacity - len(shared)
        moved = [
            *_moves([page for page in own if page.index >= len(own)], self._gaps(0, len(own))),
            *_moves([page for page in shared if page.index < boundary], self._gaps(boundary, self.capacity)),
        ]
        sources = [page.index for page, _ in moved]
        for page, target in moved:
            page.index = target
        self._pages = {page.index: page for page in (*own, *shared)}
        self.end = max((page.index + 1 for page in own), default=0)
        self.shared_start = min((page.index for page in shared), default=self.capacity)
        self._forget_released()
        return sources, [target for _, target in moved]

    def resize(self, capacity: int) -> None:
        """Change the number of pages, all of which are free then."""
        self.capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Free all pages."""
        for page in self._pages.values():
            page.references = 0
        self._pages = {}
        self.end, self.shared_start = 0, self.capacity
        self._forget_released()

    def _forget_released(self) -> None:
        """Begin anew with the free pages, as if those between both kinds had never been used."""
        low, high = self.end, self.shared_start
        if low > high:  # they are mixed
            low = high = self.capacity
        self._untouched = low, high  # the pages between them
        gaps = [*self._gaps(0, low), *self._gaps(high, self.capacity)]
        self._released = set(gaps)
        # Heaps; what is no longer in ``_released`` has been taken through the other one.
        self._lowest_released, self._highest_released = gaps, [-index for index in reversed(gaps)]

    def _gaps(self, start: int, end: int) -> list[int]:
        return [index for index in range(start, end) if index not in self._pages]

    def _holds(self, index: int, *, shared: bool) -> bool:
        page = self._pages.get(index)
        return page is not None and page.shared == shared

    def _lowest(self) -> int:
        low, high = self._untouched
        while self._lowest_released and self._lowest_released[0] not in self._released:
            heappop(self._lowest_released)
        if low < high and not (self._lowest_released and self._lowest_released[0] < low):
            self._untouched = low + 1, high
            return low
        index = heappop(self._lowest_released)
        self._released.remove(index)
        return index

    def _highest(self) -> int:
        low, high = self._untouched
        while self._highest_released and -self._highest_released[0] not in self._released:
            heappop(self._highest_released)
        if low < high and not (self._highest_released and -self._highest_released[0] >= high):
            self._untouched = low, high - 1
            return high - 1
        index = -heappop(self._highest_released)
        self._released.remove(index)
        return index


def _moves(pages: list[Page], gaps: list[int]) -> Iterator[tuple[Page, int]]:
    return zip(sorted(pages, key=lambda page: page.index), gaps, strict=False)
