"""The positions of a prompt's tokens, by which their keys are rotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .vision import ProcessedImage


@dataclass(frozen=True)
class RopePositions:
    """Numbers the positions of tokens: one number each, or three (time, row, column) with images as grids.

    A video's frame groups are grids at their times, all of whose positions begin where the video begins; what follows
    them begins after the largest position so far (``model/hf/positions.py``).
    """

    grids: bool

    def number(self, elements: Sequence[int | ProcessedImage], start: int) -> tuple[list[int], torch.Tensor, int]:
        """Return the token ids of text tokens and images, their positions (1 or 3, tokens), and the next position."""
        ids: list[int] = []
        blocks: list[torch.Tensor] = []
        position = start
        text = 0  # text tokens since the last image
        for element in elements:
            if isinstance(element, int):
                ids.append(element)
                text += 1
            elif element.grid is None or not self.grids:
                ids += element.ids
                text += len(element.ids)
            else:
                blocks.append(self._line(position, text))
                position, text = position + text, 0
                ids += element.ids
                rows, columns = element.grid
                origin = position - element.offset
                block = torch.full((3, rows, columns), origin)
                block[0] += element.time
                block[1] += torch.arange(rows)[:, None]
                block[2] += torch.arange(columns)
                blocks.append(block.flatten(1))
                position = origin + max(element.time + 1, element.offset, rows, columns)
        blocks.append(self._line(position, text))
        return ids, torch.cat(blocks, dim=1), position + text

    def _line(self, start: int, tokens: int) -> torch.Tensor:
        return torch.arange(start, start + tokens).expand(3 if self.grids else 1, -1)
