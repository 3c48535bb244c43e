"""The stages of the training: learning rates, the mix of questions, and the shape of batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mix import (
    ALL_KINDS,
    BALANCED,
    BROAD,
    BUSY,
    CHOOSING,
    CLIPS,
    HARD,
    HARDER,
    IMAGES,
    PLAIN_CLIPS,
    READING,
    SETTLED,
    SPANS,
    SPANS_AND_IMAGES,
    Mix,
    part,
)


@dataclass(frozen=True)
class Shape:
    """The fixed shape of a training batch.

    Attributes:
        conversations: of four images each.
    """

    images: int = 48
    rows: int = 38
    length: int = 256
    conversations: int = 2

    def part(self, number: int, of: int) -> Shape:
        """The shape of a process's part of the batch."""
        images, conversations = part(self.images, number, of), part(self.conversations, number, of)
        return Shape(images, -(-self.rows // of), self.length, conversations)


@dataclass(frozen=True)
class Stage:
    """A stage of the training: a cosine from ``peak`` over ``cosine`` steps, truncated where the next stage begins.

    Attributes:
        extra: the weight of the auxiliary losses at its beginning.
        warm: steps until the peak.
    """

    first: int
    cosine: int
    peak: float
    mix: Mix
    shape: Shape = Shape()
    extra: float = 1.0
    warm: int = 100


# The second stage was added because the first found only half of the boxes; the third has more multiple choice.
# The others have clips, points, lists of boxes and two images; their batches have about a third of the tokens.
SMALL = Shape(images=9, rows=9, length=352, conversations=1)
STAGES = (
    Stage(0, 5000, 1.0, BROAD),
    Stage(4250, 2500, 0.5, HARD),
    Stage(6500, 3000, 0.5, HARDER),
    Stage(9500, 3600, 0.35, BUSY, SMALL, extra=0.3, warm=30),
    Stage(11500, 2000, 0.25, CHOOSING, SMALL, extra=0.2, warm=10),
    Stage(13500, 1000, 0.2, SETTLED, replace(SMALL, images=12, rows=10), extra=0.2, warm=20),
    Stage(14600, 1500, 0.2, IMAGES, replace(SMALL, images=20, rows=11), extra=0.1, warm=20),
    Stage(16100, 2000, 0.4, CLIPS, replace(SMALL, images=12, rows=13, length=320), extra=0.2, warm=30),
    Stage(18100, 2000, 0.4, PLAIN_CLIPS, replace(SMALL, images=14, rows=14, length=320), extra=0.2, warm=20),
    Stage(20100, 1900, 0.35, BALANCED, replace(SMALL, images=18, rows=15, length=320), extra=0.2, warm=20),
    Stage(22000, 600, 0.2, READING, replace(SMALL, images=20, rows=14, length=320), extra=0.1, warm=20),
    # Rows of 320 tokens had no room for three examples of boxes, which were forgotten.
    Stage(22600, 250, 0.2, READING, replace(SMALL, images=28, rows=14, conversations=4), extra=0.1, warm=10),
    Stage(22850, 1500, 0.4, SPANS, replace(SMALL, images=14, rows=16, length=320), extra=1.0, warm=20),
    Stage(24350, 900, 0.3, SPANS_AND_IMAGES, replace(SMALL, images=22, rows=18, conversations=3), extra=0.5, warm=20),
    Stage(25250, 400, 0.2, ALL_KINDS, replace(SMALL, images=30, rows=19, conversations=3), extra=0.2, warm=10),
)


def stage_at(step: int) -> Stage:
    return next(stage for stage in reversed(STAGES) if step >= stage.first)


def _done(step: int, steps: int) -> float:
    """How much of the cosine of its stage is done at ``step``; that of the last stage ends with ``steps``."""
    stage = stage_at(step)
    length = steps - stage.first if stage is STAGES[-1] else stage.cosine
    return min(1.0, (step - stage.first) / length)


def learning_rate(step: int, steps: int) -> float:
    """The factor on the peak learning rates at ``step`` of ``steps``."""
    stage = stage_at(step)
    warm = min(1.0, (step - stage.first + 1) / stage.warm)
    return warm * stage.peak * (0.5 + 0.5 * math.cos(math.pi * _done(step, steps))) + 0.002


def extra_weight(step: int, steps: int) -> float:
    """The factor on the extra losses: they fall to 0 after four fifths of the stage."""
    return stage_at(step).extra * max(0.0, 1.0 - _done(step, steps) / 0.8)
