from __future__ import annotations

import logging

import pytest

from evalkit.boxes import box_problem, check_boxes
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.types import Box, Sample

SIZE = (60, 50)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((1, 2, 30, 40), None),
        ((0, 0, 60, 50), None),
        ((-0.9, -0.9, 60.9, 50.9), None),
        ((0, 0, 1.5, 1), None),
        ((30, 2, 1, 40), "swapped"),
        ((1, 2, 1, 40), "encloses nothing"),
        ((0.1, 0.1, 0.4, 0.5), "fractions"),
        ((0, 0, 1, 1), "fractions"),
        ((-1, 2, 30, 40), "begins outside"),
        ((1, 2, 61, 40), "ends outside the image, which has 60 × 50 pixels"),
        ((1, 2, 30, 51), "ends outside"),
    ],
)
def test_what_is_wrong_with_box(box: Box, problem: str | None) -> None:
    found = box_problem(box, SIZE)
    assert found is None if problem is None else found is not None and problem in found


def test_without_size_only_what_needs_none() -> None:
    assert box_problem((1, 2, 3000, 40)) is None
    assert box_problem((0, 0, 1, 1), (1, 1)) is None


def samples(*boxes: object) -> list[Sample]:
    return [Sample(str(n), (PathImage("a.png"),), "the cat", (box,), "a") for n, box in enumerate(boxes)]


def test_some_bad_boxes_are_loud_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_boxes(samples((1, 2, 30, 40), (2, 3, 40, 40), "no box"), {"a.png": SIZE}, "refcoco/val")
        assert not caplog.records
        boxes = samples((1, 2, 30, 40), (2, 3, 99, 40), (-7, 3, 9, 40))
        check_boxes(boxes, {"a.png": SIZE}, "refcoco/val")
        check_boxes(boxes, {}, "refcoco/val")
    with_sizes, without = [record.message for record in caplog.records]
    assert with_sizes.startswith(
        "refcoco/val: 1 of 3 reference boxes do not fit their images (the box of sample 1 is [2,"
    )
    assert without.startswith(
        "refcoco/val: 1 of 3 reference boxes do not fit their images (the box of sample 2 is [-7,"
    )


def test_only_bad_boxes_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"refcoco/val: the box of sample 0 is \[0.1.*fractions.*no box of the split fits"
    ):
        check_boxes(samples((0.1, 0.1, 0.4, 0.5), (0.2, 0.1, 0.9, 0.5)), {}, "refcoco/val")
    check_boxes(samples("no box"), {}, "pointing/val")
