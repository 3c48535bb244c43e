"""What is read from answers as models really write them, corrupt and hostile ones among them."""

from __future__ import annotations

import json
import math
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import registry
from evalkit.errors import UserError
from evalkit.types import Box, ImageSize, Prediction, PromptSpec, Sample

Expected = tuple[float, float, float, float] | None
QWEN = ("qwen-vl", "qwen-vl-chat", "qwen2-vl", "qwen2.5-vl", "qwen3-vl")
ALL = (*QWEN, "generic", "paligemma")
BOXES = PromptSpec("refcoco", "grounding")
HERE = "100, 200, 300, 400"

# Every answer of these names the box 100, 200, 300, 400 in its family's units.
NAMED = [
    '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "label": "left man"}\n]\n```',
    '```json\n{"bbox_2d": [100, 200, 300, 400], "label": "left man"}\n```',
    '```\n[{"bbox_2d": [100, 200, 300, 400]}]\n```',
    '[{"bbox_2d": [100, 200, 300, 400], "label": "left man"}]',
    '{"bbox_2d": [100, 200, 300, 400]}',
    '{"bbox": [100, 200, 300, 400]}',
    "{'bbox_2d': [100, 200, 300, 400], 'label': 'left man'}",
    '{"label": "left man", "bbox_2d":[100,200,300,400]}',
    '{"bbox_2d" : [ 100 , 200 , 300 , 400 ] }',
    '{"bbox_2d": [\n  100,\n  200,\n  300,\n  400\n]}',
    '{"bbox_2d": [[100, 200, 300, 400]]}',
    '{"bbox_2d": [[100, 200, 300, 400], [1, 2, 3, 4]]}',
    '[{"bbox_2d": [100, 200, 300, 400], "label": "a"}, {"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
    '{"bbox_2d": [100.0, 2e2, 300., 400.00]}',
    '{"bbox_2d": [+100, 200, 300, 400]}',
    '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "lab',
    'Sure! Here it is:\n```json\n[{"bbox_2d": [100, 200, 300, 400]}]\n```\nAnything else?',
    '{"label": "sign that says (1, 2, 3, 4)", "bbox_2d": [100, 200, 300, 400]}',
    '{"size": [640, 480, 1, 1], "bbox_2d": [100, 200, 300, 400]}',
    '｛"bbox_2d"：【100，200，300，400】｝',
    "“bbox_2d”：［100、200、300、400］",
    '<think>Maybe {"bbox_2d": [1, 2, 3, 4]}?</think>\n{"bbox_2d": [100, 200, 300, 400]}',
    'Maybe {"bbox_2d": [1, 2, 3, 4]}?</think>\n\n{"bbox_2d": [100, 200, 300, 400]}',
    '<think>\n\n</think>\n\n{"bbox_2d": [100, 200, 300, 400]}',
    '{"bbox_2d": [100, 200, 300, 400]}<|im_end|>',
    "[[100, 200], [300, 400]]", "[(100,200),(300,400)]", "[100,200]-[300,400]", "(100,200) to (300,400)",
    "It goes from (100, 200) to (300, 400).", '{"bbox_2d": [[100, 200], [300, 400]]}',
    '["100", "200", "300", "400"]', "['100','200','300','400']", '{"bbox_2d": "100, 200, 300, 400"}',
    '{"bbox_2d": "[100, 200, 300, 400]"}', '{"bbox_2d": ["100", "200", "300", "400"]}',
    "[100, 200, 300, 400]",
    "[100,200,300,400]",
    "```json\n[100, 200, 300, 400]\n```",
    "(100, 200, 300, 400)",
    "The man is at [100, 200, 300, 400].",
    "The bounding box is (100, 200, 300, 400), on the left.",
    "[[100, 200, 300, 400]]",
    "[[100, 200, 300, 400], [1, 2, 3, 4]]",
    "[100.0, 200.0, 300.0, 400.0]",
    "<|object_ref_start|>left man<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>",
    "<|object_ref_start|>man (2, 3) or (4,5),(6,7)<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>",
    "<|box_start|>(100,200),(300,400)<|box_end|><|box_start|>(1,2),(3,4)<|box_end|>",
    "left man(100,200),(300,400)",
    "<ref>left man</ref><box>(100,200),(300,400)</box>",
    "<ref>man (second)</ref><box>(100,200),(300,400)</box><|endoftext|>",
    "<box>(100,200),(300,400)</box>",
    "<box> (100,200), (300,400) </box>",
    "(100,200),(300,400)</box>",
    " (100,200),(300,400)",
    "(100,200),(300,400)",
    "(100, 200), (300, 400)",
    "( 100,200 ),( 300,400 )",
    "(100,200)(300,400)",
    "(100,200) (300,400)",
    "((100,200),(300,400))",
    "()(100,200),(300,400)",
    "（100，200），（300，400）",
    "(100，200),(300，400)",
    "它在（100，200），（300，400）。",
    "(100,\n200),(300,400)",
    "The man is from (100,200),(300,400) in the image.",
]  # fmt: skip

