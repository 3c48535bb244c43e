"""Matching of boxes by pycocotools' ``COCOeval``, and its average precision for any number of copies of each image."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.types import LabelledBox

Floats = NDArray[np.float64]

MAX_DETECTIONS = (100, 300, 1000)
"""Boxes per category and image, as in Qwen3-VL's evaluation."""
IOU = np.linspace(0.5, 0.95, 10)
RECALL = np.linspace(0.0, 1.0, 101)
PRECISIONS = {"mAP": (slice(None), 0), "mAP50": (slice(0, 1), 2), "mAP75": (slice(5, 6), 2)}
"""By value: its thresholds of IoU, and its place in ``MAX_DETECTIONS`` (``COCOeval.summarize``)."""
EPSILON = np.spacing(1)
CHUNK = 4_000_000
"""Numbers in a chunk of resamples."""


@dataclass(frozen=True)
class Category:
    """A category's boxes in all images, in the order of images and answers.

    Attributes:
        image: (boxes,), the number of each box's image.
        rank: (boxes,), its place among the boxes of the category in its image.
        true, false: (IoU thresholds, boxes), whether it is a true or a false positive; neither if it does not count.
        objects: (images,), the number of objects that count.
    """

    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    true: NDArray[np.bool_]
    false: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """A data set's matches.

    Attributes:
        images: their number.
        categories: those that have boxes or objects.
        precision: of ``COCOeval``: (IoU thresholds, recalls, categories, 1, maxima); -1 without an object.
        f1: (images,), in percent, at IoU 0.5.
    """

    images: int
    categories: Sequence[Category]
    precision: Floats
    f1: Sequence[float]


def match(references: Sequence[Sequence[LabelledBox]], predictions: Sequence[Sequence[LabelledBox]]) -> Matches:
    """Match the predicted boxes of each image with its objects; all labels are known ones, in any case."""
    labels = sorted({one["label"].lower() for boxes in (*references, *predictions) for one in boxes})
    evaluation = _evaluated(references, predictions, {label: number for number, label in enumerate(labels, 1)})
    images = len(references)
    by_place = np.array(evaluation.evalImgs, dtype=object).reshape(len(labels), images)
    categories = [_category(row, images) for row in by_place]
    return Matches(images, categories, np.asarray(evaluation.eval["precision"]), _f1(by_place))


def _evaluated(
    references: Sequence[Sequence[LabelledBox]], predictions: Sequence[Sequence[LabelledBox]], ids: Mapping[str, int]
) -> Any:
    """A ``COCOeval`` with its matches and its precision."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, answers = COCO(), COCO()
    truth.dataset, answers.dataset = _dataset(references, ids), _dataset(predictions, ids)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress
        truth.createIndex()
        answers.createIndex()
        evaluation = COCOeval(truth, answers, "bbox")
        evaluation.params.maxDets = list(MAX_DETECTIONS)
        evaluation.params.iouThrs = IOU
        evaluation.params.recThrs = RECALL
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.imgIds = list(range(len(references)))
        evaluation.params.catIds = list(ids.values())
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _dataset(boxes: Sequence[Sequence[LabelledBox]], ids: Mapping[str, int]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image, own in enumerate(boxes):
        for one in own:
            x1, y1, x2, y2 = one["box"]
            crowd = int(bool(one.get("crowd", False)))
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image, "category_id": ids[one["label"].lower()],
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "score": 1.0, "iscrowd": crowd,
                }
            )  # fmt: skip
    return {
        "images": [{"id": image} for image in range(len(boxes))],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


def _category(row: NDArray[Any], images: int) -> Category:
    """A category's boxes from ``COCOeval.evalImgs`` of each image; None where it has neither boxes nor objects."""
    there = [(image, one) for image, one in enumerate(row) if one is not None]
    objects = np.zeros(images, dtype=np.int64)
    for image, one in there:
        objects[image] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
    counts = [len(one["dtScores"]) for _, one in there]
    matched = np.concatenate([one["dtMatches"] for _, one in there] or [np.zeros((len(IOU), 0))], axis=1) > 0
    ignored = np.concatenate([one["dtIgnore"] for _, one in there] or [np.zeros((len(IOU), 0))], axis=1) > 0
    return Category(
        np.repeat(np.array([image for image, _ in there], dtype=np.int64), counts),
        np.concatenate([np.arange(count) for count in counts] or [np.zeros(0, dtype=np.int64)]),
        matched & ~ignored,
        ~matched & ~ignored,
        objects,
    )


