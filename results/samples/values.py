"""Values as text: images, videos, predictions, references, boxes, points and spans of time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.types import ImageRef, TimeSpan, VideoRef

from .film_strip import FilmStrip, span_text, time_bar
from .records import are_labelled_boxes, is_box, is_labelled_box, is_point, is_span
from .view import SampleView

MOST_TIMES = 12
"""Times of frames that are all listed; of more, the first three and the last."""


def prediction_text(shown: SampleView, prediction: Any) -> str:
    """A prediction as text."""
    if prediction is None:
        return "(could not be parsed)"
    if is_span(prediction, shown.kind):
        return span_text(prediction)
    if is_point(prediction):
        return point_text(prediction)
    if are_labelled_boxes(prediction):
        return "\n".join(map(reference_text, prediction)) or "(no boxes)"
    return box_text(prediction) if is_box(prediction) else with_option(shown, str(prediction))


def with_option(shown: SampleView, text: str) -> str:
    """An option letter with the option's text; other texts unchanged."""
    place = ord(text) - ord("A") if len(text) == 1 else -1
    return f"{text}. {shown.options[place]}" if 0 <= place < len(shown.options) else text


def point_text(point: Sequence[float]) -> str:
    """A point in pixels of the original image."""
    x, y = (f"{value:.1f}".removesuffix(".0") for value in point)
    return f"point ({x}, {y})"


def box_text(box: Sequence[float]) -> str:
    """A box in pixels of the original image."""
    x1, y1, x2, y2 = (f"{value:.1f}".removesuffix(".0") for value in box)
    return f"box ({x1}, {y1})–({x2}, {y2})"


def reference_text(value: Any) -> str:
    """A reference, or a part of a prediction, as text."""
    if is_labelled_box(value):
        crowd = " (crowd)" if value.get("crowd") else ""
        return f"{value['label']}{crowd}: {box_text(value['box'])}"
    return box_text(value) if is_box(value) else str(value)


def references_text(shown: SampleView) -> str:
    if shown.options:
        chosen = {str(value) for value, _ in shown.references}
        letters = map(chr, itertools.count(ord("A")))
        pairs = [(name, option) for name, option in zip(letters, shown.options, strict=False) if option]
        marks = [f"{name}. {option}{'  ← correct' if name in chosen else ''}" for name, option in pairs]
        return "\n".join(marks)
    values = [value for value, _ in shown.references]
    texts = [span_text(value) if is_span(value, shown.kind) else reference_text(value) for value in values]
    times = [f" ×{count}" if count > 1 else "" for _, count in shown.references]
    counted = [text + time for text, time in zip(texts, times, strict=True)]
    lines = any(len(one) > 40 or "\n" in one for one in counted) or any(map(is_labelled_box, values))
    return "\n".join(counted) if lines else ", ".join(counted)


def image_text(image: ImageRef) -> str:
    """An image's path and size, or that it is missing or unreadable."""
    try:
        width, height = image.size()
    except FileNotFoundError:
        return f"{image.name} (missing)"
    except (OSError, ValueError):
        return f"{image.name} (unreadable)"
    return f"{image.name} ({width}×{height})"


def video_text(video: VideoRef) -> str:
    """A video's path, size and duration, or that it is missing or unreadable."""
    try:
        info = video.info()
    except FileNotFoundError:
        return f"{video.name} (missing)"
    except (OSError, ValueError, UserError):
        return f"{video.name} (unreadable)"
    return f"{video.name} ({info.size[0]}×{info.size[1]}, {info.duration:.1f} s, {info.frames:,} frames)"


def frames_text(strip: FilmStrip) -> str:
    """How many frames of a video the model saw, when and how large."""
    selection = strip.seen.selection
    times = [f"{time:.1f}" for time in selection.timestamps]
    listed = ", ".join(times if len(times) <= MOST_TIMES else [*times[:3], "…", times[-1]])
    return f"{len(times)} at {listed} s, {selection.size[0]}×{selection.size[1]} ({strip.seen.sampling})"


def spans_of(shown: SampleView) -> list[tuple[str, TimeSpan]]:
    """The spans of time of a sample: ``reference``, and ``answer-0`` for the first run's prediction."""
    found = [("reference", (float(v[0]), float(v[1]))) for v, _ in shown.references if is_span(v, shown.kind)]
    for place, answer in enumerate(shown.answers):
        if answer is not None and is_span(answer.prediction, shown.kind):
            found.append((f"answer-{place}", (float(answer.prediction[0]), float(answer.prediction[1]))))
    return found


def time_bars(shown: SampleView) -> str:
    """The spans of a sample as lines below each other, for as long as its video; empty if there are none."""
    strips = shown.strips
    if not strips:
        return ""
    several = len(shown.answers) > 1
    names = {"answer-0": "A" if several else "answer", "answer-1": "B"}
    return "\n".join(f"{time_bar(span, strips[0].duration)} {names.get(key, key)}" for key, span in spans_of(shown))
