"""COCO's average precision against pycocotools run by itself, and the edges: empty answers, labels, repeated boxes."""

from __future__ import annotations

import contextlib
import io
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evalkit.aggregation import OfWeights
from evalkit.errors import UserError
from evalkit.metric_contract import check_metric, score_answers
from evalkit.metrics.coco_ap import METRICS
from evalkit.types import Answered, Box, LabelledBox, Prediction, Sample, Scores

AP, ROUNDED = METRICS["coco_ap"], METRICS["coco_ap_rounded"]
ONE: Box = (10.0, 10.0, 50.0, 50.0)
TWO: Box = (60.0, 60.0, 90.0, 90.0)


def labelled(label: str, box: Box, crowd: bool = False) -> LabelledBox:
    found: LabelledBox = {"label": label, "box": box}
    if crowd:
        found["crowd"] = True
    return found


def answered(
    number: int,
    references: Sequence[LabelledBox],
    predictions: Sequence[LabelledBox] | None,
    categories: str = "boat, car",
    dataset: str = "",
) -> Answered:
    meta = {"dataset": dataset} if dataset else {}
    sample = Sample(f"{dataset}-{number}", (), categories, tuple(references), f"{dataset}-{number}", meta=meta)
    return Answered(sample, Prediction(None if predictions is None else tuple(predictions)))


def drawn(seed: int, count: int, categories: Sequence[str], dataset: str = "") -> list[Answered]:
    """Answers that are near the references, with misses, false alarms, other cases of letters, and a few unparsed."""
    rng = random.Random(seed)

    def box() -> Box:
        x, y = rng.uniform(0, 80), rng.uniform(0, 80)
        return x, y, x + rng.uniform(5, 40), y + rng.uniform(5, 40)

    def near(box: Box) -> Box:
        a, b, c, d = (value + rng.gauss(0, 2) for value in box)
        return a, b, c, d

    found = []
    for number in range(count):
        own = [labelled(rng.choice(categories), box(), rng.random() < 0.05) for _ in range(rng.randrange(6))]
        said = [
            labelled(rng.choice((o["label"], o["label"].upper())), near(o["box"])) for o in own if rng.random() < 0.8
        ]
        said += [labelled(rng.choice([*categories, "cow"]), box()) for _ in range(rng.randrange(3))]
        rng.shuffle(said)
        found.append(answered(number, own, None if rng.random() < 0.05 else said, ", ".join(categories), dataset))
    return found


def by_pycocotools(answers: Sequence[Answered]) -> list[float]:
    """mAP, AP50 and AP75 by COCO's own code, from files as one would write them."""
    names = [name.lower() for name in answers[0].sample.text.split(", ")]
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, one in enumerate(answers):
        for label, (x1, y1, x2, y2), crowd in ((r["label"], r["box"], r.get("crowd")) for r in one.sample.references):
            truth.append({
                "id": len(truth) + 1, "image_id": image, "category_id": names.index(label.lower()) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": int(bool(crowd)),
            })  # fmt: skip
        for said in one.prediction.value or ():
            (x1, y1, x2, y2), label = said["box"], said["label"].lower()  # type: ignore[index,call-overload]
            if label in names:
                found.append({
                    "image_id": image, "category_id": names.index(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": 1.0,
                })  # fmt: skip
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "width": 100, "height": 100} for image in range(len(answers))],
        "annotations": truth,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.maxDets = [100, 300, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * float(value) for value in evaluation.stats[:3]]


def triple(scores: Scores, dataset: str = "") -> list[float]:
    suffix = f"[{dataset}]" if dataset else ""
    return [scores.values[name + suffix] for name in ("mAP", "mAP50", "mAP75")]


@pytest.mark.parametrize("seed", range(4))
def test_as_pycocotools(seed: int) -> None:
    answers = drawn(seed, 60, ["boat", "Car", "dog"][: 1 + seed % 3])
    assert triple(score_answers(AP, answers)) == pytest.approx(by_pycocotools(answers), abs=1e-9)


# Computed once with pycocotools 2.0.11 by the function above: a library that computes otherwise shows here.
@pytest.mark.parametrize(
    ("seed", "golden"),
    [(0, [21.392283, 48.744929, 12.052954]), (1, [21.299677, 51.565275, 12.091602])],
)
def test_golden(seed: int, golden: list[float]) -> None:
    assert triple(score_answers(AP, drawn(seed, 60, ["boat", "Car", "dog"][: 1 + seed % 3]))) == pytest.approx(golden)


def test_mean_over_data_sets() -> None:
    parts = {name: drawn(seed, 20, ["a", "b"], name) for seed, name in enumerate(("X", "Y", "Z"))}
    found = score_answers(AP, [one for part in parts.values() for one in part])
    each = {name: by_pycocotools(part) for name, part in parts.items()}
    for name, values in each.items():
        assert triple(found, name) == pytest.approx(values)
    assert triple(found) == pytest.approx(np.mean(list(each.values()), axis=0))
    rounded = score_answers(ROUNDED, [one for part in parts.values() for one in part])
    assert triple(rounded, "X") == pytest.approx(np.round(each["X"], 1))
    assert triple(rounded) == pytest.approx(np.mean(np.round(list(each.values()), 1), axis=0))
    assert rounded.signature != found.signature


