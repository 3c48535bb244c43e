"""Places a window's sequences in its prefix tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .image_table import ImageTable
from .prefix_tree import MIN_PREFIX_TOKENS, Elements, Leaf, Node, build_prefix_tree, cut_node, cut_rest
from .sequence import Sequence


def place(
    sequences: Iterable[Sequence],
    table: ImageTable,
    rope_factor: Callable[[int], float],
    *,
    share: bool,
    least: int = MIN_PREFIX_TOKENS,
) -> list[Sequence]:
    """Build the window's prefix tree, and return its sequences in the order in which to prefill them.

    A prefix is shared only by sequences whose keys are rotated with the same factor.

    Args:
        rope_factor: maps a prompt's length to that factor.
        share: whether to share prefixes.
        least: the least number of tokens of a shared prefix.
    """
    by_factor: dict[float, list[tuple[Sequence, Elements]]] = {}
    for sequence in sequences:
        elements = table.add(sequence.prompt, sequence.images, sequence.videos, sequence.estimated_tokens)
        by_factor.setdefault(rope_factor(sequence.estimated_tokens), []).append((sequence, elements))
    ordered = []
    for factor, group in sorted(by_factor.items(), key=lambda pair: pair[0], reverse=True):
        for leaf in build_prefix_tree([elements for _, elements in group], table.length, share, least):
            sequence, elements = group[leaf.index]
            sequence.place(table, elements, leaf.node, factor)
            ordered.append(sequence)
    return ordered


def cut_long_prompts(sequences: Iterable[Sequence], most: int) -> None:
    """Cut prompts into nodes of at most ``most`` tokens, so that running sequences can be decoded between them."""
    seen: set[Node] = set()
    for number, sequence in enumerate(sequences):
        length = sequence.image_table.length
        for node in sequence.prefixes:
            if node not in seen:
                cut_node(node, sequence.elements, length, most)
                seen.add(node)
        sequence.node = cut_rest(Leaf(number, sequence.node), sequence.elements, length, most).node
