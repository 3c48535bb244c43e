"""Reference boxes that cannot be right, found before they silently score 0 %."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.types import Box, Sample, Size

log = logging.getLogger(__name__)


def box_problem(box: Box, size: Size | None = None) -> str | None:
    """Why ``box`` cannot be in pixels of an image of ``size`` (if that is known), for messages; None if it can.

    Boxes may extend beyond the image by less than a pixel, as rounding makes them.
    """
    x1, y1, x2, y2 = box
    if not x1 < x2 or not y1 < y2:
        return "its corners are swapped, or it encloses nothing"
    if x2 <= 1 and y2 <= 1 and size != (1, 1):
        return "it is within a single pixel, so it is probably in fractions of the image's size"
    if x1 <= -1 or y1 <= -1:
        return "it begins outside the image"
    if size is not None and (x2 >= size[0] + 1 or y2 >= size[1] + 1):
        return f"it ends outside the image, which has {size[0]} × {size[1]} pixels"
    return None


def check_boxes(samples: Sequence[Sample], sizes: Mapping[str, Size], where: str) -> None:
    """Check the reference boxes of a benchmark's split; a message in the log counts those that cannot be right.

    Called twice: without ``sizes`` when samples are loaded, and for what needs them once images have been looked at.

    Args:
        sizes: (width, height) by the image's path, as far as known.

    Raises:
        UserError: no box can be right.
    """
    found = [(sample, sizes.get(str(getattr(sample.images[-1], "path", "")))) for sample in samples if sample.images]
    boxes = [
        (sample, box, size) for sample, size in found for box in map(_box_of, sample.references) if box is not None
    ]
    bad = [
        (sample, box, problem)
        for sample, box, size in boxes
        if (problem := box_problem(box, size)) and (not sizes or box_problem(box) is None)
    ]
    if not bad:
        return
    sample, box, problem = bad[0]
    example = f"the box of sample {sample.id} is {list(box)}: {problem}"
    if len(bad) == len(boxes):
        raise UserError(f"{where}: {example}; no box of the split fits its image, so these are not its annotations.")
    log.warning(
        "%s: %s of %s reference boxes do not fit their images (%s); they can hardly be met.",
        where, f"{len(bad):,}", f"{len(boxes):,}", example,
    )  # fmt: skip


def _box_of(reference: Any) -> Box | None:
    """The box that a reference is, or the box of a labelled one; None if it is something else."""
    box = reference.get("box") if isinstance(reference, dict) else reference
    if not isinstance(box, tuple | list) or len(box) != 4 or not all(type(v) in (int, float) for v in box):
        return None
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2