# Nothing can be read from these, whatever the family.
UNREADABLE = [
    "", " ", "\n\n", "left man", "I cannot see a left man in the image.", "None", "[]", "{}", "```json\n[]\n```",
    '{"bbox_2d": []}', '{"bbox_2d": null}', '{"bbox_2d": [100, 200, 300]}', '{"bbox_2d": [100, 200, 300, 400, 500]}',
    '{"bbox_2d": [100, 200, 300, 400', '{"bbox_2d": [100, 200, 3', '{"bbox_2d": [100 200 300 400]}',
    '{"bbox_2d": [NaN, 200, 300, 400]}', '{"bbox_2d": [100, 200, 300, Infinity]}', '{"bbox_2d": [1e309, 200, 300, 400]}',
    '{"bbox_2d": [100, 200, 300, -1e309]}', "[1e999, 0, 1, 1]", "(nan,9),(93,967)", "(inf,522),(260,886)", "(100,200),(1e400,5)",
    "[[100, 200], [300, 200], [300, 400], [100, 400]]", '{"bbox_2d": [[100, 200], [300, 200], [300, 400]]}',
    "[[100, 200, 300], [400, 500, 600]]", "(100, 200) to (300", '{"bbox_2d": "100, 200, 300"}',
    '{"bbox_2d": ["a", "b", "c", "d"]}', '{"point_2d": [100, 200]}', '{"point_2d": [100, 200], "label": "man"}',
    "100, 200, 300, 400", "between 100, 200, 300, 400 somewhere", "100 200 300 400", "(100,200),(300", "(100,200),(300 400)",
    "(100,200)", "(100,200),(,)", "(,),(,)621311825823", "x1=100 y1=200 x2=300 y2=400", "<box></box>",
    "<|box_start|>(100,200),<|box_end|>", "<think>It is at [100, 200, 300, 400].", "<think>[100, 200, 300, 400]</think>",
    "<think>[100, 200, 300, 400]</think> There is none.", "</think><think>(100,200),(300,400)", "[0x1, 0x2, 0x3, 0x4]",
    "[1_0, 2_0, 3_0, 4_0]", "[--1, 2, 3, 4]", "[1, 2, 3, 4)x"[:11], "\x00\ud800", "<loc0001><loc0002><loc0003>",
]  # fmt: skip


def image_size_of(family: str) -> ImageSize:
    """The image size in which the units of ``NAMED`` are easily converted by hand."""
    return (
        ImageSize((999, 1998), (999, 1998))
        if family in ("qwen-vl", "qwen-vl-chat")
        else ImageSize((1000, 500), (2000, 250))
    )


NAMED_IN_PIXELS: dict[str, Box] = {
    "qwen-vl": (100, 400, 300, 800),  # × 999 / 999, × 1998 / 999
    "qwen-vl-chat": (100, 400, 300, 800),
    "qwen2-vl": (100, 100, 300, 200),  # × 1000 / 1000, × 500 / 1000
    "qwen2.5-vl": (50, 400, 150, 800),  # × 1000 / 2000, × 500 / 250
    "qwen3-vl": (100, 100, 300, 200),
    "generic": (100_000, 100_000, 300_000, 200_000),  # fractions are what was asked for: never guessed to be pixels
}


