"""Prefill: images are encoded, shared prefixes computed level by level of the tree, then the sequences' own tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .image_table import ImageTable
from .kv_tensors import KVTensors
from .language_model import LanguageModel, PrefillSegment
from .options import Limits
from .prefix_tree import Elements, Node
from .sequence import Sequence

MASK_BYTES = 3  # of the mask per token and token that it attends to: a boolean, and a number in half precision
MASK_SHARE = 8  # the part of the memory that masks and copies of prefixes may take while prefixes are computed


@dataclass(frozen=True)
class Prefix:
    """A computed prefix, kept in its node of the tree while sequences below it are waiting.

    Attributes:
        kv: (layers, 2, heads, tokens, width), of the node's own tokens.
        next_position: the position of the token that follows.
    """

    kv: torch.Tensor
    next_position: int


@dataclass(frozen=True)
class _Wanted:
    """Elements that follow a node; the last ones may have been generated."""

    node: Node | None
    elements: Elements
    rope_factor: float
    generated: int = 0


class Prefill:
    """Computes sequences up to the logits after their prompts.

    Args:
        token_budget: whether batches of prefixes are limited by their tokens; otherwise by their number.
    """

    def __init__(self, language: LanguageModel, *, token_budget: bool) -> None:
        self.language = language
        self.token_budget = token_budget

    def __call__(
        self, sequences: list[Sequence], limits: Limits, spare_slots: int = 0
    ) -> tuple[KVTensors, torch.Tensor, list[int]]:
        """Prefill sequences of one window.

        Args:
            spare_slots: number of slots for new tokens.

        Returns:
            their keys and values, the logits (sequences, vocabulary), and the positions of their first new tokens.
        """
        table = sequences[0].image_table
        for level in range(max(len(sequence.prefixes) for sequence in sequences)):
            missing = {
                sequence.prefixes[level]: sequence
                for sequence in sequences
                if level < len(sequence.prefixes) and sequence.prefixes[level].prefix is None
            }
            for batch in self._prefix_batches(missing, table, limits):
                self._compute_prefixes(batch, table, limits)
        wanted = [
            _Wanted(s.node, (*s.unshared_elements, *s.tokens), s.rope_factor, generated=len(s.tokens))
            for s in sequences
        ]  # fmt: skip
        segments, positions = self._segments(wanted, table, limits)
        tensors, logits = self.language.prefill(segments, spare_slots)
        return tensors, logits, positions

    def compute_prefixes(self, sequences: list[Sequence], limits: Limits) -> None:
        """Compute one batch of the prefixes that the sequences of one window are missing."""
        table = sequences[0].image_table
        missing = {
            next(node for node in sequence.prefixes if node.prefix is None): sequence
            for sequence in sequences
            if sequence.missing_prefixes
        }
        batch = next(self._prefix_batches(missing, table, limits))
        self._compute_prefixes(batch, table, limits)

    def _prefix_batches(
        self, nodes: dict[Node, Sequence], table: ImageTable, limits: Limits
    ) -> Iterator[list[tuple[Node, Sequence]]]:
        """Split nodes (each with a sequence below it) into batches within the limits, longest first.

        Each row may have a copy of the prefixes before its node, and a mask over them.
        """
        length = {node: table.tokens(one.elements[node.start : node.end]) for node, one in nodes.items()}
        queue = sorted(nodes.items(), key=lambda pair: -length[pair[0]])
        while queue:
            node, _ = queue[0]
            count = limits.rows
            if self.token_budget:
                before = sum(above.tokens for above in node.chain()[:-1])
                masks = MASK_BYTES * length[node] if before else 0
                row = (before + length[node]) * (self.language.shape.bytes(self.language.dtype) + masks)
                count = min(limits.tokens // length[node], limits.bytes // MASK_SHARE // row)
            count = max(1, count)
            yield queue[:count]
            queue = queue[count:]

    def _compute_prefixes(self, nodes: list[tuple[Node, Sequence]], table: ImageTable, limits: Limits) -> None:
        wanted = [_Wanted(node.parent, one.elements[node.start : node.end], one.rope_factor) for node, one in nodes]
        segments, positions = self._segments(wanted, table, limits)
        tensors, _ = self.language.prefill(segments)
        for row, ((node, _), segment, position) in enumerate(zip(nodes, segments, positions, strict=True)):
            node.prefix = Prefix(tensors.slice_row(row, len(segment.ids)), position)
            node.tokens = len(segment.ids)

    def _segments(
        self, wanted: list[_Wanted], table: ImageTable, limits: Limits
    ) -> tuple[list[PrefillSegment], list[int]]:
        """Return the segments, and the position after each."""
        numbered = []
        for one in wanted:
            loaded = [element if element >= 0 else table.processed(element) for element in one.elements]
            start = one.node.prefix.next_position if one.node is not None else 0
            numbered.append(self.language.positions.number(loaded, start))
        # Images last: from here on a GPU is busy, and the work above would otherwise keep it waiting.
        images = [element for one in wanted for element in one.elements if element < 0]
        features = table.features(images, limits.tokens)
        segments = []
        for one, (ids, positions, _) in zip(wanted, numbered, strict=True):
            prefix = [above.prefix.kv for above in one.node.chain()] if one.node is not None else []
            own = [features[element] for element in one.elements if element < 0]
            segments.append(PrefillSegment(prefix, ids, positions, own, one.generated, one.rope_factor))
        return segments, [position for _, _, position in numbered]
