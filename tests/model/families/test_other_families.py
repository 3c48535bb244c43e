"""Families beyond Qwen: prompts typed out from their sources, frames, and answers in the words of real models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.types import Box, Decoding, ImagePart, ImageRef, ImageSize, Kind, PromptSpec, Sample, Shot

MODEL_TYPES = {
    "internvl": ("internvl", "internvl_chat"),
    "llava-onevision": ("llava_onevision", "llavaonevision1_5"),
    "gemma-3": ("gemma3",),
    "glm-4v": ("glm4v", "glm4v_moe", "glm46v"),
    "qwen3.5-vl": ("qwen3_5", "qwen3_5_moe"),
    "smolvlm": ("smolvlm", "idefics3"),
    "molmo2": ("molmo2",),
    "pixtral": ("mistral3",),
    "aya-vision": ("aya_vision",),
    "llama-vision": ("mllama", "llama4"),
    "ovis2": ("ovis2", "ovis"),
    "minicpm-v": ("minicpmv4_6", "minicpmv"),
    "kimi-vl": ("kimi_vl",),
    "deepseek-vl2": ("deepseek_vl_v2",),
    "phi-4-multimodal": ("phi4mm", "phi4_multimodal"),
}
FAMILIES = tuple(MODEL_TYPES)
POINTS_ONLY = {"molmo2"}
WITHOUT_DETECTION = {*POINTS_ONLY, "deepseek-vl2"}
# Hub ids, by which a model behind some servers is recognised.
NAMES = {
    "OpenGVLab/InternVL3_5-8B-HF": "internvl",
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": "llava-onevision",
    "google/gemma-3-27b-it": "gemma-3",
    "zai-org/GLM-4.1V-9B-Thinking": "glm-4v",
    "zai-org/GLM-4.5V": "glm-4v",
    "Qwen/Qwen3.5-4B": "qwen3.5-vl",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3-vl",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "smolvlm",
    "HuggingFaceM4/Idefics3-8B-Llama3": "smolvlm",
    "allenai/Molmo2-8B": "molmo2",
    "mistralai/Pixtral-12B-2409": "pixtral",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": "pixtral",
    "CohereLabs/aya-vision-8b": "aya-vision",
    "meta-llama/Llama-3.2-11B-Vision-Instruct": "llama-vision",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-vision",
    "AIDC-AI/Ovis2-8B": "ovis2",
    "openbmb/MiniCPM-V-4_5": "minicpm-v",
    "moonshotai/Kimi-VL-A3B-Thinking-2506": "kimi-vl",
    "deepseek-ai/deepseek-vl2-tiny": "deepseek-vl2",
    "microsoft/Phi-4-multimodal-instruct": "phi-4-multimodal",
    "microsoft/kosmos-2-patch14-224": "kosmos-2",
    "florence-community/Florence-2-large": "florence-2",
    "microsoft/kosmos-2.5": None,
    "AIDC-AI/Ovis2.5-9B": None,
    "deepseek-ai/deepseek-vl-7b-chat": None,
    "meta-llama/Llama-3.2-3B-Instruct": None,
    "mistralai/Mistral-7B-Instruct-v0.3": None,
    "google/gemma-3n-E4B-it": None,
    "zai-org/GLM-4-32B-0414": None,
}


class Ref(ImageRef):
    """An image of 1000 × 400 pixels that is never loaded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def size(self) -> tuple[int, int]:
        return 1000, 400

    def load(self) -> Any:
        raise OSError

    def digest(self) -> str:
        raise OSError


SIZE = ImageSize((1000, 400), (980, 392))
BOX = (100.0, 40.0, 300.0, 80.0)


def sample(text: str = "", name: str = "a", **more: Any) -> Sample:
    return Sample(name, (Ref(f"{name}.png"),), text, more.pop("references", ()), name, **more)