def read(family: str, text: str, image_size: ImageSize | None = None, spec: PromptSpec = BOXES) -> Any:
    return registry.families.get(family).parse(spec, text, (image_size or image_size_of(family),)).value


@pytest.mark.parametrize("text", NAMED)
@pytest.mark.parametrize("family", NAMED_IN_PIXELS)
def test_spellings_of_one_box(family: str, text: str) -> None:
    assert read(family, text) == pytest.approx(NAMED_IN_PIXELS[family])


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("family", ALL)
def test_unparsable_answers(family: str, text: str) -> None:
    assert registry.families.get(family).parse(BOXES, text, (image_size_of(family),)) == Prediction(None)


@pytest.mark.parametrize(
    ("family", "text", "box"),
    [
        # Numbers stay in their convention however large or small, negative or inverted they are.
        ("qwen-vl", "(0,0),(999,999)", (0, 0, 999, 1998)),
        ("qwen-vl", "(-5,-5),(1004,1004)", (-5, -10, 1004, 2008)),
        ("qwen-vl", "(1200,1200),(2000,2000)", (1200, 2400, 2000, 4000)),
        ("qwen-vl", "(300,400),(100,200)", (300, 800, 100, 400)),
        ("qwen-vl", "(0.5,0.5),(0.75,0.75)", (0.5, 1, 0.75, 1.5)),
        ("qwen2-vl", "(0,0),(999,999)", (0, 0, 999, 499.5)),
        ("qwen2-vl", "(0,0),(1000,1000)", (0, 0, 1000, 500)),
        ("qwen2-vl", "(0.1,0.2),(0.3,0.4)", (0.1, 0.1, 0.3, 0.2)),
        ("qwen2-vl", "(300,400),(100,200)", (300, 200, 100, 100)),
        ("qwen2-vl", "(-10,-20),(30,40)", (-10, -10, 30, 20)),
        ("qwen2.5-vl", "[0, 0, 2000, 250]", (0, 0, 1000, 500)),
        ("qwen2.5-vl", '{"bbox_2d": [0.5, 0.5, 1, 1]}', (0.25, 1, 0.5, 2)),
        ("qwen2.5-vl", '{"bbox_2d": [300, 200, 100, 50]}', (150, 400, 50, 100)),
        ("qwen2.5-vl", '{"bbox_2d": [-4, 0, 9999, 100]}', (-2, 0, 4999.5, 200)),
        ("qwen3-vl", '{"bbox_2d": [0, 0, 1000, 1000]}', (0, 0, 1000, 500)),
        ("qwen3-vl", '{"bbox_2d": [300, 400, 100, 200]}', (300, 200, 100, 100)),
        ("qwen3-vl", '{"bbox_2d": [1500, 0, 2000, 10]}', (1500, 0, 2000, 5)),
        ("qwen3-vl", '{"bbox_2d": [0.2, 0.2, 0.4, 0.4]}', (0.2, 0.1, 0.4, 0.2)),
        ("generic", "[0.1, 0.2, 0.3, 0.4]", (100, 100, 300, 200)),
        ("generic", "The box is (0.1, .2, 0.3, 0.4).", (100, 100, 300, 200)),
        ("generic", "[0, 0, 1, 1]</s>", (0, 0, 1000, 500)),
        ("generic", "[0.3, 0.4, 0.1, 0.2]", (300, 200, 100, 100)),
        ("generic", '{"bbox": [0.1, 0.2, 0.3, 0.4]}', (100, 100, 300, 200)),
        ("generic", '{"box": [1e-1, 2E-1, 0.3, 0.4]}', (100, 100, 300, 200)),
        ("generic", "[-0.1, 0, 1.1, 1]", (-100, 0, 1100, 500)),
    ],
)  # fmt: skip
def test_numbers_stay_in_their_convention(family: str, text: str, box: Box) -> None:
    assert read(family, text) == pytest.approx(box)


