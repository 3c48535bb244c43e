"""Attention to shared prefixes: as over each row's prefixes and own tokens in one piece."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from evalkit.model.engine.kv_tensors import KVShape, KVTensors
from evalkit.model.engine.patches.prefix_attention import prefix_attention
from evalkit.model.engine.prefix_groups import Chain, prefix_levels

LAYERS, KV_HEADS, GROUPS, WIDTH = 2, 2, 3, 16
LAYER = 1


def prefix(tokens: int) -> Tensor:
    return torch.randn(LAYERS, 2, KV_HEADS, tokens, WIDTH)


def expected(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, chain: Chain) -> Tensor:
    """One row's attention, (q_len, heads, width), over everything at once; the arguments have no row dimension."""
    before = [torch.cat([part[LAYER, at] for part in chain], 1) if chain else key[:, :0] for at in (0, 1)]
    q_len, own = query.shape[1], key.shape[1]
    seen = torch.ones(q_len, own, dtype=torch.bool).tril() if mask is None else mask[0]
    seen = torch.cat([torch.ones(q_len, before[0].shape[1], dtype=torch.bool), seen], 1)
    keys, values = (
        torch.cat([shared, part], 1).repeat_interleave(GROUPS, 0)
        for shared, part in zip(before, (key, value), strict=True)
    )
    return scaled_dot_product_attention(query, keys, values, seen).transpose(0, 1)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "causal"])
@pytest.mark.parametrize("q_len", [1, 5, 70])
@pytest.mark.parametrize("seed", range(3))
def test_as_over_all_tokens(q_len: int, masked: bool, seed: int) -> None:
    """Of rows that follow one prefix, two or none, in any order."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    first, second, third = prefix(1), prefix(90), prefix(40)
    kinds: list[Chain] = [(first,), (first, second), (third,), (third, second), ()]
    chains = [rng.choice(kinds) for _ in range(9)] + kinds
    rng.shuffle(chains)
    rows, own = len(chains), q_len + 7 if masked else q_len
    query = torch.randn(rows, KV_HEADS * GROUPS, q_len, WIDTH)
    key, value = torch.randn(2, rows, KV_HEADS, own, WIDTH).unbind()
    mask = None
    if masked:
        mask = torch.rand(rows, 1, q_len, own) < 0.5
        mask[..., -1] = True
    found = prefix_attention(query, key, value, mask, None, levels=prefix_levels(chains), layer=LAYER)
    assert found.shape == (rows, q_len, KV_HEADS * GROUPS, WIDTH)
    for row, chain in enumerate(chains):
        one = expected(query[row], key[row], value[row], None if mask is None else mask[row], chain)
        assert torch.allclose(found[row], one, atol=1e-5), row
    if mask is not None:
        additive = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)
        again = prefix_attention(query, key, value, additive, None, levels=prefix_levels(chains), layer=LAYER)
        assert torch.equal(again, found)


def test_scaling() -> None:
    chains: list[Chain] = [(prefix(9),)] * 2
    query = torch.randn(2, KV_HEADS * GROUPS, 1, WIDTH)
    key, value = torch.randn(2, 2, KV_HEADS, 1, WIDTH).unbind()
    found = prefix_attention(query, key, value, None, 0.7, levels=prefix_levels(chains), layer=LAYER)
    usual = prefix_attention(
        query * 0.7 * WIDTH**0.5, key, value, None, None, levels=prefix_levels(chains), layer=LAYER
    )
    assert torch.allclose(found, usual, atol=1e-5)


def test_levels_name_the_rows_of_each_prefix() -> None:
    a, b, c = prefix(3), prefix(4), prefix(5)
    levels = prefix_levels([(a, b), (c,), (a,), (a, b)])
    assert [[group.kv is one for group, one in zip(level.groups, ones, strict=True)] for level, ones in
            zip(levels, ([a, c], [b]), strict=True)] == [[True, True], [True]]  # fmt: skip
    assert [level.covers_all for level in levels] == [True, False]
    assert [torch.arange(4)[group.rows].tolist() for level in levels for group in level.groups] == [
        [0, 2, 3], [1], [0, 3],
    ]  # fmt: skip
    assert prefix_levels([]) == prefix_levels([(), ()]) == ()


def test_rows_keep_their_prefixes_where_they_move() -> None:
    a, b, c = prefix(3), prefix(4), prefix(5)
    tensors = KVTensors(KVShape(LAYERS, KV_HEADS, WIDTH), 4, 2, device=torch.device("cpu"), dtype=torch.float32)
    tensors.rows = 4
    tensors.set_prefixes(0, [(a,), (b,), (a, c), ()])
    assert [group.kv is one for group, one in zip(tensors.prefix_levels()[0].groups, (a, b), strict=True)] == [True] * 2
    assert tensors.compact([0, 2]) == [0, 2]
    assert [len(level.groups) for level in tensors.prefix_levels()] == [1, 1]
    assert tensors.prefixes == [(a,), (a, c), (), ()], "others are not kept in memory"