ASKED: Mapping[Kind, Sample] = {
    "caption": sample(),
    "vqa": sample("Red {or} blue?"),
    "choice": sample("Which one?", options=("red", "blue")),
    "yes_no": sample("Is it red?"),
    "grounding": sample('left "man"', references=(BOX,)),
    "pointing": sample("close it", references=(BOX,)),
    "detection": sample("boat, car", references=({"label": "boat", "box": BOX},)),
}
SHORT = "Answer the question using a single word or phrase."
LETTER = "Which one?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
REGION = "Please provide the bounding box coordinate of the region this sentence describes:"
ONE_CAPTION = "Provide a one-sentence caption for the provided image."
OURS = 'Locate left "man" in the image. Answer with its bounding box only, as [x1, y1, x2, y2]: its left, top, right and bottom edges as fractions of the image\'s width and height, numbers between 0 and 1.'
PROMPTS: Mapping[str, Mapping[Kind, str]] = {
    "internvl": {
        "caption": ONE_CAPTION,
        "vqa": f"Red {{or}} blue? {SHORT}",
        "choice": LETTER,
        "grounding": f'{REGION} <ref>left "man"</ref>',
        "pointing": f"{REGION} <ref>close it</ref>",
    },
    "llava-onevision": {
        "caption": ONE_CAPTION,
        "vqa": f"Red {{or}} blue?\n{SHORT}",
        "choice": LETTER,
        "grounding": f'Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). All values are floating point numbers bounded between 0 and 1. {REGION} left "man"',
    },
    "gemma-3": {
        "vqa": f"Red {{or}} blue?\n{SHORT}",
        "grounding": 'Detect left "man" in the image. The box_2d should be [ymin, xmin, ymax, xmax] normalized to 0-1000.',
        "pointing": 'Point to the place in the image that fits this instruction: close it\nThe answer should follow the json format: [{"point": [y, x], "label": "…"}]. The point is in [y, x] format normalized to 0-1000.',
        "detection": 'Find every instance of these categories in the image: boat, car\nAnswer with a JSON list only, with one object for each instance: {"bbox_2d": [y1, x1, y2, x2], "label": "its category"}. The numbers are the top, left, bottom and right edges of its bounding box in thousandths of the image\'s width and height, integers from 0 to 1000.',
    },
    "glm-4v": {
        "vqa": f"Red {{or}} blue?\n{SHORT}",
        "choice": LETTER,
        "grounding": 'Please pinpoint the bounding box [[x1,y1,x2,y2], …] in the image as per the given description. left "man"',
    },
    "qwen3.5-vl": {
        "caption": "Describe this image in one sentence.",
        "grounding": 'Locate every object that matches the description "left "man"" in the image. Report bbox coordinates in JSON format.',
    },
    "smolvlm": {
        "vqa": "Red {or} blue?\nGive a very brief answer.",
        "yes_no": "Is it red?\nAnswer yes or no.",
        "choice": "Question: Which one?\nChoices:\nA. red\nB. blue\nAnswer with the letter.",
        "grounding": OURS,
    },
    "pixtral": {
        "vqa": "Red {or} blue?\n- Answer the question using a single word, number, or short phrase. Use as few words as possible.\n- If the answer is a number, report it as a number, i.e. 2, not Two, and only include the number without any unit.\n- If the question is Yes/No, answer with Yes/No, and nothing else (no likely, unknown, etc.).\n- You cannot answer that the question is unanswerable. You must answer.",
        "document": f"Red {{or}} blue?\n{SHORT}",
        "choice": LETTER,
        "grounding": OURS,
    },
    "molmo2": {
        "caption": "Caption the image with 1 or two sentences",
        "vqa": "vqa2: Red {or} blue?",
        "choice": "Which one?\nOnly return the correct answer option.\nA. red\nB. blue",
        "pointing": "Point to close it\nPlease say 'There are none.' if it is not in the image.",
    },
}
BRIEFLY = "For yes/no questions, just respond Yes or No. If the answer is numeric, just respond with the number and nothing else. If the answer has multiple words, just respond with the words and absolutely nothing else. Never respond in a sentence or a phrase.\n "
MMMU_STEPS = "Look at the image carefully and solve the following question step-by-step. "
PROMPTS = {
    **PROMPTS,
    "aya-vision": {
        "caption": ONE_CAPTION,
        "vqa": f"Red {{or}} blue?\n{SHORT}",
        "choice": LETTER,
        "grounding": OURS,
    },
    "llama-vision": {
        "caption": ONE_CAPTION,
        "vqa": f"Look at the image carefully and answer this visual question. {BRIEFLY}Respond with as few words as possible.\n Question: Red {{or}} blue?",
        "choice": LETTER,
        "grounding": OURS,
    },
    "ovis2": {"vqa": f"Red {{or}} blue?\n{SHORT}", "choice": LETTER, "grounding": OURS},
    "minicpm-v": {
        "caption": ONE_CAPTION,
        "choice": "Question: Which one?\nOptions:\nA. red\nB. blue\n\nAnswer with the option's letter from the given choices directly.",
        "grounding": OURS,
    },
    "kimi-vl": {"vqa": f"Red {{or}} blue?\n{SHORT}", "choice": LETTER, "grounding": OURS},
    "phi-4-multimodal": {"caption": ONE_CAPTION, "vqa": f"Red {{or}} blue?\n{SHORT}", "choice": LETTER},
    "deepseek-vl2": {
        "vqa": f"Red {{or}} blue?\n{SHORT}",
        "choice": LETTER,
        "grounding": 'Locate <|ref|>left "man"<|/ref|> in the given image.',
        "pointing": "Locate <|ref|>close it<|/ref|> in the given image.",
    },
}
# The prompts for certain benchmarks: (family, task, protocol).
BY_TASK = {
    ("internvl", "pope", "official"): f"Is it red?\n{SHORT}",
    ("internvl", "mme", "official"): f"Is it red? {SHORT}",
    ("internvl", "vizwiz", "official"): f"Red {{or}} blue? When the provided information is insufficient, respond with 'Unanswerable'. {SHORT}",
    ("internvl", "ai2d", "vlmevalkit"): LETTER,
    ("internvl", "refcoco", "vlmevalkit"): f'{REGION} <ref>left "man"</ref>',
    ("internvl", "hallusionbench", "vlmevalkit"): f"Is it red? Please answer yes or no. {SHORT}",
    ("glm-4v", "ai2d", "lmms-eval"): LETTER,
    ("smolvlm", "mmstar", "vlmevalkit"): "Question: Which one?\nChoices:\nA. red\nB. blue\nAnswer with the letter.",
    ("smolvlm", "docvqa", "official"): f"Give a short and terse answer to the following question. Do not paraphrase or reformat the text you see in the image. Do not include any full stops. Just give the answer without additional explanation. Question: Red {{or}} blue?\n{SHORT}",
    ("molmo2", "docvqa", "official"): "doc_qa: Red {or} blue?",
    ("llama-vision", "docvqa", "official"): f"Read the text in the image carefully and answer the question with the text as seen exactly in the image. {BRIEFLY}Question: Red {{or}} blue?",
    ("llama-vision", "mmmu", "official"): f"{MMMU_STEPS}Which one? Options: A. red\nB. blue Indicate the correct answer at the end.",
    ("llama-vision", "mathvista", "vlmevalkit"): "Red {or} blue?",
    ("ovis2", "ai2d", "vlmevalkit"): LETTER,
    ("kimi-vl", "mmstar", "official"): "Question: Which one?\nOptions:\nA. red\nB. blue\nAnswer the preceding question. The last line of your response should follow this format: 'Answer: $\\boxed{LETTER}$' (without quotes), where LETTER is one of the options. Think step by step logically, considering all relevant information before answering.",
    ("minicpm-v", "mathvista", "official"): 'Read the following question carefully, solve it step by step, and then output the final answer in the format of "Answer: single number or single word or phrase".\n\nRed {or} blue?',
    ("minicpm-v", "mmstar", "vlmevalkit"): 'Carefully read the following multichoice question, solve it step by step and finally pick the option associated with the correct answer in the format of "Answer: selected option\n\nWhich one?\nA. red\nB. blue\n',
    ("deepseek-vl2", "mmmu", "official"): f"{LETTER} {SHORT}\n",
    ("ovis2", "pope", "vlmevalkit"): f"Is it red?\n{SHORT}",
}  # fmt: skip


