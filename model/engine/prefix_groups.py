"""Which rows of a batch follow the same prefixes, whose keys and values attention reads once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Chain = tuple[Tensor, ...]
"""The keys and values of consecutive prefixes, each (layers, 2, kv_heads, tokens, width)."""


@dataclass(frozen=True, eq=False)
class PrefixGroup:
    """A prefix and the rows that follow it.

    Attributes:
        kv: (layers, 2, kv_heads, tokens, width).
        rows: a slice, or (n,) indices.
        count: n, the number of rows.
    """

    kv: Tensor
    rows: slice | Tensor
    count: int


@dataclass(frozen=True, eq=False)
class PrefixLevel:
    """Prefixes of different rows.

    Attributes:
        covers_all: whether every row of the batch is in a group.
    """

    groups: tuple[PrefixGroup, ...]
    covers_all: bool


def prefix_levels(chains: Sequence[Chain]) -> tuple[PrefixLevel, ...]:
    """The n-th prefixes of all rows, given each row's, for every n."""
    levels = []
    for depth in range(max(map(len, chains), default=0)):
        members: dict[int, list[int]] = {}
        for row, chain in enumerate(chains):
            if depth < len(chain):
                members.setdefault(id(chain[depth]), []).append(row)
        groups = tuple(PrefixGroup(chains[rows[0]][depth], _index(rows), len(rows)) for rows in members.values())
        levels.append(PrefixLevel(groups, sum(map(len, members.values())) == len(chains)))
    return tuple(levels)


def _index(rows: list[int]) -> slice | Tensor:
    """Ascending row numbers as an index, which copies nothing where they are consecutive."""
    if rows[-1] - rows[0] + 1 == len(rows):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows)
