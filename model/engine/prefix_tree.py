"""A prefix tree over the tokens of a window's sequences: which prefixes are shared.  No torch.

An element of a sequence is a text token, or one negative number for an image, so that no image is split and
different images never compare equal.  The tokens of an inner node are computed once for all sequences below it.

A window is the batch of requests that are planned together (``model/hf/planning_thread.py``: 512 first, then 4,096);
prefixes are shared within a window only.  A node's keys and values are freed when the last sequence below it has been
prefilled, with a copy in its own cache row; that row is evicted when the sequence has finished.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Elements = tuple[int, ...]

# A node costs a forward pass, and attention of its own or a copy of its keys and values into each of its sequences, so
# shorter shared prefixes (a system prompt, two words of a question) are not worth one.
MIN_PREFIX_TOKENS = 32
MAX_DEPTH = 200  # of nested prefixes; real prompts come nowhere near it


@dataclass(eq=False)
class Node:
    """Elements ``start`` to ``end`` of every sequence below it; its ancestors hold those before ``start``.

    Attributes:
        waiting: number of sequences below it that have not been prefilled yet; at zero its prefix is freed.  A
            preempted sequence is counted again, and a freed prefix is then computed again.
        prefix: its keys and values, once the engine has computed them.
        tokens: their number, once its images are known.
        part: whether it is only a part of what follows, which is long and is prefilled in parts: of the next node below
            it, or of the only sequence below it.
        pages: where a paged cache holds them for running sequences (``PagedKVCache``).
    """

    parent: Node | None
    start: int
    end: int
    waiting: int = 0
    prefix: Any = field(default=None, repr=False)
    tokens: int = 0
    part: bool = False
    pages: list[Any] = field(default_factory=list, repr=False)

    def chain(self) -> list[Node]:
        """Its ancestors and itself, outermost first."""
        above = self.parent.chain() if self.parent is not None else []
        return [*above, self]

    def retain(self) -> None:
        """Count one more waiting sequence below this node and its ancestors."""
        for node in self.chain():
            node.waiting += 1

    def release(self) -> None:
        """Count one waiting sequence less below this node and its ancestors; the last one frees their prefixes."""
        for node in self.chain():
            node.waiting -= 1
            if node.waiting == 0:
                node.prefix = None


@dataclass(frozen=True)
class Leaf:
    """A sequence, by its index, and the deepest node above it."""

    index: int
    node: Node | None

    @property
    def start(self) -> int:
        """The index of its first unshared element."""
        return 0 if self.node is None else self.node.end


def build_prefix_tree(
    sequences: Sequence[Elements],
    length: Callable[[int], int],
    share: bool = True,
    least: int = MIN_PREFIX_TOKENS,
) -> list[Leaf]:
    """Return the leaves of the tree; those of one node are neighbours, and the longest group comes first.

    Args:
        sequences: the elements of each sequence; none is empty.
        length: number of tokens of an element (more than one for an image).
        share: False for a tree without nodes.
        least: the least number of tokens of a node.
    """
    sizes = [sum(map(length, sequence)) for sequence in sequences]
    if not share:
        return [Leaf(index, None) for index in sorted(range(len(sequences)), key=lambda index: -sizes[index])]
    # Comparing bytes is fast. Any order will do that makes sequences with the same prefix neighbours.
    order = sorted(range(len(sequences)), key=lambda index: array("q", sequences[index]).tobytes())
    groups = _split(order, sequences, length, sizes, least, None, 0)
    return [leaf for group in groups for leaf in group]


def cut_node(node: Node, elements: Elements, length: Callable[[int], int], most: int) -> None:
    """Insert ancestors of a node, so that none has more than ``most`` tokens; elements are not cut."""
    for end in _cuts(elements[: node.end], node.start, length, most):
        node.parent = Node(node.parent, node.start, end, node.waiting, part=True)
        node.start = end


def cut_rest(leaf: Leaf, elements: Elements, length: Callable[[int], int], most: int) -> Leaf:
    """As ``cut_node`` for the elements that a sequence does not share; all parts but the last become nodes."""
    node = leaf.node
    for end in _cuts(elements, leaf.start, length, most):
        node = Node(node, 0 if node is None else node.end, end, waiting=1, part=True)
    return Leaf(leaf.index, node)


def _cuts(elements: Elements, start: int, length: Callable[[int], int], most: int) -> list[int]:
    """The indices at which elements from ``start`` on are cut into parts of at most ``most`` tokens."""
    found, tokens = [], 0
    for at in range(start, len(elements)):
        size = length(elements[at])
        if tokens and tokens + size > most:
            found.append(at)
            tokens = 0
        tokens += size
    return found


def _split(
    indices: list[int],
    sequences: Sequence[Elements],
    length: Callable[[int], int],
    sizes: Sequence[int],
    least: int,
    parent: Node | None,
    start: int,
    depth: int = 0,
) -> list[list[Leaf]]:
    """Return the groups of leaves below ``parent`` (whose elements end at ``start``), longest first."""
    if len(indices) == 1 or depth == MAX_DEPTH:
        return [[_add_leaf(index, parent) for index in indices]]
    # Every sequence keeps at least one token of its own: the logits after it predict the answer's first token.
    shortest = min(len(sequences[index]) for index in indices)
    shared = min(_common_prefix(sequences[indices[0]], sequences[indices[-1]]), shortest - 1)
    node = parent
    if sum(map(length, sequences[indices[0]][start:shared])) >= least:
        node, start = Node(parent, start, shared), shared
    alone = [_add_leaf(index, node) for index in indices if len(sequences[index]) == shared + 1]
    groups: list[list[Leaf]] = []
    for run in _runs([index for index in indices if len(sequences[index]) > shared + 1], sequences, shared):
        if len(run) == 1:
            alone.append(_add_leaf(run[0], node))
        else:
            groups += _split(run, sequences, length, sizes, least, node, start, depth + 1)
    # The leaves of one node are one group; leaves without a node are sorted independently.
    alone.sort(key=lambda leaf: -sizes[leaf.index])
    groups += [alone] if node is not None and alone else [[leaf] for leaf in alone]
    groups.sort(key=lambda group: -max(sizes[leaf.index] for leaf in group))
    return groups if node is parent else [[leaf for group in groups for leaf in group]]


def _add_leaf(index: int, node: Node | None) -> Leaf:
    if node is not None:
        node.retain()
    return Leaf(index, node)


def _runs(indices: list[int], sequences: Sequence[Elements], position: int) -> list[list[int]]:
    """Split sorted sequences where the element at ``position`` changes."""
    runs = [indices[:1]] if indices else []
    for previous, index in pairwise(indices):
        if sequences[previous][position] == sequences[index][position]:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _common_prefix(a: Elements, b: Elements) -> int:
    """The number of leading elements that are equal."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))
