"""Boxes of InternVL2.5-8B and LLaVA-1.5-7B on RefCOCO, RefCOCO+ (testA) and RefCOCOg (test), with published accuracies.

They are in github.com/teaywright/REC-Eval (commit a8d22ac, ``outputs``), which has no licence: they are not copied.
``EVALKIT_REC_EVAL`` is the path of that folder; without it, these tests are skipped.

Its files have the boxes in pixels, as ``number / 1000 * width`` for InternVL and ``fraction * width`` for LLaVA, and
the texts in which it found no box.  Width and height are not in them: any for which the numbers are whole (thousandths,
hundredths) gives the same boxes.  So each answer is spelled as the model spelled it, and read by the family's rule.
LLaVA-1.5 spells boxes as LLaVA-OneVision does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.metrics.iou import BoxIoU
from evalkit.types import Answered, ImageSize, PromptSpec, Sample

PUBLISHED = {
    ("internvl", "RefCOCO"): (1975, 0.8941772151898734, 20),
    ("internvl", "RefCOCOplus"): (1975, 0.8475949367088608, 15),
    ("internvl", "RefCOCOg"): (5023, 0.8196297033645232, 83),
    ("llava", "RefCOCO"): (1975, 0.4891139240506329, 0),
    ("llava", "RefCOCOplus"): (1975, 0.42278481012658226, 0),
    ("llava", "RefCOCOg"): (5023, 0.385626119848696, 3),
}
"""Model and data set: number of answers, accuracy, and number of answers without a box."""
FAMILY = {"internvl": ("internvl", 1000), "llava": ("llava-onevision", 100)}
"""The family whose rule reads the answers, and in which parts of an image they are."""
LARGEST = 640
"""The longer side of COCO's images in pixels."""


def _items(model: str, name: str) -> Sequence[Mapping[str, Any]]:
    folder = os.environ.get("EVALKIT_REC_EVAL")
    if not folder:
        pytest.skip("EVALKIT_REC_EVAL does not name the folder 'outputs' of github.com/teaywright/REC-Eval")
    content = json.loads((Path(folder) / f"{model}_lmms-lab_{name}_predictions.json").read_text())
    found: list[Mapping[str, Any]] = content[f"lmms-lab/{name}"][model]
    return found


def _side(values: Sequence[float], parts: int) -> tuple[int, list[int]]:
    """A length of a side in pixels, and the numbers of its parts that coordinates are."""
    for side in range(LARGEST, 0, -1):
        numbers = [value * parts / side for value in values]
        if all(abs(number - round(number)) < 1e-6 and 0 <= number <= 1.2 * parts for number in numbers):
            return side, [round(number) for number in numbers]
    raise AssertionError(f"{values} are no whole numbers of an image's parts")


def _spelled(item: Mapping[str, Any], model: str) -> tuple[str, ImageSize]:
    """An answer as the model wrote it, and the size of its image."""
    box = item["prediction"].get("box")
    if box is None:
        return item["prediction"]["text"], ImageSize((LARGEST, LARGEST), (LARGEST, LARGEST))
    parts = FAMILY[model][1]
    (width, (x1, x2)), (height, (y1, y2)) = _side(box[::2], parts), _side(box[1::2], parts)
    size = ImageSize((width, height), (width, height))
    if model == "internvl":
        return f"({x1}, {y1}, {x2}, {y2})", size
    return f"[{', '.join(f'{number / parts:.2f}' for number in (x1, y1, x2, y2))}]", size


def _answered(model: str, name: str) -> Iterator[Answered]:
    family, spec = registry.families.get(FAMILY[model][0]), PromptSpec("refcoco", "grounding")
    for number, item in enumerate(_items(model, name)):
        x, y, width, height = item["gt_bbox"]
        text, size = _spelled(item, model)
        prediction = family.parse(spec, text, (size,), ())
        yield Answered(Sample(str(number), (), item["text"], ((x, y, x + width, y + height),), str(number)), prediction)


@pytest.mark.parametrize(("model", "name"), list(PUBLISHED))
def test_accuracy_is_the_published_one(model: str, name: str) -> None:
    count, accuracy, without_box = PUBLISHED[model, name]
    answered = list(_answered(model, name))
    scores = BoxIoU().score(answered)
    assert len(answered) == count
    assert sum(one.prediction.value is None for one in answered) == without_box
    hits = sum(row["acc@0.5"] == 100 for row in scores.per_sample.values())
    assert hits / count == accuracy
