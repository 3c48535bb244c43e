"""The allocator of pages: no page is lost, none belongs to two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.model.engine.pages import PAGE_TOKENS, OutOfPages, Page, PageAllocator, pages_for

CAPACITY = 12
steps = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), st.integers(0, 6)),
        st.tuples(st.just("allocate shared"), st.integers(0, 6)),
        st.tuples(st.just("share"), st.integers(0, 99)),
        st.tuples(st.just("release"), st.integers(0, 99)),
        st.tuples(st.just("compact"), st.just(0)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_pages_are_neither_lost_nor_given_twice(steps: list[tuple[str, int]]) -> None:
    """Rows take, share and give back pages; what each page holds follows it when it is moved."""
    pool = PageAllocator(CAPACITY)
    rows: list[list[Page]] = []
    content: dict[int, Page] = {}  # by index, as the tensor would have it
    for step, number in steps:
        if step.startswith("allocate"):
            free, shared = pool.free, step.endswith("shared")
            if number > free:
                with pytest.raises(OutOfPages):
                    pool.allocate(number, shared=shared)
                assert pool.free == free
            elif number:
                row = pool.allocate(number, shared=shared)
                assert all(page.shared == shared for page in row)
                rows.append(row)
                content |= {page.index: page for page in row}
        elif step == "share" and rows:
            row = rows[number % len(rows)]
            pool.retain(row)
            rows.append(list(row))
        elif step == "release" and rows:
            pool.release(rows.pop(number % len(rows)))
        elif step == "compact":
            mixed = pool.end > pool.shared_start
            sources, targets = pool.compact()
            assert set(sources).isdisjoint(targets)
            assert mixed or pool.gaps == 0
            content |= {target: content[source] for source, target in zip(sources, targets, strict=True)}
        elif step == "clear":
            pool.clear()
            assert all(page.references == 0 for row in rows for page in row)
            rows = []
        held = {page for row in rows for page in row}
        assert pool.used == len(held) == CAPACITY - pool.free
        assert sorted(page.index for page in held) == sorted({page.index for page in held})
        assert all(content[page.index] is page for page in held)
        assert all(page.references == sum(page in row for row in rows) for page in held)
        assert pool.end == max((page.index + 1 for page in held if not page.shared), default=0) <= CAPACITY
        assert pool.shared_start == min((page.index for page in held if page.shared), default=CAPACITY) >= 0
    for row in rows:
        pool.release(row)
    assert (pool.used, pool.free, pool.end, pool.shared_start) == (0, CAPACITY, 0, CAPACITY)


def test_lowest_free_page_is_used_first() -> None:
    pool = PageAllocator(8)
    row = pool.allocate(4)
    assert [page.index for page in row] == [0, 1, 2, 3]
    pool.release([row[2], row[0]])
    assert [page.index for page in pool.allocate(3)] == [0, 2, 4]


def test_shared_pages_begin_at_the_end() -> None:
    pool = PageAllocator(8)
    row = pool.allocate(3, shared=True)
    assert [page.index for page in row] == [7, 6, 5]
    pool.release(row[:2])
    assert [page.index for page in pool.allocate(3, shared=True)] == [7, 6, 4]
    assert [page.index for page in pool.allocate(2)] == [0, 1]
    assert (pool.end, pool.shared_start, pool.gaps) == (2, 4, 0)


def test_the_last_free_pages_are_found_on_either_side() -> None:
    pool = PageAllocator(6)
    shared = pool.allocate(4, shared=True)
    pool.release(shared[:2])
    assert [page.index for page in pool.allocate(4)] == [0, 1, 4, 5]
    assert pool.free == 0
    pool.compact()
    assert sorted(page.index for page in shared[2:]) == [2, 3]


@given(st.integers(1, 1000))
def test_pages_for_tokens(tokens: int) -> None:
    count = pages_for(tokens)
    assert (count - 1) * PAGE_TOKENS < tokens <= count * PAGE_TOKENS