LOCS = "<loc0128><loc0256><loc0512><loc1023>"  # y1 x1 y2 x2
AT = (256_000 / 1023, 64_000 / 1023, 1000, 256_000 / 1023)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (LOCS, AT),
        (f"{LOCS} left man", AT),
        (f"{LOCS} left man<eos>", AT),
        (f" {LOCS} left man ; <loc0001><loc0002><loc0003><loc0004> dog", AT),
        ("<bos>detect left man\n" + LOCS, AT),
        ("<loc0128> <loc0256> <loc0512> <loc1023> man", AT),
        ("<loc0128>\n<loc0256>\n<loc0512>\n<loc1023>", AT),
        (f"{LOCS}<seg010><seg111> man", AT),
        ("<loc0000><loc0000><loc0000><loc0000> man", (0, 0, 0, 0)),
        ("<loc0512><loc1023><loc0128><loc0256> man", (1000, 256_000 / 1023, 256_000 / 1023, 64_000 / 1023)),
        ("<loc0128><loc0256><loc0512>", None),
        ("<loc128><loc256><loc512><loc999>", None),
        ("<loc0128><loc0256>man<loc0512><loc1023>", None),
        ("0128 0256 0512 1023", None),
        ("[128, 256, 512, 1023]", None),
        ("(128,256),(512,1023)", None),
        ('{"bbox_2d": [128, 256, 512, 1023]}', None),
        ("<loc०१२८>" * 4, None),
    ],
)
def test_boxes_of_prefix_model(text: str, box: Expected) -> None:
    assert read("paligemma", text, ImageSize((1000, 500), (1000, 500))) == (None if box is None else pytest.approx(box))


@pytest.mark.parametrize("family", ["qwen-vl", "qwen-vl-chat", "qwen2-vl", "qwen2.5-vl", "qwen3-vl", "generic"])
@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", (100, 100, 300, 200)),
        ("(0.1, 0.2, 0.3, 0.4)", (100, 100, 300, 200)),
        ("The region is [0.1,0.2,0.3,0.4].", (100, 100, 300, 200)),
        ('{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}', (100, 100, 300, 200)),
        ("(0.1,0.2),(0.3,0.4)", (100, 100, 300, 200)),
        ("[0, 0, 1, 1]", (0, 0, 1000, 500)),
        ("[100, 200, 300, 400]", (100_000, 100_000, 300_000, 200_000)),
        ("0.1, 0.2, 0.3, 0.4", None),
        ("[0.1, 0.2, 0.3]", None),
    ],
)
def test_under_lmms_eval_boxes_are_fractions_whatever_family(family: str, text: str, box: Expected) -> None:
    found = read(
        family, text, ImageSize((1000, 500), (2000, 250)), registry.tasks.get("refcoco").prompt_spec("lmms-eval")
    )
    assert found == (None if box is None else pytest.approx(box))


@pytest.mark.parametrize(
    ("family", "box"),
    [
        ("qwen-vl", (100, 100, 300, 200)),  # thousandths: only eval_mm divides by 999
        ("qwen-vl-chat", (100, 100, 300, 200)),
        ("qwen2-vl", (100, 100, 300, 200)),
        ("qwen2.5-vl", (50, 400, 150, 800)),
        ("qwen3-vl", (100, 100, 300, 200)),
    ],
)
def test_under_vlmevalkit_boxes_follow_family(family: str, box: Box) -> None:
    spec = registry.tasks.get("refcoco").prompt_spec("vlmevalkit")
    assert read(family, "(100,200),(300,400)", ImageSize((1000, 500), (2000, 250)), spec) == pytest.approx(box)


@pytest.mark.parametrize("family", ALL)
def test_box_needs_frame_last_one(family: str) -> None:
    plugin = registry.families.get(family)
    text = "<loc0100><loc0100><loc0200><loc0200>" if family == "paligemma" else "[100, 100, 200, 200]"
    assert plugin.parse(BOXES, text, ()) == Prediction(None)
    small, large = ImageSize((100, 100), (100, 100)), ImageSize((1000, 1000), (1000, 1000))
    assert plugin.parse(BOXES, text, (small, large)) == plugin.parse(BOXES, text, (large,))


# ----------------------------------------------------------------------------------------- eval_mm's own reading of it

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "refcoco_iou.json").read_text())
QWEN_TEXTS = [case for case in GOLDEN["cases"] if case["kind"] == "qwen_text"]


