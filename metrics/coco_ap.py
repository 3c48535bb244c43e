"""COCO's average precision of detected boxes, computed by pycocotools, over one data set or as a mean over several.

Benchmarks: ODinW (Li et al., "Grounded Language-Image Pre-training", CVPR 2022, arXiv 2112.03857), the mean of 13 data
sets' mAP.  Scorer: ``COCOeval`` of pycocotools (Lin et al., "Microsoft COCO", ECCV 2014, arXiv 1405.0312) with the
settings of ``evaluation/ODinW-13/eval_utils.py`` of QwenLM/Qwen3-VL (commit 9658872): ``maxDets`` of 100, 300 and 1,000
boxes per category and image.  As there, mAP counts the first 100, and mAP at one IoU the first 1,000.

Answers have no confidence scores: each box gets 1.0, as in that script, and by the authors' word for Qwen2.5-VL
(QwenLM/Qwen3-VL, issue 1041).  The order of boxes in the precision-recall curve is then that of the images, and within
an image that of the answer: the value depends on the order of the images in the file, although little.

- A label counts for the category of the same name in any case; boxes with other labels are left out.
- Boxes that are named twice are kept: the second is a false positive.  So are boxes with swapped corners or without
  area, except that COCOeval ignores those with a negative area.
- An answer that cannot be parsed has no boxes; ``parse_rate`` is the share of the others.
- A category without an object in the images is left out of the mean, as in COCO, and so is a data set without objects.

Variants: ``coco_ap``; ``coco_ap_rounded``, where each data set's values are rounded to three decimals (of 1) before the
mean, as in that script.

Interval: images are drawn with replacement within each data set, 1,000 times, each image with all its boxes; a category
that a draw lacks does not count in it.  An image that is drawn twice has two votes in the curve, at one place.

Not known: which version of pycocotools, and which files, the reports' numbers come from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, Mean, OfWeights
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import CATEGORY_SEPARATOR, Answered, Kind, LabelledBox, Sample, Scores

from ._scoring import means

if TYPE_CHECKING:
    from ._coco import Matches

HEADLINE = "mAP"
NAMES = (HEADLINE, "mAP50", "mAP75")
DATASET = "dataset"
"""The entry of ``meta`` that names a sample's data set; without it, all samples are of one."""
PER_IMAGE = "f1@0.5"
"""A sample's own score: F1 of its boxes, matched at IoU 0.5 by category; 100 if there is no box, and none was named."""
COUNTS = ("boxes", "unknown_labels", "repeated_boxes", "degenerate_boxes")
"""Numbers of boxes in an answer: all, with a label that is no category, named before, without area."""


