"""Reasoning before answers, and markers around them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import registry
from evalkit.end_of_turn import ended
from evalkit.reasoning import ANSWER, REASONING, Markers, cut_off_inside, opened_by, split, unwrap
from evalkit.run import raw_answer
from evalkit.types import ImageSize, PromptSpec, Response

HARMONY = "<|channel|>analysis<|message|>Blue?<|end|><|start|>assistant<|channel|>final<|message|>red"

# text, reasoning, answer, rule
SPLIT: list[tuple[str, str, str, str]] = [
    ("red", "", "red", "none"),
    ("", "", "", "none"),
    ("<think>Blue?</think>red", "Blue?", "red", "opened"),
    ("\n<think>\nBlue?\n</think>\n\nred", "Blue?", "\n\nred", "opened"),
    ("<THINK>Blue?</THINK>red", "Blue?", "red", "opened"),
    ("<|im_start|>assistant\n<think>Blue?</think>red", "Blue?", "red", "opened"),
    ("<think></think>red", "", "red", "opened"),
    ("<think>a</think>\n<think>b</think>red", "a\nb", "red", "opened"),
    ("<analysis>easy</analysis><think>b</think>red", "easy\nb", "red", "opened"),
    ("<thinking>Blue?</thinking>red", "Blue?", "red", "opened"),
    ("<thought>Blue?</thought>red", "Blue?", "red", "opened"),
    ("<reasoning>Blue?</reasoning>red", "Blue?", "red", "opened"),
    ("<seed:think>Blue?</seed:think>red", "Blue?", "red", "opened"),
    ("◁think▷Blue?◁/think▷red", "Blue?", "red", "opened"),
    ("[THINK]Blue?[/THINK]red", "Blue?", "red", "opened"),
    ("<|begin_of_thought|>Blue?<|end_of_thought|>red", "Blue?", "red", "opened"),
    ("<|START_THINKING|>Blue?<|END_THINKING|>red", "Blue?", "red", "opened"),
    (HARMONY, "Blue?", "red", "opened"),
    ("<|channel>thought\nBlue?<channel|>red", "Blue?", "red", "opened"),
    ("Here are my reasoning steps:\nBlue?\n[BEGIN FINAL RESPONSE]red", "Blue?", "red", "opened"),
    ("<think>As asked, <think> steps </think> first. Blue?</think>red", "As asked, <think> steps </think> first. Blue?", "red", "opened"),
    ("<think>\n<think>Blue?</think>red", "<think>Blue?", "red", "opened"),
    # The prompt opened it.
    ("Blue?</think>red", "Blue?", "red", "closed"),
    ("</think>red", "", "red", "closed"),
    ("Blue?◁/think▷red", "Blue?", "red", "closed"),
    ("Blue? <think> No. </think> So </think>red", "Blue? <think> No. </think> So", "red", "closed"),
    # The limit cut it off.
    ("<think>Blue?", "Blue?", "", "unfinished"),
    ("<think>", "", "", "unfinished"),
    ("<seed:think>Blue?</think>red", "Blue?</think>red", "", "unfinished"),
    ("</think><think>Blue?", "Blue?", "", "unfinished"),
    ("<think>As asked, <think> steps </think> first. Blue?", "As asked, <think> steps </think> first. Blue?", "", "unfinished"),
    ("<|channel|>analysis<|message|>Blue?", "Blue?", "", "unfinished"),
    ("<SUMMARY>It is</SUMMARY><REASONING>Blue?", "It is</SUMMARY><REASONING>Blue?", "", "unfinished"),
    # It is no reasoning where it does not open the answer.
    ("red <think>or blue</think>", "", "red <think>or blue</think>", "none"),
    ("the sign says <think>", "", "the sign says <think>", "none"),
    ('[{"label": "<think>clock</think>"}]', "", '[{"label": "<think>clock</think>"}]', "none"),
    ('[{"label": "clock</think>"}]', "", '[{"label": "clock</think>"}]', "none"),
    ('```json\n[{"label": "<thinking>"}]\n```', "", '```json\n[{"label": "<thinking>"}]\n```', "none"),
    ("<think>Blue?</think>[{'label': '</think>'}]", "Blue?", "[{'label': '</think>'}]", "opened"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reasoning", "answer", "rule"), SPLIT)
def test_reasoning_is_split_from_answer(text: str, reasoning: str, answer: str, rule: str) -> None:
    parts = split(text)
    assert (parts.reasoning, parts.answer, parts.rule) == (reasoning, answer, rule)
    assert parts.complete == (rule != "unfinished")


LONG = "Is it blue? I think that it is red, because of the colour."
# text with fewer closing markers than opening ones, the answer if the model ended its turn
ONE_CLOSING: list[tuple[str, str]] = [
    (f"<think>a <think>{LONG}</think> b", " b"),
    (f"<think>a <think>{LONG}</think> b <think> c", " b <think> c"),
    (f"<think>a <think>{LONG} <think>{LONG}</think> c</think> b", " b"),
    (f"<think>a <think>{LONG}</think><think>c</think>b", "b"),
    (f"<think>\nUse <think> tags.\n{LONG}</think>b", "b"),
    (f"[THINK]a [THINK]{LONG}[/THINK] b", " b"),
]


@pytest.mark.parametrize(("text", "answer"), ONE_CLOSING)
def test_one_closing_marker_for_two_ends_reasoning_if_the_model_ended_its_turn(text: str, answer: str) -> None:
    assert split(text).answer == split(text, ended=True).answer == answer
    for otherwise in (False, None):
        parts = split(text, ended=otherwise)
        assert (parts.answer, parts.complete, parts.rule) == ("", False, "unfinished")
        assert parts.reasoning == text.partition(">" if text.startswith("<") else "]")[2].strip()
        assert cut_off_inside(text, REASONING, otherwise)
    assert not cut_off_inside(text, REASONING, True)


@pytest.mark.parametrize(
    "text",
    [
        *(text for text, *_ in SPLIT),
        f"<think>a <think>{LONG}</think> c</think> red, see <think>",
        f"<think>In `<think>` and so on. {LONG}</think>red",
        f"<think>In “<think>” and so on. {LONG}</think>red",
        f"<think><think> {LONG}</think>red",
        f"<|channel|>analysis<|message|>{LONG}<|channel|>analysis<|message|>{LONG}<|channel|>final<|message|>red",
    ],
)
def test_other_reasoning_is_split_alike_however_the_answer_ended(text: str) -> None:
    assert split(text) == split(text, ended=None) == split(text, ended=False)


def test_how_an_answer_ended() -> None:
    assert [ended("a", finish) for finish in ("stop", "length", None)] == [True, False, None]
    assert [ended("a<|im_end|>\n", finish) for finish in ("stop", "length", None)] == [True, True, True]


@pytest.mark.parametrize("markers", REASONING, ids=lambda markers: markers.opening)
def test_every_pair_of_markers(markers: Markers) -> None:
    opening, closing = markers.opening, markers.closing
    assert split(f"{opening}hm{closing}red").answer == "red"
    assert split(f"hm{closing}red").answer == "red"
    assert not split(f"{opening}hm").complete
    assert opened_by(f"assistant\n{opening}\n") == f"{opening}\n"
    assert opened_by(f"assistant\n{opening}\n\n{closing}\n\n") == ""
    assert opened_by(f"Reason in {opening} first.<|im_end|>\n<|im_start|>assistant\n") == ""


UNWRAPPED: list[tuple[str, str]] = [
    ("<answer>red</answer>", "red"),
    ("<answer> red </answer><|im_end|>", " red "),
    ("It is a car. <answer>red</answer>", "red"),
    ("<answer>blue</answer> No: <answer>red</answer>", "red"),
    ("<answer>red", "red"),
    ("red</answer>", "red"),
    ("<ANSWER>red</ANSWER>", "red"),
    ("<answer><|begin_of_box|>red<|end_of_box|></answer>", "red"),
    ("The colour is <|begin_of_box|>red<|end_of_box|>.", "red"),
    ("<|begin_of_solution|>red<|end_of_solution|>", "red"),
    ("<|START_RESPONSE|>red<|END_RESPONSE|>", "red"),
    ("[BEGIN FINAL RESPONSE]\nred\n[END FINAL RESPONSE]", "\nred\n"),
    ("<CONCLUSION>red</CONCLUSION>", "red"),
    ("<response>red</response>", "red"),
    ("\\boxed{red}", "red"),
    ("So it is $\\boxed{\\text{dark red}}$.", "dark red"),
    ("\\boxed{\\mathbf{\\text{red}}}", "red"),
    ("\\boxed{50\\%}", "50%"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{1} then \\boxed{2}", "2"),
    ("\\boxed{re", "re"),
    ("<answer>\\boxed{red}</answer>", "red"),
    # No answer is wrapped in these.
    ("red", "red"),
    ("", ""),
    ("use the <output> tag", "use the <output> tag"),
    ("a <b>red</b> car", "a <b>red</b> car"),
    ('[{"bbox_2d": [1, 2, 3, 4], "label": "<answer>x</answer>"}]', '[{"bbox_2d": [1, 2, 3, 4], "label": "<answer>x</answer>"}]'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer"), UNWRAPPED)
def test_answers_are_unwrapped(text: str, answer: str) -> None:
    assert unwrap(text) == answer


def test_boxed_answers_can_be_left_as_they_are() -> None:
    assert unwrap("<answer>\\boxed{B}</answer>", boxed=False) == "\\boxed{B}"


# ------------------------------------------------------------------------------------------------------------- families

BOX = ImageSize((1000, 1000), (1000, 1000))
CHAT = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl", "generic")


@pytest.mark.parametrize("family", CHAT)
@pytest.mark.parametrize("around", [
    "{}", "<think>Maybe B, [9, 9, 9, 9].</think>{}", "◁think▷Maybe B, [9, 9, 9, 9].◁/think▷{}", "[THINK]Maybe B, [9, 9, 9, 9].[/THINK]{}",
    "<seed:think>B? [9, 9, 9, 9]</seed:think>{}", "<answer>{}</answer>", "<think>B?</think><answer><|begin_of_box|>{}<|end_of_box|></answer>",
    "\\boxed{{{}}}", "Option B? [9, 9, 9, 9]. Hmm</think>{}",
])  # fmt: skip
def test_every_kind_of_answer_is_unwrapped(family: str, around: str) -> None:
    plugin = registry.families.get(family)

    def value(kind: str, answer: str) -> object:
        return plugin.parse(PromptSpec("x", kind), around.format(answer), (BOX,)).value  # type: ignore[arg-type]

    assert value("vqa", "red") == value("document", "red") == value("caption", "red") == "red"
    assert value("choice", "C") == "C"
    box = value("grounding", "[0.1, 0.2, 0.3, 0.4]")
    assert box == plugin.parse(PromptSpec("x", "grounding"), "[0.1, 0.2, 0.3, 0.4]", (BOX,)).value
    assert box is not None


@pytest.mark.parametrize(
    "label", ["<think>bottom clock</think>", "<think>", "bottom </think>clock", "<answer>9", "◁think▷"]
)
def test_markers_in_label_do_not_hide_its_box(label: str) -> None:
    text = f'[{{"bbox_2d": [0, 341, 220, 578], "label": "{label}"}}, {{"bbox_2d": [1, 2, 3, 4], "label": "x"}}]'
    parse = registry.families.get("qwen2.5-vl").parse
    assert parse(PromptSpec("refcoco", "grounding"), text, (BOX,)).value == (0, 341, 220, 578)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("Let me find it. The red shape could be at [200, 200, 600, 600], or maybe that is the shadow, so I should check the", False),
        ("Let me look. The box may be [10, 10, 50, 50], or else", False),
        ("I see two cars. One is at (10, 10, 50, 50),", False),
        ("The red shape could be at [10, 10, 50, 50], which is", False),
        ("It is near [10, 10, 50, 50], but the shadow", False),
        ("让我看看，可能在（10，10），（50，50），或者", False),
        ("It could be at [10, 10, 50, 50].", True),
        ("Let me look. The box is [10, 10, 50, 50].", True),
        ("Sure! Here it is: [10, 10, 50, 50] on the left", True),
        ("The man at [10, 10, 50, 50] in the image", True),
        ("Let me look. It is [10, 10, 50, 50]", True),
        ('I see it. {"bbox_2d": [10, 10, 50, 50], "label": "the', True),
    ],
)  # fmt: skip
def test_box_mentioned_in_prose_that_breaks_off_is_no_answer(text: str, parsed: bool) -> None:
    found = registry.families.get("qwen3-vl").parse(PromptSpec("refcoco", "grounding"), text, (BOX,))
    assert found.parsed == parsed


@pytest.mark.parametrize(
    ("prompt_end", "text"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\nThe box may be [1, 2, 3, 4]"),
        ("<|im_start|>assistant\n", "The box may be [1, 2, 3, 4]"),
        ("assistant\n<think>\n\n</think>\n\n", "The box may be [1, 2, 3, 4]"),
        ("", "The box may be [1, 2, 3, 4]"),
    ],
)
def test_recorded_answers_begin_with_marker_that_prompt_opened(prompt_end: str, text: str) -> None:
    family = registry.families.get("qwen3-vl")
    response = Response("1", "The box may be [1, 2, 3, 4]", finish="length", prompt_end=prompt_end)
    recorded = raw_answer(response, family)
    assert (recorded.text, recorded.prompt_end) == (text, "")
    assert family.parse(PromptSpec("refcoco", "grounding"), text, (BOX,)).parsed != text.startswith("<think>")


def test_marker_that_answer_repeats_is_recorded_once() -> None:
    response = Response("1", "<think>hm</think>red", prompt_end="assistant\n<think>\n")
    assert raw_answer(response, registry.families.get("generic")).text == "<think>hm</think>red"


def test_family_has_markers_of_its_own() -> None:
    from evalkit.model.families.generic import Generic

    class Own(Generic):
        name = "own"
        reasoning = (*REASONING, Markers("((", "))"))

    family, spec = Own(), PromptSpec("vqav2", "vqa")
    assert family.parse(spec, "((hm))red", ()).value == "red"
    assert family.parse(spec, "<think>hm</think>red", ()).value == "red"
    assert raw_answer(Response("1", "hm", prompt_end="assistant: (("), family).text == "((hm"
    assert registry.families.get("generic").parse(spec, "((hm))red", ()).value == "((hm))red"


# -------------------------------------------------------------------------------------------------------------- hostile

MARKS = [mark for pair in (*REASONING, *ANSWER) for mark in (pair.opening, pair.closing)]
PIECES = st.sampled_from(
    [*MARKS, "\\boxed{", "{", "}", "[", '{"', '"', "red", " ", "\n", ".", "\\text{", "\\", "İ", "\ud800"]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_nothing_is_lost_and_nothing_raises(text: str) -> None:
    parts = split(text)
    assert text.endswith(parts.answer)
    assert unwrap(parts.answer) is not None
    if parts.complete:
        assert split(f"<think>hm</think>{parts.answer}").answer in (parts.answer, split(parts.answer).answer)
    else:
        assert not parts.answer


@pytest.mark.parametrize("piece", [
    *MARKS, "\\boxed{", "<think>x</think>", "a</think>", '["</think>', "<think>a", "<|channel|>", "a b. ", "\\", "[", "<answer>x", "aa ",
])  # fmt: skip
def test_megabyte_is_split_in_no_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    for one in (text, f"<think>{text}", f"x{text}", f"[{text}"):
        begun = time.process_time()
        unwrap(split(one).answer)
        assert time.process_time() - begun < 2


def test_family_declares_its_answer_markers() -> None:
    family = type(registry.families.get("qwen2.5-vl"))()
    family.answer_markers = (Markers("<<", ">>"),)
    vqa, choice = PromptSpec("own", "vqa"), PromptSpec("own", "choice")
    assert family.parse(vqa, "<think>blue?</think>It is <<red>>.", ()).value == "red"
    assert family.parse(vqa, "<answer>red</answer>", ()).value == "<answer>red</answer>"
    assert family.parse(choice, "A? C? <<B>>", (), ("x", "y", "z")).value == "B"