@pytest.mark.parametrize("case", QWEN_TEXTS, ids=[case["id"] for case in QWEN_TEXTS])
def test_parses_what_qwen_vls_scorer_parses(case: dict[str, Any]) -> None:
    """``evaluate_grounding.py``: where it finds four finite numbers, the same box; it gives up earlier than we do."""
    size = (case["inputs"]["width"], case["inputs"]["height"])
    value = read("qwen-vl", case["inputs"]["answer"], ImageSize(size, size))
    theirs = case["expected"]["parsed_box_pixels_f32"]
    if all(isinstance(v, float) for v in theirs) and any(theirs):
        assert value == pytest.approx(theirs, rel=1e-6, abs=1e-4)
    elif value is not None:
        assert theirs == [0.0] * 4, "only what it could not read at all is read in another way"


# -------------------------------------------------------------------------------------------------------------- letters

LETTERS: list[tuple[str, str | None]] = [
    ("B", "B"), ("(b)", "B"), ("B. blue", "B"), ("blue", "B"), ("The answer is B.", "B"), ("答案是B", "B"), ("B<|im_end|>", "B"),
    ("<|im_start|>B<|im_end|>", "B"), ("<think>A? No. Answer: C</think>\n\nB", "B"), ("A? Answer: C</think>B.", "B"),
    ("<think></think>Answer: B", "B"), ("Red? <|begin_of_box|>B<|end_of_box|>", "B"), ("<answer>B</answer>", "B"),
    ("Option A is wrong. The correct answer is B.", "B"), ("D", None), ("A or B", None), ("<think>B", None), ("<think>B</think>", None),
    ("", None), (" ", None), ("A dog", None), ("\ud800", None),
]  # fmt: skip
COLORS = ("red", "blue", "green")


@pytest.mark.parametrize(("text", "letter"), LETTERS)
@pytest.mark.parametrize("family", [*QWEN, "generic"])
def test_letters(family: str, text: str, letter: str | None) -> None:
    """Without thoughts and special tokens, by the declared grammar (``tests/letters``)."""
    spec = registry.tasks.get("ai2d").prompt_spec("official")
    assert registry.families.get(family).parse(spec, text, (), COLORS).value == letter


@pytest.mark.parametrize("family", [*QWEN, "generic"])
@pytest.mark.parametrize(("text", "letter"), [("B. blue", "B"), ("b.", "B"), ("(B)", "B"), ("The answer is B.", None)])
def test_lmms_evals_rule_reads_under_its_protocol(family: str, text: str, letter: str | None) -> None:
    spec = registry.tasks.get("ai2d").prompt_spec("lmms-eval")
    assert registry.families.get(family).parse(spec, text, (), COLORS).value == letter


@pytest.mark.parametrize("family", [*QWEN, "generic"])
@pytest.mark.parametrize(
    ("text", "official", "vlmevalkit"),
    [
        ("b", "B", None),
        ("Answer: B", "B", "B"),
        ("Option A is wrong. The correct answer is B.", "B", "B"),
        ("A thing of blue", "B", "A"),
        ("B is the colour that I see in this image", None, None),
    ],
)
def test_vlmevalkits_rule_reads_under_its_protocol(
    family: str, text: str, official: str | None, vlmevalkit: str | None
) -> None:
    for protocol, letter in (("official", official), ("vlmevalkit", vlmevalkit)):
        spec = registry.tasks.get("scienceqa_img").prompt_spec(protocol)
        assert registry.families.get(family).parse(spec, text, (), ("red thing", "blue", "green")).value == letter


# ---------------------------------------------------------------------------------------------------------------- texts

TEXTS: list[tuple[str, str | None]] = [
    ("red", "red"), (" red\n", "red"), ("Red.", "Red."), ("two words", "two words"), ("12.5 %", "12.5 %"), ("", None), (" \n\t", None),
    ("<think>Blue? No.</think>\n\nred", "red"), ("Blue? No.</think>red", "red"), ("<think>so red", None),
    ("<think>red</think>", None), ("红色", "红色"), ("A\nB", "A\nB"), ("[1, 2, 3, 4]", "[1, 2, 3, 4]"), ("a < b", "a < b"),
    ("<b>x</b>", "<b>x</b>"), ("\ud800", "\ud800"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), TEXTS)