def shown(family: str, spec: PromptSpec, asked: Sample, *shots: Shot) -> list[str]:
    """``role: text`` of each turn, with ``[a.png]`` for an image."""
    return [
        f"{m.role}: " + "".join(f"[{p.image.name}]" if isinstance(p, ImagePart) else p.text for p in m.content)
        for m in registry.families.get(family).prompt(spec, asked, shots)
    ]


def test_checkpoints_are_recognised_by_architecture_and_name() -> None:
    for family, model_types in MODEL_TYPES.items():
        assert {registry.family_name(model_type, "mine") for model_type in model_types} == {family}
    for name, family in NAMES.items():
        assert [f.name for f in registry.families.all() if f.matches_name(name)] == ([] if family is None else [family])


def test_prompts_are_those_of_the_sources() -> None:
    for family, by_kind in PROMPTS.items():
        for kind, text in by_kind.items():
            asked = ASKED["vqa" if kind == "document" else kind]
            assert shown(family, PromptSpec("mine", kind), asked) == [f"user: [a.png]{text}"], (family, kind)
    for (family, task, protocol), text in BY_TASK.items():
        spec = registry.tasks.get(task).prompt_spec(protocol)
        asked = ASKED["vqa" if spec.kind == "document" else spec.kind]
        assert shown(family, spec, asked) == [f"user: [a.png]{text}"], (family, task, protocol)


