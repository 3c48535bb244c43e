"""Which beginnings requests have in common: a prefix tree over their tokens.  No torch.

A sequence is a tuple of integers: a text's tokens, and for each image one number of its own (negative), so that an
image is never cut in two and two images are never taken for one.  Requests that begin alike are computed alike: the
tokens of an inner node once, whatever hangs below it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Parts = tuple[int, ...]

# A node costs a forward pass of its own and a copy of its keys and values to each of its rows.  Short common beginnings
# (a system text, two words of a question) are not worth it.
LONG_ENOUGH = 32
DEEP_ENOUGH = 200  # beginnings of beginnings; nothing real comes near it


@dataclass(eq=False)
class Node:
    """Tokens ``start`` to ``end`` of every sequence below it; what is before ``start`` are its parents'.

    Attributes:
        waiting: how many rows below it are still to be prefilled; at zero its keys and values can go.
        held: its keys and values, once computed (the engine's).
    """

    parent: Node | None
    start: int
    end: int
    row: int
    waiting: int = 0
    held: Any = field(default=None, repr=False)

    def chain(self) -> list[Node]:
        """Its ancestors and itself, outermost first."""
        above = self.parent.chain() if self.parent is not None else []
        return [*above, self]

    def leave(self) -> None:
        """One row less is waiting below it and those above; the last one lets what they hold go."""
        for node in self.chain():
            node.waiting -= 1
            if node.waiting == 0:
                node.held = None

    def come_back(self) -> None:
        """One row more is waiting below it and those above."""
        for node in self.chain():
            node.waiting += 1


@dataclass(frozen=True)
class Leaf:
    """A row (its place among the sequences) and the deepest node above it."""

    row: int
    node: Node | None

    @property
    def start(self) -> int:
        """Where the row's own tokens begin."""
        return 0 if self.node is None else self.node.end


def grow(sequences: Sequence[Parts], length: Callable[[int], int], share: bool = True) -> list[Leaf]:
    """The leaves, those of one node together; the longest group first.

    Args:
        sequences: of each row; none is empty.
        length: how many tokens an element stands for (an image for many).
        share: False for no nodes at all.
    """
    sizes = [sum(map(length, sequence)) for sequence in sequences]
    if not share:
        return [Leaf(row, None) for row in sorted(range(len(sequences)), key=lambda row: -sizes[row])]
    # Compared as bytes, which is fast; the order itself means nothing, only that what begins alike lies together.
    order = sorted(range(len(sequences)), key=lambda row: array("q", sequences[row]).tobytes())
    groups = _split(order, sequences, length, sizes, None, 0)
    return [leaf for group in groups for leaf in group]


def _split(
    rows: list[int],
    sequences: Sequence[Parts],
    length: Callable[[int], int],
    sizes: Sequence[int],
    parent: Node | None,
    start: int,
    depth: int = 0,
) -> list[list[Leaf]]:
    """The groups of leaves below ``parent`` (whose tokens end at ``start``), longest first."""
    if len(rows) == 1 or depth == DEEP_ENOUGH:
        return [[_hang(row, parent) for row in rows]]
    # At least one token is left to every row: the logits after it begin its answer.
    common = min(_common(sequences[rows[0]], sequences[rows[-1]]), min(len(sequences[row]) for row in rows) - 1)
    node = parent
    if sum(map(length, sequences[rows[0]][start:common])) >= LONG_ENOUGH:
        node, start = Node(parent, start, common, rows[0]), common
    alone = [_hang(row, node) for row in rows if len(sequences[row]) == common + 1]
    groups: list[list[Leaf]] = []
    for part in _parts([row for row in rows if len(sequences[row]) > common + 1], sequences, common):
        if len(part) == 1:
            alone.append(_hang(part[0], node))
        else:
            groups += _split(part, sequences, length, sizes, node, start, depth + 1)
    # What hangs on one node is one group; without a node, each row may go its own way.
    alone.sort(key=lambda leaf: -sizes[leaf.row])
    groups += [alone] if node is not None and alone else [[leaf] for leaf in alone]
    groups.sort(key=lambda group: -max(sizes[leaf.row] for leaf in group))
    return groups if node is parent else [[leaf for group in groups for leaf in group]]


def _hang(row: int, node: Node | None) -> Leaf:
    above = node
    while above is not None:
        above.waiting += 1
        above = above.parent
    return Leaf(row, node)


def _parts(rows: list[int], sequences: Sequence[Parts], at: int) -> list[list[int]]:
    """Rows in a sorted order, cut where the element ``at`` changes."""
    parts = [rows[:1]] if rows else []
    for before, row in pairwise(rows):
        if sequences[before][at : at + 1] == sequences[row][at : at + 1]:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _common(a: Parts, b: Parts) -> int:
    """How many elements two sequences begin with alike."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))
