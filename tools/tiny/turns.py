"""Runs of tokens: images or a clip with their questions, and positions as Qwen2.5-VL counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from clips import Clip, sampled_times
from frames import GRID, SLOTS
from scenes import Scene

IGNORE = -100
"""The label of tokens that are not learned."""
TOKENS_PER_SECOND = 2  # as in the checkpoint's configuration


@dataclass
class Run:
    """A run of tokens: images or a clip with their questions.

    Attributes:
        at: the position of the next token.
        places: of tokens just before answers about a region of the image, with that region.
        attention_targets: of tokens just before a time is written: the visual tokens that show what decides it.
        drawn: its images and clips in order.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    places: list[tuple[int, tuple[float, float, float, float]]] = field(default_factory=list)
    attention_targets: list[tuple[int, list[int]]] = field(default_factory=list)
    drawn: list[Scene | Clip] = field(default_factory=list)
    at: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def _put(self, ids: Sequence[int], positions: np.ndarray, segment: int) -> None:
        self.ids.extend(ids)
        self.labels.extend([IGNORE] * len(ids))
        self.weights.extend([0.0] * len(ids))
        self.segments.extend([segment] * len(ids))
        self.positions.append(positions)

    def text(self, ids: Sequence[int], segment: int = 0) -> None:
        """Tokens that are not learned; after a segment, the next token continues where the segment began."""
        self._put(ids, np.broadcast_to(self.at + np.arange(len(ids)), (3, len(ids))), segment)
        if segment == 0:
            self.at += len(ids)

    def visual(self, content: Scene | Clip, token: int) -> None:
        """The tokens of an image or clip; a clip's next text follows its largest position."""
        side = GRID // 2
        steps, stride = (1, 0)
        if isinstance(content, Clip):
            times = sampled_times(content)
            steps = len(times) // 2
            stride = int(TOKENS_PER_SECOND * 2 * content.seconds / len(times))
        step, cell = np.divmod(np.arange(steps * SLOTS), SLOTS)
        rows, columns = np.divmod(cell, side)
        self._put([token] * steps * SLOTS, self.at + np.stack([step * stride, rows, columns]), 0)
        self.at += max(side, (steps - 1) * stride + 1)
        self.drawn.append(content)

    def turn(self, turn: Turn, segment: int) -> None:
        """A question with its learned answer."""
        self.text(turn.ids, segment)
        self.labels[-len(turn.ids) :] = turn.labels
        self.weights[-len(turn.ids) :] = turn.weights


@dataclass(frozen=True)
class Turn:
    """One question and its answer.

    Attributes:
        before: the last token that does not depend on the image.
        times: the tokens after which a time is written.
    """

    ids: list[int]
    labels: list[int]
    weights: list[float]
    before: int
    times: list[int]