@pytest.mark.parametrize("family", FAMILIES)
def test_own_answers_are_parsed_as_they_were_written(family: str) -> None:
    """Every kind; few-shot examples are turns with these answers."""
    plugin = registry.families.get(family)
    for kind, asked in ASKED.items():
        spec = PromptSpec("mine", kind)
        if (kind == "grounding" and family in POINTS_ONLY) or (kind == "detection" and family in WITHOUT_DETECTION):
            with pytest.raises(UserError, match=f"the family {family} has no prompt for mine"):
                plugin.prompt(spec, asked)
            continue
        if not asked.references:
            right = {"choice": "B", "yes_no": "yes"}.get(kind, "a red car")
            asked = Sample("a", asked.images, asked.text, (right,), "a", asked.options)
        answer = plugin.answer(spec, asked, SIZE)
        value = plugin.parse(spec, answer, (SIZE,), asked.options).value
        wanted: Any = asked.references[0]
        if kind == "detection":
            (one,) = value  # type: ignore[misc]
            assert (one["label"], one["box"]) == ("boat", pytest.approx(BOX, abs=1)), answer  # type: ignore[index,call-overload]
            assert plugin.parse(spec, plugin.answer(spec, sample("boat"), SIZE), (SIZE,)).value == ()
        elif kind in ("grounding", "pointing"):
            assert value == pytest.approx(BOX if kind == "grounding" else (200, 60), abs=1), answer
        else:
            assert value == wanted
        shot = Shot(sample("one", "s", options=asked.options), answer)
        turns = shown(family, spec, asked, shot)
        assert [turn.partition(": ")[0] for turn in turns] == ["user", "assistant", "user"]
        assert turns[1] == f"assistant: {answer}"
        assert turns[2:] == shown(family, spec, asked)


