from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.model.families.qwen2_5_vl import FAMILY
from evalkit.types import Decoding, ImagePart, ImageSize, Kind, Message, PromptSpec, Sample, TextPart

IMAGE_SIZE = ImageSize(original=(640, 480), resized=(644, 476))
SAME = ImageSize(original=(100, 100), resized=(100, 100))


class Ref:
    name = "image"


def _sample(text: str = "What color is the cat?", options: tuple[str, ...] = ()) -> Sample:
    return Sample("1", (Ref(),), text, (), "1", options=options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "sample", "text"),
    [
        ("vqa", _sample(), "What color is the cat?\nPlease try to answer the question with short words or phrases if possible."),
        ("document", _sample("Total?"), "Total?\nPlease try to answer the question with short words or phrases if possible."),
        ("caption", _sample(""), "Describe this image in one sentence."),
        ("grounding", _sample("left man"), "Locate left man in this image and output the bbox coordinates in JSON format."),
        (
            "choice",
            _sample("Which?", ("red", "blue")),
            "Question: Which?\nOptions:\nA. red\nB. blue\nPlease select the correct answer from the options above.",
        ),
    ],
)  # fmt: skip
def test_prompts_are_official_ones(kind: Kind, sample: Sample, text: str) -> None:
    assert FAMILY.prompt(PromptSpec("any", kind), sample) == (
        Message("user", (ImagePart(sample.images[0]), TextPart(text))),
    )


BOX = (10.0, 20.0, 30.0, 40.0)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ('```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "left man"}\n]\n```', BOX),
        ('[{"bbox_2d": [10, 20, 30, 40], "label": "a"}, {"bbox_2d": [1, 2, 3, 4], "label": "b"}]', BOX),
        ('{"bbox": [10, 20, 30, 40]}', BOX),
        ("{'bbox_2d': [10, 20, 30, 40]}", BOX),
        ('Sure! {"label": "x", "bbox_2d": [ 10.0,20 , 30,40.0 ]} is it.', BOX),
        ('```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "lab', BOX),
        ('{"bbox_2d": [[10, 20, 30, 40]]}', BOX),
        ("[10, 20, 30, 40]", BOX),
        ("```json\n[10, 20, 30, 40]\n```", BOX),
        ('{"bbox_2d": [-1, 20, 30, 40]}<|im_end|>', (-1.0, 20.0, 30.0, 40.0)),
        ('{"bbox_2d": [30, 40, 10, 20]}', (30.0, 40.0, 10.0, 20.0)),
        ('{"bbox_2d": [10, 20, 30]}', None),
        ('{"bbox_2d": [10, 20, 30, 40, 50]}', None),
        ('{"point_2d": [10, 20]}', None),
        ("between 10, 20, 30, 40 somewhere", None),
        ("there are none", None),
        ("", None),
    ],
)
def test_boxes_are_parsed_without_guessing(text: str, box: tuple[float, ...] | None) -> None:
    assert FAMILY.parse(PromptSpec("any", "grounding"), text, (SAME,)).value == box


def test_boxes_are_in_pixels_of_the_original() -> None:
    value = FAMILY.parse(PromptSpec("any", "grounding"), '{"bbox_2d": [0, 0, 644, 476]}', (IMAGE_SIZE,)).value
    assert value == pytest.approx((0, 0, 640, 480))
    value = FAMILY.parse(PromptSpec("any", "grounding"), '{"bbox_2d": [322, 119, 644, 238]}', (IMAGE_SIZE,)).value
    assert value == pytest.approx((320, 120, 640, 240))


@given(st.tuples(*[st.integers(0, 2000)] * 4), st.tuples(*[st.integers(28, 2000)] * 4))
def test_parsing_inverts_rendering(box: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    image_size = ImageSize(original=sizes[:2], resized=sizes[2:])  # type: ignore[arg-type]
    sx, sy = sizes[2] / sizes[0], sizes[3] / sizes[1]
    written = [box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy]
    text = f'{{"bbox_2d": [{", ".join(f"{v:.6f}" for v in written)}]}}'
    assert FAMILY.parse(PromptSpec("any", "grounding"), text, (image_size,)).value == pytest.approx(box, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("B.", "B"), ("(B)", "B"), ("B. blue", "B"), ("**B**", "B"), ("The correct answer is B.", "B"),
        ("Answer: (C)", "C"), ("B<|im_end|>", "B"), ("Blue", None), ("a dog", None), ("", None), ("I think so", None), ("A dog", None),
        ("B: blue", "B"), ("**C.** blue", "C"), ("Option D", "D"),
    ],
)  # fmt: skip
def test_letters(text: str, letter: str | None) -> None:
    assert FAMILY.parse(PromptSpec("any", "choice"), text, ()).value == letter


@pytest.mark.parametrize(("text", "value"), [(" red\n", "red"), ("red<|im_end|>", "red"), ("  ", None), ("", None)])
def test_texts_are_stripped_and_nothing_is_unparsed(text: str, value: str | None) -> None:
    prediction = FAMILY.parse(PromptSpec("any", "vqa"), text, ())
    assert prediction.value == value
    assert prediction.parsed == (value is not None)


def test_only_boxes_get_more_tokens_than_task_allows() -> None:
    assert FAMILY.decoding(PromptSpec("any", "vqa"), Decoding(10)) == Decoding(10)
    assert FAMILY.decoding(PromptSpec("any", "grounding"), Decoding(28, 3)) == Decoding(128, 3)
    assert FAMILY.decoding(PromptSpec("any", "grounding"), Decoding(500)) == Decoding(500)
