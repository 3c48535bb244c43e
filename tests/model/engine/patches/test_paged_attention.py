"""Attention over pages: as over each row's own keys and values, wherever its pages are."""

from __future__ import annotations

import random

import pytest
import torch

from evalkit.model.engine.kv_tensors import KVShape, KVTensors
from evalkit.model.engine.paged_cache import PagedKVCache
from evalkit.model.engine.paged_tensors import PagedTensors
from evalkit.model.engine.patches.paged_attention import paged_attention
from evalkit.model.engine.prefill import Prefix
from evalkit.model.engine.prefix_tree import Node

SHAPE = KVShape(layers=2, heads=2, width=16)
GROUPS = 3
CPU = torch.device("cpu")


def make_cache(pages: int) -> PagedKVCache:
    def allocate(count: int) -> PagedTensors:
        tensors = PagedTensors(SHAPE, count, device=CPU, dtype=torch.float32)
        tensors.store.fill_(torch.nan)  # as memory that has never been used may be
        return tensors

    cache = PagedKVCache(allocate, SHAPE.bytes(torch.float32), CPU, in_place=lambda: True)
    cache.set_capacity(64, int(pages * cache.page_bytes / 0.75) + cache.page_bytes)
    return cache


def new_tokens(count: int) -> torch.Tensor:
    return torch.randn(SHAPE.layers, 2, SHAPE.heads, count, SHAPE.width)


def prefix(tokens: int) -> Node:
    node = Node(None, 0, 1)
    node.prefix, node.tokens = Prefix(new_tokens(tokens), tokens), tokens
    return node


def append(cache: PagedKVCache, rows: list[tuple[list[Node], torch.Tensor]]) -> None:
    """Add rows with these prefixes and tokens of their own."""
    longest = max(own.shape[3] for _, own in rows)
    before = max(sum(node.tokens for node in nodes) for nodes, _ in rows)
    tensors = KVTensors(SHAPE, len(rows), before + longest, device=CPU, dtype=torch.float32)
    tensors.rows, tensors.filled = len(rows), before + longest
    for row, (_, own) in enumerate(rows):
        tensors.own_slots[row] = own.shape[3]
        tensors.store[:, :, row, :, before + longest - own.shape[3] : before + longest] = own
    cache.append(tensors, [nodes for nodes, _ in rows])


def check_step(cache: PagedKVCache, contents: list[torch.Tensor]) -> list[torch.Tensor]:
    """A decode step, whose attention is compared with that over ``contents``.  Returns the contents after it."""
    cache.grow()
    cache.begin_step()
    assert cache.tensors is not None
    new = new_tokens(len(contents)).transpose(2, 3)  # (layers, 2, rows, heads, width)
    contents = [torch.cat([one, new[:, :, row, :, None]], 3) for row, one in enumerate(contents)]
    for layer in range(SHAPE.layers):
        cache.tensors.layers[layer].update(new[layer, 0][:, :, None], new[layer, 1][:, :, None])
        query = torch.randn(len(contents), SHAPE.heads * GROUPS, 1, SHAPE.width)
        found = paged_attention(query, cache.tensors, layer, None)
        for row, one in enumerate(contents):
            keys, values = (part.repeat_interleave(GROUPS, 0)[None] for part in one[layer])
            expected = torch.nn.functional.scaled_dot_product_attention(query[row : row + 1], keys, values)
            assert torch.allclose(found[row, 0], expected[0, :, 0], atol=1e-5), row
    return contents


@pytest.mark.parametrize("seed", range(6))
def test_as_over_own_keys_and_values(seed: int) -> None:
    """Rows that share prefixes or do not come, grow over several pages and go."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    cache = make_cache(pages=200)
    contents: list[torch.Tensor] = []
    prefixes = [prefix(rng.randint(1, 200)) for _ in range(4)]
    for _ in range(6):
        rows = []
        for _ in range(rng.randint(1, 5)):
            nodes = rng.choice([[], [prefixes[0]], [rng.choice(prefixes)], [prefixes[0], prefixes[1]]])
            rows.append((nodes, new_tokens(rng.randint(1, 130))))
        append(cache, rows)
        contents += [torch.cat([*(node.prefix.kv for node in nodes), own], 3) for nodes, own in rows]
        for _ in range(rng.randint(1, 70)):
            contents = check_step(cache, contents)
        kept = sorted(rng.sample(range(len(contents)), rng.randint(1, len(contents))))
        cache.evict(kept, zero=False)
        contents = [contents[row] for row in kept]
        contents = check_step(cache, contents)


def test_pages_of_many_rows_are_read_once() -> None:
    """A prefix of 40 rows, and one of two: a group of pages each, none of which is copied."""
    torch.manual_seed(0)
    cache = make_cache(pages=300)
    common, image = prefix(150), prefix(400)
    rows = [([common, image] if row < 2 else [common], new_tokens(5)) for row in range(40)]
    append(cache, rows)
    contents = [torch.cat([*(node.prefix.kv for node in nodes), own], 3) for nodes, own in rows]
    check_step(cache, contents)
    assert cache.tensors is not None
    layout = cache.tensors.layout
    assert layout is not None
    assert [(group.width, isinstance(group.pages, slice)) for group in layout.groups] == [
        (2, True),
        (40, True),
        (1, True),
    ]


def test_pages_in_several_pieces() -> None:
    """Shared pages that others have been freed between are gathered, and moved together later."""
    torch.manual_seed(0)
    cache = make_cache(pages=300)
    nodes = [prefix(64 * 20) for _ in range(5)]
    rows = [([node], new_tokens(3)) for node in nodes for _ in range(2)]
    append(cache, rows)
    contents = [torch.cat([*(node.prefix.kv for node in shared), own], 3) for shared, own in rows]
    contents = check_step(cache, contents)
    cache.evict([0, 1, 8, 9], zero=False)
    contents = [contents[row] for row in (0, 1, 8, 9)]
    for _ in range(70):
        contents = check_step(cache, contents)
    assert cache.pool.gaps == 0


def test_when_memory_is_nearly_exhausted() -> None:
    """Pages of single rows among shared ones."""
    torch.manual_seed(0)
    cache = make_cache(pages=12)
    capacity = cache.pool.capacity
    first, second = prefix(64 * 4), prefix(64 * 4)
    rows = [([first], new_tokens(1)), ([second], new_tokens(1))]
    append(cache, rows)
    contents = [torch.cat([*(node.prefix.kv for node in shared), own], 3) for shared, own in rows]
    cache.evict([1], zero=False)
    contents = contents[1:]
    contents = check_step(cache, contents)
    own = new_tokens(64 * (capacity - cache.pool.used - 1) - 1)
    append(cache, [([], own)])
    contents = check_step(cache, [*contents, own])
    assert cache.pool.free <= 1
    check_step(cache, contents)
