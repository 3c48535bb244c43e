"""What comes before the first token: images are encoded, prefixes computed once, and prompts ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .image_table import Item, Window
from .kv_cache import Columns
from .model_runner import Language, Piece
from .options import Limits
from .prefix_tree import Node, Parts
from .sequence import Row
from .vision import Eyes, Features


@dataclass(eq=False)
class Waiting:
    """An item on its way: its window, its row, its parts, its place in the tree."""

    window: Window
    item: Item
    row: Row
    parts: Parts
    node: Node | None
    factor: float

    @property
    def chain(self) -> list[Node]:
        """Its node and those above it, outermost first."""
        return self.node.chain() if self.node is not None else []

    @property
    def shared(self) -> int:
        """How many of its parts are its node's."""
        return self.node.end if self.node is not None else 0

    def leave(self) -> None:
        """It waits no longer: what was computed for it alone can go."""
        if self.node is not None:
            self.node.leave()

    def come_back(self) -> None:
        """It waits again."""
        if self.node is not None:
            self.node.come_back()


class Prefill:
    """Computes rows up to the logits after their prompts.

    What several of them have in common is computed first, level by level of the tree, and kept in its nodes for as long
    as rows below them are waiting.

    Args:
        pack: whether batches are cut by their tokens; else by their rows.
    """

    def __init__(self, language: Language, eyes: Eyes, features: Features, *, pack: bool) -> None:
        self.language = language
        self.eyes = eyes
        self.features = features
        self.pack = pack

    def __call__(self, batch: Sequence[Waiting], limits: Limits) -> tuple[Columns, torch.Tensor, list[int]]:
        """The keys and values of rows of one window, the logits after their prompts, and the positions that follow."""
        window = batch[0].window
        for level in range(max(len(waiting.chain) for waiting in batch)):
            missing = {
                waiting.chain[level]: waiting
                for waiting in batch
                if level < len(waiting.chain) and waiting.chain[level].held is None
            }
            for nodes in self._cut(missing, window, limits):
                self._hold(nodes, window, limits)
        wanted = [(waiting.node, waiting.parts[waiting.shared :], waiting.factor) for waiting in batch]
        pieces, follow = self._pieces(wanted, window, limits)
        cache, logits = self.language.prefill(pieces, room=max(waiting.row.limit for waiting in batch))
        return cache, logits, follow

    def _cut(self, nodes: dict[Node, Waiting], window: Window, limits: Limits) -> Iterator[list[tuple[Node, Waiting]]]:
        """Nodes (with a row below each), longest first, in batches within the limits."""
        length = {node: window.tokens(row.parts[node.start : node.end]) for node, row in nodes.items()}
        queue = sorted(nodes.items(), key=lambda pair: -length[pair[0]])
        while queue:
            count = limits.tokens // length[queue[0][0]] if self.pack else limits.rows
            yield queue[: max(1, count)]
            queue = queue[max(1, count) :]

    def _hold(self, nodes: list[tuple[Node, Waiting]], window: Window, limits: Limits) -> None:
        wanted = [(node.parent, row.parts[node.start : node.end], row.factor) for node, row in nodes]
        pieces, follow = self._pieces(wanted, window, limits)
        cache, _ = self.language.prefill(pieces)
        for row, ((node, _), piece, after) in enumerate(zip(nodes, pieces, follow, strict=True)):
            node.held = (cache.last(row, len(piece.ids)), after)

    def _pieces(
        self, wanted: Sequence[tuple[Node | None, Parts, float]], window: Window, limits: Limits
    ) -> tuple[list[Piece], list[int]]:
        """Parts that come after a node as the language model takes them, and the position that follows each."""
        placed = []
        for above, parts, _ in wanted:
            given = [part if part >= 0 else window.seen(part) for part in parts]
            placed.append(self.language.places.of(given, above.held[1] if above is not None else 0))
        # Last: a GPU is at work from here on.
        shown = [part for _, parts, _ in wanted for part in parts if part < 0]
        features = window.features(shown, self.eyes, self.features, limits.tokens)
        pieces = []
        for (above, parts, factor), (ids, positions, _) in zip(wanted, placed, strict=True):
            before = [node.held[0] for node in above.chain()] if above is not None else []
            pieces.append(Piece(before, ids, positions, [features[part] for part in parts if part < 0], factor))
        return pieces, [after for _, _, after in placed]
