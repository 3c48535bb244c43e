"""Pages of a paged KV cache: which are in use, and by how many rows.  No torch."""

from __future__ import annotations

from collections.abc import Iterable
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
        references: number of rows that contain it; at zero it is free, and the object is not used again.
    """

    index: int
    references: int = 1


def pages_for(tokens: int) -> int:
    """The number of pages for so many consecutive tokens."""
    return -(-tokens // PAGE_TOKENS)


class PageAllocator:
    """Counts the references to pages.  The free page with the lowest index is used first.

    Attributes:
        capacity: number of pages.
        end: one more than the highest index in use.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.end = 0
        self._pages: dict[int, Page] = {}
        self._released: list[int] = []  # a heap of the free pages that have been used before
        self._untouched = 0  # the first of those that have not

    @property
    def used(self) -> int:
        """Number of pages in use."""
        return len(self._pages)

    @property
    def free(self) -> int:
        """Number of free pages."""
        return self.capacity - len(self._pages)

    def allocate(self, count: int) -> list[Page]:
        """Take free pages, each with one reference.

        Raises:
            OutOfPages: there are not so many; none is taken.
        """
        if count > self.free:
            raise OutOfPages(f"{count} pages of the KV cache are needed, and {self.free} of {self.capacity} are free")
        found = []
        for _ in range(count):
            if self._released:
                index = heappop(self._released)
            else:
                index, self._untouched = self._untouched, self._untouched + 1
            page = self._pages[index] = Page(index)
            self.end = max(self.end, index + 1)
            found.append(page)
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
                heappush(self._released, page.index)
        while self.end and self.end - 1 not in self._pages:
            self.end -= 1

    def compact(self) -> tuple[list[int], list[int]]:
        """Give the pages in use the lowest indices.  Returns the old and new indices of those that must be copied."""
        used = self.used
        sources = sorted(index for index in self._pages if index >= used)
        targets = [index for index in range(used) if index not in self._pages]
        for source, target in zip(sources, targets, strict=True):
            page = self._pages.pop(source)
            page.index = target
            self._pages[target] = page
        self._released, self._untouched, self.end = [], used, used
        return sources, targets

    def clear(self) -> None:
        """Free all pages."""
        for page in self._pages.values():
            page.references = 0
        self._pages, self._released, self._untouched, self.end = {}, [], 0, 0