class CocoAP(Metric):
    """mAP, and mAP at IoU 0.5 and 0.75, in percent; of several data sets their mean, with each one's values.

    ``references`` are the labelled boxes of the image, in pixels; ``text`` names the categories.  Columns: ``f1@0.5``,
    ``parse_rate`` (0 or 100), and the ``COUNTS``, whose values are means per image.

    Args:
        decimals: to which each data set's values, between 0 and 1, are rounded; None for not.
    """

    meta_keys = (DATASET,)
    aggregation = dict.fromkeys(COUNTS, Mean(maximum=None))

    def __init__(self, name: str, decimals: int | None = None) -> None:
        self.name = name
        self.decimals = decimals

    @property
    def signature(self) -> str:
        return f"{self.name}|scores:1|maxDets:100,1000|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        if kind != "detection":
            raise UserError(
                f"{self.name}: this metric scores labelled boxes, and the task asks for none; choose another"
            )
        for sample in samples:
            self._references(sample)
        if samples and not any(sample.references for sample in samples):
            raise UserError(f"{self.name}: there is no object in any of the {len(samples):,} images to detect")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for anything but labelled boxes."""
        from ._coco import mean_precisions, precisions_of_weights

        datasets: dict[str, Matches] = {}
        per_sample: dict[str, dict[str, float]] = {}
        for name, own in _by_dataset(answers).items():
            matches = self._matches(own)
            datasets[name] = matches
            for place, answered in enumerate(own):
                per_sample[answered.sample.id] = {
                    PER_IMAGE: matches.f1[place],
                    "parse_rate": 100.0 * answered.prediction.parsed,
                    **self._counts(answered),
                }
        order = [answered.sample.id for own in _by_dataset(answers).values() for answered in own]
        per_sample = {answered.sample.id: per_sample[answered.sample.id] for answered in answers}
        each = {name: mean_precisions(matches, self.decimals) for name, matches in datasets.items()}
        values = self._mean(each)
        columns = (PER_IMAGE, "parse_rate", *COUNTS)
        strata = {sample: name for name, own in _by_dataset(answers).items() for sample in (a.sample.id for a in own)}
        declared = OfWeights(
            {sample: strata[sample] for sample in order},
            lambda weights: self._mean(precisions_of_weights(datasets, weights, self.decimals)),
        )
        aggregation: dict[str, Aggregation] = dict.fromkeys(values, declared)
        found = {name: float(value) for name, value in values.items()}
        return Scores(HEADLINE, found | means(per_sample, columns), per_sample, self.signature, aggregation)

    def _mean(self, each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The means over data sets, without those that have no object, then each data set's, if it is named.

        The values of a data set are numbers, or (draws,) numbers; NaN where there is no object.
        """
        import numpy as np

        values: dict[str, Any] = {}
        for name in NAMES:
            rows = np.array([found[name] for found in each.values()], dtype=np.float64)
            there = np.isfinite(rows)
            counted = there.sum(axis=0)
            with np.errstate(invalid="ignore"):
                values[name] = np.where(there, rows, 0.0).sum(axis=0) / counted if len(rows) else math.nan
        for dataset in sorted(each):
            if dataset:
                values |= {f"{name}[{dataset}]": each[dataset][name] for name in NAMES}
        return values

    def _matches(self, answers: Sequence[Answered]) -> Matches:
        from ._coco import match

        return match(
            [self._references(answered.sample) for answered in answers],
            [self._known(answered) for answered in answers],
        )

    def _references(self, sample: Sample) -> Sequence[LabelledBox]:
        """The labelled boxes of a sample.  Raises ``UserError`` if something else is among its references."""
        categories = _categories(sample)
        for one in sample.references:
            if not _is_labelled_box(one):
                raise UserError(
                    f"{self.name}: sample {sample.id!r} has the reference {one!r}, which is not a labelled box; check "
                    "the annotation file"
                )
            if _plain(one["label"]) not in categories:
                raise UserError(
                    f"{self.name}: sample {sample.id!r} has an object with the label {one['label']!r}, which is not "
                    f"among the categories that are asked for ({sample.text}); check the annotation file"
                )
        return sample.references

    def _predicted(self, answered: Answered) -> Sequence[LabelledBox]:
        """The boxes of an answer.  Raises ``UserError`` for anything but labelled boxes."""
        found: Any = answered.prediction.value
        if found is None:
            return ()
        if not isinstance(found, list | tuple) or not all(map(_is_labelled_box, found)):
            raise UserError(
                f"{self.name}: the answer to sample {answered.sample.id!r} was parsed as {found!r}, which is not a "
                "list of labelled boxes: the task's kind does not match its metric"
            )
        return found

    def _known(self, answered: Answered) -> list[LabelledBox]:
        categories = _categories(answered.sample)
        return [one for one in self._predicted(answered) if _plain(one["label"]) in categories]

    def _counts(self, answered: Answered) -> dict[str, float]:
        boxes = self._predicted(answered)
        times = Counter((_plain(one["label"]), tuple(one["box"])) for one in boxes)
        found = (
            len(boxes),
            len(boxes) - len(self._known(answered)),
            sum(count - 1 for count in times.values()),
            sum(not (one["box"][0] < one["box"][2] and one["box"][1] < one["box"][3]) for one in boxes),
        )
        return {name: float(count) for name, count in zip(COUNTS, found, strict=True)}


def _by_dataset(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The answers by data set; one without a name if they have none."""
    found: dict[str, list[Answered]] = {}
    for answered in answers:
        found.setdefault(str(answered.sample.meta.get(DATASET) or ""), []).append(answered)
    return found


def _categories(sample: Sample) -> frozenset[str]:
    return frozenset(_plain(name) for name in sample.text.split(CATEGORY_SEPARATOR))


def _plain(label: str) -> str:
    return label.lower()


def _is_labelled_box(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("label"), str):
        return False
    box = value.get("box")
    return isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(v, int | float) for v in box)


METRICS = {metric.name: metric for metric in (CocoAP("coco_ap"), CocoAP("coco_ap_rounded", 3))}
