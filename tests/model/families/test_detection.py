"""Labelled boxes as families give them: prompts, frames, and answers that are parsed as they were written."""

from __future__ import annotations

import pytest

from evalkit import detections, registry
from evalkit.errors import UserError
from evalkit.types import ImagePart, ImageRef, ImageSize, LabelledBox, PromptSpec, Sample, TextPart

SPEC = PromptSpec("odinw13", "detection")
SIZES = [ImageSize((1000, 400), (980, 392))]
BOXES: tuple[LabelledBox, ...] = (
    {"label": "boat", "box": (100.0, 40.0, 300.0, 80.0)},
    {"label": "car", "box": (500.0, 200.0, 1000.0, 400.0)},
)
NAMES = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl", "generic")


class NoImage(ImageRef):
    name = "none"

    def size(self) -> tuple[int, int]:
        return 1000, 400

    def load(self):  # type: ignore[no-untyped-def]
        raise OSError

    def digest(self) -> str:
        raise OSError


SAMPLE = Sample("1", (NoImage(),), "boat, car", BOXES, "1")


@pytest.mark.parametrize("name", NAMES)
def test_own_answers_are_parsed_as_they_were_written(name: str) -> None:
    family = registry.families.get(name)
    found = family.parse(SPEC, family.answer(SPEC, SAMPLE, SIZES[0]), SIZES).value
    assert isinstance(found, tuple)
    assert [one["label"] for one in found] == ["boat", "car"]  # type: ignore[index,call-overload]
    for one, wanted in zip(found, BOXES, strict=True):
        assert one["box"] == pytest.approx(wanted["box"], abs=1)  # type: ignore[index,call-overload]
    nothing = Sample("2", (NoImage(),), "boat, car", (), "2")
    assert family.parse(SPEC, family.answer(SPEC, nothing, SIZES[0]), SIZES).value == ()
    assert family.parse(SPEC, "I see a boat.", SIZES).value is None


@pytest.mark.parametrize("name", NAMES)
def test_prompt_names_all_categories(name: str) -> None:
    (message,) = registry.families.get(name).prompt(SPEC, SAMPLE)
    text = "".join(part.text for part in message.content if isinstance(part, TextPart))
    assert sum(isinstance(part, ImagePart) for part in message.content) == 1
    assert "boat, car" in text
    if name != "generic":  # the published prompt, to the letter
        assert text == (
            "Locate every instance that belongs to the following categories: 'boat, car'. Report bbox coordinates in "
            "JSON format."
        )


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("qwen2.5-vl", "98, 39.2, 294, 78.4"), ("qwen3-vl", "100, 100, 300, 200"), ("generic", "0.1, 0.1, 0.3, 0.2")],
)
def test_frames_are_declared_and_not_guessed(name: str, numbers: str) -> None:
    answer = f'```json\n[{{"bbox_2d": [{numbers}], "label": "boat"}}]\n```'
    (one,) = registry.families.get(name).parse(SPEC, answer, SIZES).value  # type: ignore[misc]
    assert one["box"] == pytest.approx((100, 40, 300, 80))  # type: ignore[index,call-overload]


def test_truncated_lists_count_only_by_their_rule() -> None:
    family = registry.families.get("qwen3-vl")
    answer = '```json\n[{"bbox_2d": [100, 100, 300, 200], "label": "boat"}, {"bbox_2d": [1'
    assert family.parse(SPEC, answer, SIZES).value is None
    by_rule = PromptSpec("odinw13", "detection", reading=detections.COMPLETE)
    assert len(family.parse(by_rule, answer, SIZES).value) == 1  # type: ignore[arg-type]


def test_boxes_that_are_too_large_for_a_number_cannot_be_parsed() -> None:
    answer = '[{"bbox_2d": [0, 0, 1e308, 1e308], "label": "boat"}]'
    found = registry.families.get("qwen3-vl").parse(SPEC, answer, [ImageSize((10**6, 10**6), (10**6, 10**6))])
    assert found.value is None


@pytest.mark.parametrize("name", ["paligemma", "qwen-vl"])
def test_families_without_a_prompt_say_so(name: str) -> None:
    with pytest.raises(UserError, match="has no prompt for odinw13, only for tasks of the kinds"):
        registry.families.get(name).prompt(SPEC, SAMPLE)