def _f1(by_place: NDArray[Any]) -> list[float]:
    """(images,), F1 in percent at the lowest IoU; 100 without boxes and objects."""
    found = []
    for column in by_place.T:
        there = [one for one in column if one is not None]
        matched = [np.asarray(one["dtMatches"])[0] > 0 for one in there]
        counted = [np.asarray(one["dtIgnore"])[0] == 0 for one in there]
        right = sum(int((m & c).sum()) for m, c in zip(matched, counted, strict=True))
        boxes = sum(int(c.sum()) for c in counted)
        objects = sum(int(np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)) for one in there)
        found.append(100.0 * 2 * right / (boxes + objects) if boxes + objects else 100.0)
    return found


def mean_precisions(matches: Matches, decimals: int | None) -> dict[str, float]:
    """The values of a data set in percent, from ``COCOeval``'s precision; NaN without an object."""
    found = {}
    for name, (thresholds, maximum) in PRECISIONS.items():
        precision = matches.precision[thresholds, :, :, 0, maximum] if matches.precision.size else np.zeros(0)
        counted = precision[precision > -1]
        value = float(counted.mean()) if len(counted) else math.nan
        found[name] = 100.0 * (value if decimals is None else round(value, decimals))
    return found


def precisions_of_weights(
    datasets: Mapping[str, Matches], weights: NDArray[np.int64], decimals: int | None
) -> dict[str, dict[str, Floats]]:
    """The same for copies of images: by data set and value, (draws,) in percent.

    Args:
        weights: (draws, images), the number of copies of each, the images in the order of the data sets.
    """
    found: dict[str, dict[str, Floats]] = {}
    first = 0
    for name, matches in datasets.items():
        own = weights[:, first : first + matches.images]
        first += matches.images
        values = {key: np.full((len(weights), len(matches.categories)), np.nan) for key in PRECISIONS}
        for place, category in enumerate(matches.categories):
            for key, value in _average_precision(category, own).items():
                values[key][:, place] = value
        found[name] = {key: _nan_mean(value, decimals) for key, value in values.items()}
        # Another order of summation, and a value between two rounded ones, would be a different one.
        unchanged = (own == 1).all(axis=1)
        for key, exact in mean_precisions(matches, decimals).items():
            found[name][key][unchanged] = exact
    return found


def _nan_mean(values: Floats, decimals: int | None) -> Floats:
    """(draws, categories) → (draws,) in percent, the mean of those that are there; NaN without any."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, values, 0.0).sum(axis=1) / there.sum(axis=1)
    rounded: Floats = mean if decimals is None else np.round(mean, decimals)
    return 100.0 * rounded


def _average_precision(category: Category, weights: NDArray[np.int64]) -> dict[str, Floats]:
    """A category's average precision for each draw, by value; NaN where a draw has no object."""
    found = {key: np.full(len(weights), np.nan) for key in PRECISIONS}
    objects = weights @ category.objects
    there = np.flatnonzero(objects)
    step = max(1, CHUNK // max(1, len(category.image)))
    for begin in range(0, len(there), step):
        some = there[begin : begin + step]
        times = weights[some][:, category.image]
        curves: dict[tuple[int, int], Floats] = {}  # several values share one
        for key, (thresholds, maximum) in PRECISIONS.items():
            for place in range(len(IOU))[thresholds]:
                if (place, maximum) not in curves:
                    kept = category.rank < MAX_DETECTIONS[maximum]
                    curves[place, maximum] = _of_curve(
                        times, category.true[place] & kept, category.false[place] & kept, objects[some]
                    )
            found[key][some] = np.mean([curves[place, maximum] for place in range(len(IOU))[thresholds]], axis=0)
    return found


def _of_curve(
    weights: NDArray[np.int64], true: NDArray[np.bool_], false: NDArray[np.bool_], objects: NDArray[np.int64]
) -> Floats:
    """(draws,), the mean of the interpolated precision at 101 recalls (``COCOeval.accumulate``).

    Only true positives are looked at: recall rises there, and between two of them precision only falls.

    Args:
        weights: (draws, boxes); ``true``, ``false``: (boxes,); ``objects``: (draws,), at least 1.
    """
    counted = true | false
    right = np.cumsum(weights[:, true], axis=1)
    every = np.cumsum(weights[:, counted], axis=1)[:, true[counted]]
    precision = right / (every + EPSILON)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALL, right / objects[:, None], side="right")  # recalls up to each box
    steps = np.diff(reached, axis=1, prepend=0)
    value: Floats = (steps * envelope).sum(axis=1) / len(RECALL)
    return value
