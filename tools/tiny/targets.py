"""Auxiliary losses that supervise the visual tokens during training.

With answers alone, a small model learns to use the image only after a long plateau.  During training, linear heads on
the visual tokens predict the content of each cell: the shape that covers it and its box, the digits and the label
centred in it.  One more head, on the text's last layer just before an answer, predicts where in the image it is.
The heads are discarded; the checkpoint is a plain Qwen2.5-VL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scenes import COLORS, LABELS, SHAPES, Scene, glyph_centres, lines
from torch import nn
from turns import IGNORE

SIDE = 4
CELLS = SIDE * SIDE
PAIRS = 8
"""More than a clip has pairs of frames."""
THINGS = len(COLORS) * len(SHAPES)
NO_DIGIT = 10
NO_LABEL = len(LABELS)
FIELDS = ("thing", "first", "second", "label", "box")
LATER = ("thing", "box")
"""The fields that are learned of the second frame, too, of a pair of frames that are encoded together."""


def cell_targets(scene: Scene, width: int, height: int) -> dict[str, np.ndarray]:
    """Per cell, row by row: class of the covering shape, first and second digit, label, and the shape's box (0..1)."""
    thing = np.full(CELLS, THINGS, np.int64)
    box = np.zeros((CELLS, 4), np.float32)
    most = np.zeros(CELLS)
    for item in scene.things:
        x1, y1, x2, y2 = (v * SIDE for v in item.box)
        number = list(COLORS).index(item.color) * len(SHAPES) + SHAPES.index(item.shape)
        for cell in range(CELLS):
            row, column = divmod(cell, SIDE)
            wide = min(x2, column + 1) - max(x1, column)
            high = min(y2, row + 1) - max(y1, row)
            area = max(0.0, wide) * max(0.0, high)
            if area > max(0.12, most[cell]):
                most[cell], thing[cell], box[cell] = area, number, item.box
    digits: list[list[tuple[float, int]]] = [[] for _ in range(CELLS)]
    label = np.full(CELLS, NO_LABEL, np.int64)
    for line in lines(scene, width, height):
        glyphs = glyph_centres(line)
        if line.text in LABELS:
            for _, x, y in glyphs:
                label[_cell(x / width, y / height)] = LABELS.index(line.text)
            continue
        for character, x, y in glyphs:
            digits[_cell(x / width, y / height)].append((x, int(character)))
    ordered = [[d for _, d in sorted(found)] for found in digits]
    first = np.array([found[0] if found else NO_DIGIT for found in ordered], np.int64)
    second = np.array([found[1] if len(found) > 1 else NO_DIGIT for found in ordered], np.int64)
    return {"thing": thing, "first": first, "second": second, "label": label, "box": box}


def _cell(u: float, v: float) -> int:
    return min(SIDE - 1, int(v * SIDE)) * SIDE + min(SIDE - 1, int(u * SIDE))


def _box_loss(boxes: torch.Tensor, things: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    there = (things != THINGS).float()[..., None]
    distance = (boxes - targets).abs() * there
    return 5.0 * distance.sum() / (4 * there.sum()).clamp(min=1.0)


class Heads(nn.Module):
    """Linear heads for the auxiliary losses."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sizes = (THINGS + 1, NO_DIGIT + 1, NO_DIGIT + 1, NO_LABEL + 1, 4)
        self.linear = nn.Linear(hidden, sum(self.sizes))
        self.place = nn.Linear(hidden, CELLS + 4)
        self.later = nn.Linear(hidden, THINGS + 1 + 4)
        self.number = nn.Linear(hidden, PAIRS)

    def forward(self, visual: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of visual tokens (N, 16, hidden) against ``cell_targets`` stacked to (N, 16), of both frames."""
        outputs = self.linear(visual).float().split(self.sizes, -1)
        loss: Any = 0.0
        for name, output in zip(FIELDS[:4], outputs[:4], strict=True):
            loss = loss + F.cross_entropy(output.flatten(0, 1), targets[name].flatten())
        loss = loss + _box_loss(outputs[4], targets["thing"], targets["box"])
        thing, box = self.later(visual).float().split((THINGS + 1, 4), -1)
        loss = loss + F.cross_entropy(thing.flatten(0, 1), targets["later_thing"].flatten())
        return loss + _box_loss(box, targets["later_thing"], targets["later_box"])

    def places(self, states: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """The loss of text states (M, hidden) against the unit boxes (M, 4) that contain their answers."""
        cell, box = self.place(states).float().split((CELLS, 4), -1)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        column, row = (centre * SIDE).long().clamp(0, SIDE - 1).unbind(-1)
        return F.cross_entropy(cell, row * SIDE + column) + 5.0 * (box - boxes).abs().mean()

    def times(self, early: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """The loss of visual tokens (N × 16, hidden) against the numbers (N) of their pairs of frames."""
        logits = self.number(F.rms_norm(early, early.shape[-1:])).float()
        return F.cross_entropy(logits, numbers.repeat_interleave(CELLS), ignore_index=IGNORE)
