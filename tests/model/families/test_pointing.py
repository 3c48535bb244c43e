"""Points as families give them: prompts, frames, and answers that are parsed as they were written."""

from __future__ import annotations

import pytest

from evalkit import points, registry
from evalkit.interfaces import Family
from evalkit.types import ImagePart, ImageRef, ImageSize, PromptSpec, PromptTemplate, Sample, TextPart

SPEC = PromptSpec("screenspot", "pointing")
BOX = (100.0, 40.0, 300.0, 80.0)
SIZES = [ImageSize((1000, 400), (980, 392))]


class NoImage(ImageRef):
    name = "none"

    def size(self) -> tuple[int, int]:
        return 1000, 400

    def load(self):  # type: ignore[no-untyped-def]
        raise OSError

    def digest(self) -> str:
        raise OSError


SAMPLE = Sample("1", (NoImage(),), "close the window", (BOX,), "1")
FAMILIES = registry.families.all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_own_answers_are_parsed_as_the_centre_of_the_box(family: Family) -> None:
    answer = family.answer(SPEC, SAMPLE, SIZES[0])
    point = family.parse(SPEC, answer, SIZES).value
    assert isinstance(point, tuple)
    cell = 8 if family.name == "kosmos-2" else 1  # half a cell of its grid, in pixels of this image
    assert point == pytest.approx((200, 60), abs=cell)
    assert family.parse(SPEC, "I see no such thing.", SIZES).value is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_prompt_has_the_image_and_the_instruction(family: Family) -> None:
    (message,) = family.prompt(SPEC, SAMPLE)
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    assert sum(isinstance(part, ImagePart) for part in message.content) == 1
    assert "close the window" in "".join(texts)
    for example in ('{"point_2d": [x, y], "label": "…"}', '{"point": [y, x], "label": "…"}'):
        texts = [text.replace(example, "") for text in texts]
    assert "{" not in "".join(texts)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("generic", "[0.2, 0.15]"),
        ("qwen2-vl", "<|point_start|>(200,150)<|point_end|>"),
        ("qwen2-vl", "<|box_start|>(100,100),(300,200)<|box_end|>"),
        ("qwen2.5-vl", '```json\n[\n\t{"point_2d": [196, 58.8], "label": "x"}\n]\n```'),
        ("qwen2.5-vl", '<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [196, 58.8]}}\n</tool_call>'),
        ("qwen3-vl", '{"point_2d": [200, 150]}'),
        ("qwen3-vl", '{"bbox_2d": [100, 100, 300, 200]}'),
        ("qwen3-vl", "<think>Maybe (1, 2)?</think>(200, 150)"),
        ("qwen-vl-chat", "<ref>x</ref><box>(100,100),(300,200)</box>"),
        ("paligemma", "<loc0102><loc0102><loc0204><loc0307> close"),
    ],
)  # fmt: skip
def test_frames_are_the_families(name: str, answer: str) -> None:
    point = registry.families.get(name).parse(SPEC, answer, SIZES).value
    assert point == pytest.approx((200, 60), abs=1)


def test_a_rule_with_its_own_coordinates_ignores_the_family() -> None:
    spec = PromptSpec("screenspot", "pointing", reading=points.SEECLICK)
    family = registry.families.get("qwen2.5-vl")
    assert family.parse(spec, "(0.2,0.15)", SIZES).value == pytest.approx((200, 60))
    assert family.parse(spec, '{"point_2d": [196, 58]}', SIZES).value is None  # three numbers


def test_prompts_that_ask_for_fractions_are_parsed_as_such() -> None:
    prompts = {"lmms-eval": PromptTemplate("Point: {q}")}
    spec = PromptSpec("screenspot", "pointing", "lmms-eval", prompts=prompts)
    family = registry.families.get("qwen3-vl")
    assert family.parse(spec, "[0.2, 0.15]", SIZES).value == pytest.approx((200, 60))


def test_numbers_beyond_any_image_are_no_point() -> None:
    assert registry.families.get("generic").parse(SPEC, "[1e308, 1e999]", SIZES).value is None
