"""Histogram and breakdowns of a split's scores: by ``meta``, box size, prompt length, shots and finish reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.results.samples.view import RunAnswer, SampleView, SplitView
from evalkit.results.stats.clustered import Measured
from evalkit.results.stats.error_bars import ends_of
from evalkit.types import LOCATED

BINS = 20
MAX_EXACT = 12  # with at most this many distinct scores, each is a bar
MAX_CATEGORIES = 200  # a key with more values is free text, not a category
MAX_ROWS = 24  # of a breakdown; the other categories are one row
MAX_LABEL = 60  # characters of a category
SMALL, MEDIUM = 32**2, 96**2
"""Areas in square pixels: COCO's small, medium and large objects (Lin et al. 2014, arXiv 1405.0312)."""
NO_CATEGORY = re.compile(r"(^|_)id$|[a-z]I[dD]$|^(question|hint)$")
"""Keys of ``meta`` with ids or texts, even if some values are repeated: ``ref_id``, ``questionId``."""
UNNAMED = "(none)"
OTHER = "(other)"


@dataclass(frozen=True)
class Bin:
    """Scores in [low, high); the last bin includes its end.  ``counts``: the number of samples per run."""

    label: str
    low: float
    high: float
    counts: Sequence[int]


@dataclass(frozen=True)
class GroupMean:
    """A run's mean over a group with its 95 % interval, clustered by image; None if it cannot be computed."""

    n: int
    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Breakdown:
    """Samples grouped by one property: ``rows`` are labels with each run's mean, ``of`` maps sample ids to rows."""

    title: str
    rows: Sequence[tuple[str, Sequence[GroupMean]]]
    of: Mapping[str, Sequence[int]]


def scored(split: SplitView, column: str, run: int) -> list[tuple[SampleView, float]]:
    """The samples that have a score in a run, with the score."""
    found = []
    for sample in split.samples:
        answer = sample.answers[run]
        if answer is not None and column in answer.scores:
            found.append((sample, answer.scores[column]))
    return found


def histogram(split: SplitView, runs: int) -> list[Bin]:
    """The number of samples per score; empty without scores."""
    column = split.column
    if column is None:
        return []
    values = [[value for _, value in scored(split, column, run)] for run in range(runs)]
    every = sorted(v for some in values for v in some if math.isfinite(v))
    if not every:
        return []
    edges = histogram_edges(every, split.scale)
    exact = len(edges) == len(set(every)) and edges[-1] <= every[-1]
    bins = []
    for place, low in enumerate(edges if exact else edges[:-1]):
        last = place == len(edges) - (1 if exact else 2)
        high = math.inf if last else edges[place + 1]
        counts = [sum(low <= v < high for v in some) for some in values]
        label = number(low) if exact else f"{number(low)}–{number(edges[place + 1])}"
        bins.append(Bin(label, low, high, counts))
    if not exact and every[-1] > edges[-1]:
        bins[-1] = Bin(f"≥ {number(edges[-2])}", *_range(bins[-1]))
    return bins


def _range(one: Bin) -> tuple[float, float, Sequence[int]]:
    return one.low, one.high, one.counts


def histogram_edges(values: Sequence[float], scale: float | None) -> list[float]:
    """The distinct values if they are few, else the edges of bins of equal width; the highest 1 % are in the last bin.

    ``values`` are sorted.
    """
    if len(set(values)) <= MAX_EXACT:
        return sorted(set(values))
    top = scale if scale is not None else values[min(len(values) - 1, int(0.99 * len(values)))]
    width = _round_up((top - min(0.0, values[0])) / BINS)
    start = math.floor(min(0.0, values[0]) / width) * width
    return [start + place * width for place in range(math.ceil((top - start) / width - 1e-9) + 1)]