@pytest.mark.parametrize("family", ALL)
def test_texts(family: str, text: str, value: str | None) -> None:
    assert read(family, text, spec=PromptSpec("vqav2", "vqa")) == value
    assert read(family, text, spec=PromptSpec("docvqa", "document")) == value
    assert read(family, text, spec=PromptSpec("coco_caption", "caption")) == value


@pytest.mark.parametrize(
    ("family", "text", "value"),
    [
        ("qwen-vl", "<ref>A man</ref><box>(1,2),(3,4)</box> on a horse<|endoftext|>", "A man(1,2),(3,4) on a horse"),
        ("qwen-vl-chat", "red<|im_end|>\n<|endoftext|>", "red"),
        ("qwen-vl", "<|extra_0|>red", "red"),
        ("qwen2-vl", "red<|im_end|>", "red"),
        ("qwen2.5-vl", "<|im_start|>red<|im_end|><|endoftext|>", "red"),
        ("qwen3-vl", "<|endoftext|>", None),
        ("generic", "red</s>", "red"),
        ("generic", "<bos>red<end_of_turn><eos>", "red"),
        ("paligemma", "red<eos>", "red"),
        ("paligemma", "<loc0001><loc0002><loc0003><loc0004> man<eos>", "man"),
    ],
)
def test_special_tokens_are_no_part_of_text(family: str, text: str, value: str | None) -> None:
    assert read(family, text, spec=PromptSpec("vqav2", "vqa")) == value


# ------------------------------------------------------------------------------------------------------- hostile answers