# Each names the box 100, 40, 300, 80 of 1000 × 400 pixels, or no box.
ANSWERS: list[tuple[str, str, Box | None]] = [
    ("internvl", '<ref>left "man"</ref><box>[[100, 100, 300, 200]]</box>', BOX),
    ("internvl", "<ref>[1, 2, 3, 4]</ref><box>[[100, 100, 300, 200]]</box><ref>b</ref><box>[[5, 5, 9, 9]]</box>", BOX),
    ("internvl", "left man[[100, 100, 300, 200]]", BOX),
    ("internvl", "<box>[[100, 100, 300, 200], [1, 2, 3, 4]]</box>", BOX),
    ("internvl", "[[0.1, 0.1, 0.3, 0.2]]", (0.1, 0.04, 0.3, 0.08)),  # thousandths, as declared
    ("internvl", "The man is on the left.", None),
    ("llava-onevision", "[0.1, 0.1, 0.3, 0.2]", BOX),
    ("llava-onevision", "[100, 100, 300, 200]", (100_000, 40_000, 300_000, 80_000)),
    ("gemma-3", '```json\n[\n  {"box_2d": [100, 100, 200, 300], "label": "left man"}\n]\n```', BOX),
    ("gemma-3", "[100, 100, 200, 300]", BOX),
    ("glm-4v", "<think>It may be [[1,2,3,4]].</think>\nHere: <|begin_of_box|>[[100,100,300,200]]<|end_of_box|>", BOX),
    ("glm-4v", "<|begin_of_box|>(100, 100, 300, 200)<|end_of_box|>", BOX),
    ("glm-4v", "<think>It may be [[1,2,3,4]].", None),
    ("qwen3.5-vl", '</think>```json\n[{"bbox_2d": [100, 100, 300, 200], "label": "left man"}]\n```', BOX),
    ("smolvlm", "[0.1, 0.1, 0.3, 0.2]<end_of_utterance>", BOX),
    # The answer in the README of DeepSeek-VL2, whose numbers are 999ths.
    (
        "deepseek-vl2",
        "<|ref|>The giraffe at the back.<|/ref|><|det|>[[580, 270, 999, 900]]<|/det|><｜end▁of▁sentence｜>",
        (580_000 / 999, 108_000 / 999, 1000, 360_000 / 999),
    ),
    ("deepseek-vl2", "<|ref|>[1, 2, 3, 4]<|/ref|><|det|>[[999, 0, 999, 999], [1, 2, 3, 4]]", (1000, 0, 1000, 400)),
    ("deepseek-vl2", "left man[[0, 0, 999, 999]]", (0, 0, 1000, 400)),  # special tokens removed by a server
    ("kimi-vl", "◁think▷It may be [0.5, 0.5, 0.6, 0.6].◁/think▷[0.1, 0.1, 0.3, 0.2]", BOX),
    ("kimi-vl", "◁think▷It may be [0.1, 0.1, 0.3, 0.2].", None),
]


def test_real_answers_are_parsed() -> None:
    for family, text, box in ANSWERS:
        value = registry.families.get(family).parse(PromptSpec("refcoco", "grounding"), text, (SIZE,)).value
        assert value == (None if box is None else pytest.approx(box)), (family, text)
    pointing, point = PromptSpec("screenspot", "pointing"), pytest.approx((200, 60), abs=0.5)
    for family, text in (
        ("internvl", "<ref>close</ref><box>[[100, 100, 300, 200]]</box>"),
        ("gemma-3", '[{"point": [150, 200], "label": "close"}]'),
        ("gemma-3", '[{"box_2d": [100, 100, 200, 300], "label": "close"}]'),
        ("glm-4v", "<think>x</think><|begin_of_box|>[[100,100,300,200]]<|end_of_box|>"),
        ("molmo2", '<points coords="1 1 200 150">close</points>'),
        ("molmo2", 'Counting the <points coords="1 1 200 150 2 911 800">close</points> shows a total of 2.'),
    ):
        assert registry.families.get(family).parse(pointing, text, (SIZE,)).value == point, (family, text)
    assert registry.families.get("molmo2").parse(pointing, "There are none.", (SIZE,)).value is None
    question = PromptSpec("vqav2", "vqa")
    for family, text in (
        ("internvl", "red</s>"),
        ("gemma-3", "red<end_of_turn>"),
        ("glm-4v", "<think>x</think><answer><|begin_of_box|>red<|end_of_box|></answer><|user|>"),
        ("smolvlm", " red<end_of_utterance>"),
        ("pixtral", "red</s>"),
    ):
        assert registry.families.get(family).parse(question, text, (SIZE,)).value == "red", (family, text)
    letter = PromptSpec("ai2d", "choice")
    for family, text in (
        ("glm-4v", "<think>A?</think>The answer is <|begin_of_box|>B<|end_of_box|>"),
        ("molmo2", "B. blue"),
        ("smolvlm", " B<end_of_utterance>"),
    ):
        assert registry.families.get(family).parse(letter, text, (SIZE,), ("red", "blue")).value == "B", (family, text)


