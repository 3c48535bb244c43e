"""How images and videos were shown to the model, as a journal has it."""

from __future__ import annotations

import math
from typing import Any

from evalkit.types import FrameSelection, Size, VideoInput


def seen_record(seen: VideoInput) -> dict[str, Any]:
    """The record of one video: its name, the rule, the decoder, and the frames with their times in seconds."""
    selection = seen.selection
    return {
        "name": seen.name,
        "sampling": seen.sampling,
        "decoder": seen.decoder,
        "indices": list(selection.indices),
        "times": [round(time, 4) for time in selection.timestamps],
        "size": list(selection.size),
        "fps": round(selection.fps, 6),
        **({} if seen.sent is None else {"sent": seen.sent}),
    }


def read_seen(record: Any) -> VideoInput:
    """What ``seen_record`` wrote.  Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
    texts = [record[key] for key in ("name", "sampling", "decoder")]
    indices, times = tuple(record["indices"]), tuple(map(_seconds, record["times"]))
    numbered = all(type(n) is int and n >= 0 for n in indices) and len(indices) == len(times)
    sent = record.get("sent")
    if not numbered or not all(isinstance(text, str) for text in texts) or sent not in (None, "video", "images"):
        raise ValueError("video_inputs is not what evalkit writes")
    selection = FrameSelection(indices, times, read_size(record["size"]), _seconds(record["fps"]))
    return VideoInput(texts[0], selection, texts[1], texts[2], sent)


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def read_size(value: Any) -> Size:
    """A size in pixels.  Raises ``TypeError`` or ``ValueError`` if it is something else."""
    width, height = value
    if type(width) is not int or type(height) is not int or min(width, height) < 1:
        raise ValueError(f"{value!r} is not an image size")
    return width, height