def test_value_between_two_rounded_ones() -> None:
    """The eighth of eight boxes fits at one of ten thresholds: 0.0125 is 0.013 for Python and 0.012 for NumPy."""
    boxes = [labelled("boat", (float(x), 60.0, x + 5.0, 65.0)) for x in range(7)]
    answers = [answered(1, [labelled("boat", ONE)], [*boxes, labelled("boat", (10.0, 10.0, 50.0, 31.0))])]
    scores = ROUNDED.score(answers)
    assert AP.score(answers).values["mAP"] == pytest.approx(1.25)
    assert scores.values["mAP"] == pytest.approx(1.3)
    declared = scores.aggregation_of("mAP")
    assert declared.compute("mAP", scores.per_sample, {}) == scores.values["mAP"]


def test_more_than_a_hundred_boxes_in_an_image() -> None:
    """mAP counts the first 100 boxes of a category, AP at one IoU the first 1,000."""
    right = [labelled("boat", (float(n), 0.0, n + 0.9, 1.0)) for n in range(150)]
    answers = [answered(0, right, right)]
    found = triple(score_answers(AP, answers))
    assert found == pytest.approx(by_pycocotools(answers))
    assert found[0] < 70 < found[1] == pytest.approx(100)


def test_nothing_named_is_not_unparsed() -> None:
    found = score_answers(AP, [answered(0, [labelled("boat", ONE)], ()), answered(1, [], ()), answered(2, [], None)])
    assert triple(found) == [0, 0, 0]
    assert found.values["parse_rate"] == pytest.approx(200 / 3)
    assert [row["f1@0.5"] for row in found.per_sample.values()] == [0, 100, 100]


def test_labels_repeated_and_degenerate_boxes() -> None:
    said = [
        labelled("BOAT", ONE), labelled("boat", ONE), labelled("ship", ONE), labelled("boat ", TWO),
        labelled("car", (5.0, 5.0, 5.0, 9.0)), labelled("car", (9.0, 9.0, 5.0, 5.0)),
    ]  # fmt: skip
    found = score_answers(AP, [answered(0, [labelled("Boat", ONE), labelled("car", TWO)], said)])
    row = next(iter(found.per_sample.values()))
    assert (row["boxes"], row["unknown_labels"], row["repeated_boxes"], row["degenerate_boxes"]) == (6, 2, 1, 2)
    assert row["f1@0.5"] == pytest.approx(100 * 2 * 1 / (4 + 2))
    assert triple(found) == pytest.approx([50, 50, 50])  # the second box of the boat is wrong, after full recall


def test_categories_and_data_sets_without_objects_do_not_count() -> None:
    boat = answered(0, [labelled("boat", ONE)], [labelled("boat", ONE), labelled("car", TWO)], dataset="A")
    assert triple(score_answers(AP, [boat])) == pytest.approx([100, 100, 100])
    empty = answered(0, [], [labelled("car", TWO)], dataset="B")
    found = score_answers(AP, [boat, empty])
    assert triple(found) == pytest.approx([100, 100, 100])
    assert math.isnan(found.values["mAP[B]"])


@pytest.mark.parametrize("metric", [AP, ROUNDED])
def test_copies_of_images(metric: Any) -> None:
    """The function for resamples is the score for one copy each, and for the images that are left."""
    answers = drawn(7, 30, ["a", "b"], "X") + drawn(8, 20, ["c"], "Y")
    found = score_answers(metric, answers)
    declared = found.aggregation_of("mAP")
    assert isinstance(declared, OfWeights)
    some = np.array([number % 3 > 0 for number in range(50)])
    values = declared.values(np.stack([np.ones(50, dtype=int), some.astype(int), 5 * np.ones(50, dtype=int)]))
    rest = score_answers(metric, [one for one, kept in zip(answers, some, strict=True) if kept])
    for name in ("mAP", "mAP50", "mAP75", "mAP[X]", "mAP75[Y]"):
        assert values[name][0] == pytest.approx(found.values[name], abs=0.11 if metric is ROUNDED else 1e-9)
        assert values[name][1] == pytest.approx(rest.values[name], abs=0.11 if metric is ROUNDED else 1e-9)


def test_refusals() -> None:
    one = answered(0, [labelled("boat", ONE)], [])
    for samples, kind, sentence in (
        ([one.sample], "grounding", "this metric scores labelled boxes"),
        ([answered(0, [], []).sample], "detection", "there is no object in any of the 1 images"),
        ([answered(0, [labelled("ship", ONE)], []).sample], "detection", "the label 'ship', which is not among"),
        ([Sample("1", (), "boat", (ONE,), "1")], "detection", "which is not a labelled box"),
    ):
        with pytest.raises(UserError, match=sentence):
            check_metric(AP, samples, kind, "own/own")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="which is not a list of labelled boxes"):
        score_answers(AP, [Answered(one.sample, Prediction("boat"))])