def _round_up(width: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not below ``width``."""
    power = 10.0 ** math.floor(math.log10(width)) if width > 0 else 1.0
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


# ---------------------------------------------------------------------------------------------------------- breakdowns

Labels = dict[str, tuple[str, ...]]
"""Sample id → its categories; several if it belongs to several, as DocVQA's questions do."""
Order = Sequence[str] | None
"""The labels in the order of the rows; None for the most frequent first."""


def breakdowns(split: SplitView, runs: int) -> list[Breakdown]:
    """Breakdowns by the categories in ``meta``, size of the reference box, prompt length, shots, and finish reason."""
    return [
        _breakdown(split, runs, title, labels, order)
        for title, labels, order in _labelled(split)
        if len({name for names in labels.values() for name in names} - {UNNAMED}) > 1
    ]


def _labelled(split: SplitView) -> Iterator[tuple[str, Labels, Order]]:
    samples = split.samples
    for key in dict.fromkeys(key for sample in samples for key in sample.meta if not NO_CATEGORY.search(key)):
        labels = {s.id: categories(s.meta.get(key)) for s in samples}
        if _are_categories(labels):
            yield key.replace("_", " "), labels, None
    if split.kind in LOCATED:
        yield "box size", {s.id: (_box_size(s),) for s in samples}, ("small", "medium", "large")
    # In tokens, visual tokens included, of the first run: another model may resize images differently.
    lengths = {s.id: next((t.prompt_tokens for t in s.answers if t is not None), 0) for s in samples}
    yield (
        "document length (prompt tokens)" if split.kind == "document" else "prompt length (tokens)",
        *_quarters(lengths),
    )
    # Runs with different numbers of shots have a column each already.
    shots: Labels = {s.id: (_first(s, lambda answer: str(len(answer.shots))),) for s in samples}
    yield "shots", shots, sorted({name for (name,) in shots.values()}, key=lambda text: (len(text), text))
    yield "how the answer ended", {s.id: (_first(s, _ending),) for s in samples}, None


def _ending(answer: RunAnswer) -> str:
    if answer.truncated:
        return "truncated in its reasoning" if answer.final == "" else "truncated at the token limit"
    return "complete" if answer.finish == "stop" else UNNAMED


def _first(sample: SampleView, label: Callable[[RunAnswer], str]) -> str:
    answer = next((t for t in sample.answers if t is not None), None)
    return UNNAMED if answer is None else label(answer)


def categories(value: Any) -> tuple[str, ...]:
    """A value of ``meta`` as labels; empty if it is not a category."""
    if value is None or value in ("", [], ()):
        return (UNNAMED,)
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, str | int) and len(str(value)) <= MAX_LABEL and "\n" not in str(value):
        return (str(value),)
    if isinstance(value, list | tuple) and all(isinstance(one, str) and len(one) <= MAX_LABEL for one in value):
        return tuple(dict.fromkeys(value))
    return ()


def _are_categories(labels: Labels) -> bool:
    """Whether values repeat, as those of categories do, and those of ids and texts do not."""
    different = len({name for names in labels.values() for name in names})
    repeated = different <= min(MAX_CATEGORIES, max(8, len(labels) / 3)) and different < len(labels)
    return all(labels.values()) and repeated


def _box_size(sample: SampleView) -> str:
    box = sample.references[0][0] if sample.references else None
    if not isinstance(box, list) or len(box) != 4:
        return UNNAMED
    area = (box[2] - box[0]) * (box[3] - box[1])
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def _quarters(lengths: Mapping[str, int]) -> tuple[Labels, Order]:
    """Quartiles by length; ``UNNAMED`` for all if the lengths hardly differ."""
    known = sorted(length for length in lengths.values() if length)
    if not known or known[-1] < 1.2 * known[0]:
        return dict.fromkeys(lengths, (UNNAMED,)), None
    cuts = sorted({known[len(known) * part // 4] for part in (1, 2, 3)} - {known[0]})
    lows, highs = [known[0], *cuts], [*(cut - 1 for cut in cuts), known[-1]]
    names = [f"{low:,}–{high:,}" if low < high else f"{low:,}" for low, high in zip(lows, highs, strict=True)]
    labels: Labels = {
        key: (names[sum(length >= cut for cut in cuts)] if length else UNNAMED,) for key, length in lengths.items()
    }
    return labels, names


def _breakdown(split: SplitView, runs: int, title: str, labels: Labels, order: Order) -> Breakdown:
    counts = Counter(name for names in labels.values() for name in names)
    if order is None:
        names = sorted((name for name in counts if name != UNNAMED), key=lambda name: (-counts[name], name))
    else:
        names = [name for name in order if name in counts]
    if len(names) > MAX_ROWS:
        names = [*names[: MAX_ROWS - 1], OTHER]
    if UNNAMED in counts and UNNAMED not in names:
        names.append(UNNAMED)
    row = {name: place for place, name in enumerate(names)}
    of = {key: sorted({row[name] if name in row else row[OTHER] for name in own}) for key, own in labels.items()}
    means = [_means(split, run, of, len(names)) for run in range(runs)]
    return Breakdown(title, [(name, [side[place] for side in means]) for place, name in enumerate(names)], of)


def _means(split: SplitView, run: int, of: Mapping[str, Sequence[int]], rows: int) -> list[GroupMean]:
    """A run's mean per row."""
    if split.metric is None:
        counts = Counter(row for sample in split.samples if sample.answers[run] is not None for row in of[sample.id])
        return [GroupMean(counts[row], None) for row in range(rows)]
    groups: list[list[tuple[SampleView, float]]] = [[] for _ in range(rows)]
    for sample, value in scored(split, split.metric, run):
        for row in of[sample.id]:
            groups[row].append((sample, value))
    answers = (sample.answers[run] for sample in split.samples)
    repeated = any(answer is not None and answer.repeats for answer in answers)
    return [_mean(group, split.scale, repeated) for group in groups]


def _mean(some: Sequence[tuple[SampleView, float]], scale: float | None, repeated: bool) -> GroupMean:
    if not some:
        return GroupMean(0, None)
    measured = Measured.of([value for _, value in some], [sample.cluster for sample, _ in some])
    ends = ends_of(measured, scale=scale, repeated=repeated)
    if ends is None:
        return GroupMean(len(some), measured.mean)
    return GroupMean(len(some), measured.mean, ends.low, ends.high)