def test_final_answers_of_pixtral_follow_their_mark() -> None:
    """Where its prompt asks for steps; the limit is that of the authors' evaluation."""
    family = registry.families.get("pixtral")
    chartqa, mmmu = (registry.tasks.get(name).prompt_spec() for name in ("chartqa", "mmmu"))
    (prompt,) = shown("pixtral", chartqa, ASKED["vqa"])
    assert prompt.startswith("user: [a.png]Red {or} blue?\nAnalyze the image and question carefully")
    assert prompt.endswith("IMPORTANT: Remember, to end your answer with Final Answer: <answer>.")
    assert family.decoding(chartqa, Decoding(10)) == family.decoding(mmmu, Decoding(10)) == Decoding(2048)
    steps = "The chart shows 3 bars. Final Answer: is asked for.\nFinal Answer: 12"
    assert family.parse(chartqa, steps, (SIZE,)).value == "12"
    assert family.parse(chartqa, f"[THINK]{steps}", (SIZE,)).value is None
    assert family.parse(mmmu, "It is not A. Final Answer: B", (SIZE,), ("red", "blue")).value == "B"
    elsewhere = registry.tasks.get("chartqa").prompt_spec("lmms-eval")
    assert family.parse(elsewhere, "Final Answer: 12", (SIZE,)).value == "Final Answer: 12"


def test_models_that_continue_prefixes() -> None:
    """Kosmos-2 and Florence-2: one image, prompts by kind, boxes as tokens."""
    prompts: dict[str, dict[Kind, str]] = {
        "kosmos-2": {
            "caption": "An image of",
            "vqa": "Question: Red {or} blue? Answer:",
            "grounding": '<grounding><phrase>left "man"</phrase>',
            "pointing": "<grounding><phrase>close it</phrase>",
        },
        "florence-2": {
            "caption": "<CAPTION>",
            "grounding": '<CAPTION_TO_PHRASE_GROUNDING>left "man"',
            "pointing": "<CAPTION_TO_PHRASE_GROUNDING>close it",
        },
    }
    for name, by_kind in prompts.items():
        family = registry.families.get(name)
        assert registry.family_name(name.replace("florence-", "florence"), "mine") == name
        for kind, asked in ASKED.items():
            spec = PromptSpec("mine", kind)
            if kind not in by_kind and not (kind == "yes_no" and "vqa" in by_kind):
                with pytest.raises(UserError, match=f"the family {name} has no prompt for mine"):
                    family.prompt(spec, asked)
            elif kind in by_kind:
                assert shown(name, spec, asked) == [f"plain: [a.png]{by_kind[kind]}"]
        with pytest.raises(UserError, match="take one image only"):
            family.prompt(PromptSpec("mine", "caption"), ASKED["caption"], [Shot(sample("", "s"), "a car")])
        with pytest.raises(UserError, match="whose prompts are prefixes; use --protocol official"):
            family.prompt(registry.tasks.get("refcoco").prompt_spec("lmms-eval"), ASKED["grounding"])
        grounding, caption = PromptSpec("mine", "grounding"), PromptSpec("mine", "caption")
        cell = 17 if name == "kosmos-2" else 1  # pixels by which a corner is moved at most
        written = family.answer(grounding, ASKED["grounding"], SIZE)
        assert family.parse(grounding, written, (SIZE,)).value == pytest.approx(BOX, abs=cell)
        assert family.parse(caption, f"a snowman</s>{written}", (SIZE,)).value is not None
        assert family.parse(grounding, "a snowman", (SIZE,)).value is None
    # The answer in transformers' documentation of Kosmos-2, whose box is (0.390625, 0.046875, 0.984375, 0.828125).
    kosmos = registry.families.get("kosmos-2")
    answer = (
        "<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863></object> by<phrase> a fire</phrase>"
    )
    box = kosmos.parse(PromptSpec("mine", "grounding"), answer, (SIZE,)).value
    assert box == pytest.approx((390.625, 18.75, 984.375, 331.25))
    assert kosmos.parse(PromptSpec("mine", "caption"), answer, (SIZE,)).value == "a snowman by a fire"
    for answer, read in (
        ("<object><patch_index_0000><patch_index_0003></object>", (0, 0, 125, 12.5)),  # one row: its outer edges
        ("<object><patch_index_0000><patch_index_1024></object>", None),
    ):
        assert kosmos.parse(PromptSpec("mine", "grounding"), answer, (SIZE,)).value == read
    florence = registry.families.get("florence-2")
    answer = "</s><s>left man<loc_0><loc_100><loc_499><loc_999><loc_1><loc_2><loc_3><loc_4></s>"
    assert florence.parse(PromptSpec("mine", "grounding"), answer, (SIZE,)).value == pytest.approx(
        (0.5, 40.2, 499.5, 399.8)
    )
    point = florence.parse(PromptSpec("screenspot", "pointing"), answer, (SIZE,)).value
    assert point == pytest.approx((250, 220))


