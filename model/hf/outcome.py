"""What became of one planned row, whichever path answered it."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.types import ImageSize

from .processor import Planned


@dataclass(frozen=True)
class Outcome:
    """The tokens of a row (those after the one that ended it among them), or its options' entropies, or an error.

    Attributes:
        entropies: where continuations are ranked, the mean cross-entropy of each option of the row's branch.
        broken: whether logits were not numbers.
        seconds: its share of the time its batch took.
    """

    planned: Planned
    tokens: tuple[int, ...] = ()
    entropies: tuple[float, ...] = ()
    prompt_tokens: int = 0
    image_sizes: tuple[ImageSize, ...] = ()
    seconds: float = 0.0
    broken: bool = False
    error: BaseException | None = None