LONG = 1_000_000
HOSTILE = {
    "digits": "1" * LONG,
    "open": "(" * LONG,
    "brackets": "[" * LONG,
    "digits in a bracket": "[" + "1" * LONG,
    "numbers": "[" + "1," * (LONG // 2),
    "pairs": "(1,1)," * (LONG // 6),
    "almost boxes": "[1,2,3," * (LONG // 7),
    "spaces": "[1,2,3" + " " * LONG,
    "spaces between": "(1,2)" + " " * LONG + "x",
    "keys": '"bbox_2d": ' * (LONG // 11),
    "nested keys": '"bbox_2d": [' * (LONG // 12),
    "nested JSON": '{"bbox_2d": [' + "[" * LONG + "1,2,3,4" + "]" * LONG,
    "special": "<|" + "a" * LONG,
    "specials": "<|a" * (LONG // 3),
    "thinking": "<think>" * (LONG // 7),
    "thought": "</think>" * (LONG // 8),
    "locs": "<loc0001><loc0002><loc0003>x" * (LONG // 28),
    "loc and spaces": "<loc0001>" + " " * LONG,
    "answers": "answer " * (LONG // 7),
    "answer and spaces": "answer" + " " * LONG + "x",
    "an A and spaces": "answer A" + " " * LONG + "x",
    "stars": "*" * LONG,
    "stars and a letter": "*" * LONG + "b",
    "breaks": "A" + "\t" * LONG + "x",
    "dots": "." * LONG + "1" * LONG,
    "exponents": "[1e" * (LONG // 3),
    "Chinese": "（1，2），" * (LONG // 6),
    "accents": "B" + "\u0301\u0316" * (LONG // 2),
}


@pytest.mark.parametrize("family", ["qwen-vl", "qwen2.5-vl", "generic", "paligemma"])
@pytest.mark.parametrize("name", HOSTILE)
def test_long_answers_parse_quickly(family: str, name: str) -> None:
    """Every family reads with the same few patterns; the four are those that add their own."""
    plugin, image_size = registry.families.get(family), image_size_of(family)
    asks = [BOXES, PromptSpec("vqav2", "vqa"), *([] if family == "paligemma" else [PromptSpec("ai2d", "choice")])]
    for text in (HOSTILE[name][:10_000], HOSTILE[name]):
        for spec in asks:
            begun = time.process_time()
            plugin.parse(spec, text, (image_size,))
            assert time.process_time() - begun < 1, (spec.kind, len(text))


PIECES = st.sampled_from([
    '"bbox_2d": [', '{"bbox": [', "[", "]", "(", ")", "),(", ",", " ", "\n", "1", "-2.5", "0.5", "1e309", "1e-400", "NaN", "9" * 400,
    "<box>", "</box>", "<|box_start|>", "<|box_end|>", "<ref>", "<think>", "</think>", "<loc0001>", "<loc9999>", "A", "B", ".", "answer",
    "（", "），（", "，", "】", "\u0661", "\ud800", "\x00", "```json",
])  # fmt: skip


@cache
def _specs() -> list[PromptSpec]:
    """One of each kind under each protocol; the registry takes longer to find a task than an answer takes to be read."""
    tasks = [registry.tasks.get(name) for name in ("refcoco", "vqav2", "ai2d", "coco_caption")]
    return [task.prompt_spec(protocol) for task in tasks for protocol in ("official", "lmms-eval", "vlmevalkit")]


@pytest.mark.parametrize("family", ALL)
@given(text=st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
def test_no_text_raises_and_boxes_are_finite(family: str, text: str) -> None:
    plugin, size = registry.families.get(family), image_size_of(family)
    for spec in _specs():
        try:
            value = plugin.parse(spec, text, (size,)).value  # type: ignore[arg-type]
        except UserError:
            assert family in ("generic", "paligemma"), "a cell that is not defined"
            continue
        if spec.kind == "grounding":
            assert value is None or (len(value) == 4 and all(map(math.isfinite, value)))
        else:
            assert value is None or (isinstance(value, str) and value.strip())


# ----------------------------------------------------------------------------------------------------- there and back

UNITS = [
    *[(family, "official", 999) for family in ("qwen-vl", "qwen-vl-chat")],
    *[(family, "vlmevalkit", 1000) for family in ("qwen-vl", "qwen-vl-chat", "qwen2-vl", "qwen3-vl")],
    ("qwen2-vl", "official", 1000),
    ("qwen3-vl", "official", 1000),
    ("qwen2.5-vl", "official", None),
    ("qwen2.5-vl", "vlmevalkit", None),
    ("generic", "official", 10_000),
    ("paligemma", "official", 1023),
    *[(family, "lmms-eval", 10_000) for family in (*QWEN, "generic")],
]


@pytest.mark.parametrize(("family", "protocol", "units"), UNITS)
@given(data=st.data())
def test_rendered_answers_are_parsed_back(family: str, protocol: str, units: int | None, data: st.DataObject) -> None:
    """Within one unit of the convention: ``units`` an image, or as many as the encoder saw pixels (None)."""
    plugin, spec = registry.families.get(family), registry.tasks.get("refcoco").prompt_spec(protocol)
    size = data.draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
    try:
        image_size = plugin.image_size(size)
    except ValueError:
        return  # too narrow for the processor
    width, height = size
    xs = sorted(data.draw(st.tuples(*[st.floats(0, width)] * 2)))
    ys = sorted(data.draw(st.tuples(*[st.floats(0, height)] * 2)))
    box = (xs[0], ys[0], xs[1], ys[1])
    expression = data.draw(st.text(alphabet='abc "\\(){},0中', max_size=20))
    sample = Sample("1", (), expression, (box,), "1")
    value = plugin.parse(spec, plugin.answer(spec, sample, image_size), (image_size,)).value
    assert value is not None
    wide, high = (units, units) if units else image_size.resized
    for read_, meant, unit in zip(value, box, (width / wide, height / high) * 2, strict=True):
        assert abs(read_ - meant) <= unit * 1.0001


@pytest.mark.parametrize("family", ALL)
@given(words=st.text(alphabet="abc ,.A-Z09中\n", min_size=1))
def test_answers_in_words_round_trip(family: str, words: str) -> None:
    if not words.strip():
        return
    plugin, image_size = registry.families.get(family), image_size_of(family)
    for task, kind in (("coco_caption", "caption"), ("vqav2", "vqa"), ("docvqa", "document")):
        spec = PromptSpec(task, kind)  # type: ignore[arg-type]
        said = plugin.answer(spec, Sample("1", (), "", (words,), "1"), image_size)
        assert plugin.parse(spec, said, ()).value == words.strip()