def test_short_answers_of_minicpm_are_asked_for_before_the_image() -> None:
    question = PromptSpec("vqav2", "vqa")
    assert shown("minicpm-v", question, ASKED["vqa"]) == [f"user: {SHORT}[a.png]Red {{or}} blue?"]
    assert shown("minicpm-v", question, Sample("b", (), "Why?", (), "b")) == [f"user: {SHORT}\nWhy?"]
    given = PromptSpec("vqav2", "vqa", given="{q}")
    assert shown("minicpm-v", given, ASKED["vqa"]) == ["user: [a.png]Red {or} blue?"]
    pages = registry.tasks.get("omnidocbench").prompt_spec()
    assert shown("minicpm-v", pages, ASKED["vqa"]) == ["user: [a.png]Red {or} blue?"]
    mathvista = registry.tasks.get("mathvista").prompt_spec()
    read = registry.families.get("minicpm-v").parse(mathvista, "Answer: is asked for, 3 + 4.\nAnswer: 7", (SIZE,))
    assert read.value == "7"


def test_fractions_where_a_protocol_asks_for_them() -> None:
    spec = registry.tasks.get("refcoco").prompt_spec("lmms-eval")
    for family in FAMILIES:
        plugin = registry.families.get(family)
        assert plugin.answer(spec, ASKED["grounding"], SIZE) == "[0.1000, 0.1000, 0.3000, 0.2000]"
        assert plugin.parse(spec, "[0.1, 0.1, 0.3, 0.2]", (SIZE,)).value == pytest.approx(BOX)


def test_several_images_of_internvl_are_numbered() -> None:
    first, second = Ref("1.png"), Ref("2.png")
    apart = Sample("x", (first, second), "Same?", ("A",), "x", ("yes", "no"))
    inside = Sample.interleaved(
        "y", ["Which has more than ", first, "?"], options=("none", second), references=(), cluster="y"
    )
    end = "Answer with the option's letter from the given choices directly."
    spec = PromptSpec("mine", "choice")
    assert shown("internvl", spec, apart) == [
        f"user: Image-1: [1.png]Image-2: [2.png]Same?\nA. yes\nB. no\n{end}",
    ]
    assert shown("internvl", spec, inside) == [
        f"user: Image-1: [1.png]Image-2: [2.png]Which has more than <Image-1>?\nA. none\nB. <Image-2>\n{end}",
    ]
    for family in FAMILIES:
        (turn,) = shown(family, spec, apart)
        assert turn.index("[1.png]") < turn.index("[2.png]") < turn.index("Same?")
