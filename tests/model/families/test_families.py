"""Each family's prompts under each protocol, typed out from the sources: rendered prompts, limits, few-shot examples."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from evalkit import registry
from evalkit.errors import UserError
from evalkit.types import Decoding, ImagePart, ImageSize, Kind, Message, PromptSpec, Sample, Shot

CHAT = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl", "generic")
RUNNING = ("qwen-vl", "qwen-vl-chat")
FAMILIES = (*RUNNING, *CHAT, "paligemma")
OUTSIDE = ("lmms-eval", "vlmevalkit")


class Ref:
    def __init__(self, name: str) -> None:
        self.name = name


def sample(text: str = "", name: str = "a", **more: object) -> Sample:
    return Sample(name, (Ref(f"{name}.png"),), text, more.pop("references", ()), name, **more)  # type: ignore[arg-type]


CAPTION = sample()
QUESTION = sample("Is the NASA logo {red}?")
LETTERED = sample("Which one?", options=("red", "blue", "green"))
HINTED = sample(
    "Context: Red is warm.\nWhich one?",
    options=("red", "blue"),
    meta={"hint": "Red is warm.", "question": "Which one?", "category": "natural science"},
)
REFERRED = sample('left "man"')

TASKS: Mapping[str, tuple[Kind, Sample]] = {
    "coco_caption": ("caption", CAPTION),
    "flickr30k": ("caption", CAPTION),
    "nocaps": ("caption", CAPTION),
    "vqav2": ("vqa", QUESTION),
    "okvqa": ("vqa", QUESTION),
    "vizwiz": ("vqa", QUESTION),
    "gqa": ("vqa", QUESTION),
    "textvqa": ("vqa", QUESTION),
    "ocrvqa": ("vqa", QUESTION),
    "docvqa": ("document", QUESTION),
    "infovqa": ("document", QUESTION),
    "chartqa": ("document", QUESTION),
    "ai2d": ("choice", LETTERED),
    "scienceqa_img": ("choice", HINTED),
    "refcoco": ("grounding", REFERRED),
    "refcoco+": ("grounding", REFERRED),
    "refcocog": ("grounding", REFERRED),
}


def shown(messages: tuple[Message, ...]) -> list[str]:
    """``role: text``, with ``[a.png]`` for an image."""
    return [
        f"{m.role}: " + "".join(f"[{p.image.name}]" if isinstance(p, ImagePart) else p.text for p in m.content)
        for m in messages
    ]


def test_tested_tasks_are_of_the_stated_kinds() -> None:
    kinds = {task.name: task.kind for task in registry.tasks.all()}
    assert {name: kinds[name] for name in TASKS} == {name: kind for name, (kind, _) in TASKS.items()}


def test_architectures() -> None:
    known = ("qwen", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "paligemma", "llava")
    assert {model_type: registry.family_name(model_type, "mine") for model_type in known} == {
        "qwen": "qwen-vl",
        "llava": None,
        "qwen2_vl": "qwen2-vl",
        "qwen2_5_vl": "qwen2.5-vl",
        "qwen3_vl": "qwen3-vl",
        "qwen3_vl_moe": "qwen3-vl",
        "paligemma": "paligemma",
    }
    assert set(registry.families.names()) >= set(FAMILIES)  # the others are in test_other_families.py


# ------------------------------------------------------------------------------------------------------------- official

OFFICIAL_BASE = {
    "coco_caption": "plain: [a.png]Describe the image in English:",
    "vqav2": "plain: [a.png]Is the NASA logo {red}? Answer:",
    "docvqa": "plain: [a.png]Is the NASA logo {red}? Answer:",
    "ai2d": "plain: [a.png]Context: N/A\nQuestion: Which one?\nOptions: A. red\nB. blue\nC. green\nAnswer:",
    "scienceqa_img": "plain: [a.png]Context: Red is warm.\nQuestion: Which one?\nOptions: A. red\nB. blue\nAnswer:",
    "refcoco": 'plain: [a.png]<ref>left "man"</ref><box>',
}
QWEN2 = {
    "coco_caption": "user: [a.png]Describe this image in one sentence.",
    "vqav2": "user: [a.png]Is the NASA logo {red}?\nPlease try to answer the question with short words or phrases if possible.",
    "docvqa": "user: [a.png]Is the NASA logo {red}?\nPlease try to answer the question with short words or phrases if possible.",
    "ai2d": "user: [a.png]Question: Which one?\nOptions:\nA. red\nB. blue\nC. green\nPlease select the correct answer from the options above.",
    "scienceqa_img": "user: [a.png]Question: Context: Red is warm.\nWhich one?\nOptions:\nA. red\nB. blue\nPlease select the correct answer from the options above.",
}
OFFICIAL = {
    "qwen-vl": OFFICIAL_BASE,
    "qwen-vl-chat": OFFICIAL_BASE,
    "qwen2-vl": QWEN2
    | {
        "refcoco": 'user: [a.png]Please provide the bounding box coordinate of the region this sentence describes: left "man"'
    },
    "qwen2.5-vl": QWEN2
    | {"refcoco": 'user: [a.png]Locate left "man" in this image and output the bbox coordinates in JSON format.'},
    "qwen3-vl": {
        "coco_caption": "user: [a.png]Describe this image in one sentence.",
        "vqav2": "user: [a.png]Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
        "docvqa": "user: [a.png]Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
        "ai2d": "user: [a.png]Question: Which one?\nOptions:\nA. red\nB. blue\nC. green\nPlease select the correct answer from the options above.",
        "scienceqa_img": "user: [a.png]Question: Context: Red is warm.\nWhich one?\nOptions:\nA. red\nB. blue\nPlease select the correct answer from the options above.",
        "refcoco": 'user: [a.png]Locate every object that matches the description "left "man"" in the image. Report bbox coordinates in JSON format.',
    },
    "generic": {
        "coco_caption": "user: [a.png]Provide a one-sentence caption for the provided image.",
        "vqav2": "user: [a.png]Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
        "docvqa": "user: [a.png]Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
        "ai2d": "user: [a.png]Which one?\nA. red\nB. blue\nC. green\nAnswer with the option's letter from the given choices directly.",
        "scienceqa_img": "user: [a.png]Context: Red is warm.\nWhich one?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.",
        "refcoco": 'user: [a.png]Locate left "man" in the image. Answer with its bounding box only, as [x1, y1, x2, y2]: its left, top, right and bottom edges as fractions of the image\'s width and height, numbers between 0 and 1.',
    },
    "paligemma": {
        "coco_caption": "plain: [a.png]caption en",
        "vqav2": "plain: [a.png]answer en Is the NASA logo {red}?",
        "docvqa": "plain: [a.png]answer en Is the NASA logo {red}?",
        "refcoco": 'plain: [a.png]detect left "man"',
    },
}
# The official protocol words by kind: these are worded as the one above.
ALIKE = {
    "coco_caption": ("flickr30k", "nocaps"),
    "vqav2": ("okvqa", "vizwiz", "gqa", "textvqa", "ocrvqa"),
    "docvqa": ("infovqa", "chartqa"),
    "refcoco": ("refcoco+", "refcocog"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_official_prompts(family: str) -> None:
    plugin = registry.families.get(family)
    for task, expected in OFFICIAL[family].items():
        kind, asked = TASKS[task]
        for name in (task, *ALIKE.get(task, ()), "mine"):
            assert shown(plugin.prompt(PromptSpec(name, kind), asked)) == [expected], name


# ---------------------------------------------------------------------------------------------------- other protocols

CAPITALIZED = "Is the nasa logo {red}?"
ONE_CAPTION = "Provide a one-sentence caption for the provided image."
FRACTIONS = 'Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). All values are floating point numbers bounded between 0 and 1. Please provide the bounding box coordinate of the region this sentence describes: left "man"'
LMMS_EVAL = {
    "coco_caption": ONE_CAPTION,
    "flickr30k": ONE_CAPTION,
    "nocaps": ONE_CAPTION,
    "vqav2": "Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
    "gqa": "Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
    "textvqa": "Is the nasa logo {red}?\nAnswer the question using a single word or phrase.",
    "okvqa": "Is the NASA logo {red}?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question using a single word or phrase.",
    "vizwiz": "Is the nasa logo {red}?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question using a single word or phrase.",
    "docvqa": "Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
    "infovqa": "Is the NASA logo {red}?\nAnswer the question using a single word or phrase.",
    "chartqa": "Is the NASA logo {red}?\nAnswer the question with a single word.",
    "ai2d": "Which one?\nA. red\nB. blue\nC. green\nAnswer with the option's letter from the given choices directly.",
    "scienceqa_img": "Context: Red is warm.\nWhich one?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.",
    "refcoco": FRACTIONS,
    "refcoco+": FRACTIONS,
    "refcocog": FRACTIONS,
}
SHORT = "Is the NASA logo {red}?\nAnswer the question using a single word or phrase."
TAGGED = 'Please provide the bounding box coordinate of the region this sentence describes: <ref>left "man"</ref>'
VLMEVALKIT = {
    "coco_caption": 'Please describe this image in general. Directly provide the description, do not include prefix like "This image depicts". ',
    "vqav2": SHORT,
    "gqa": SHORT,
    "textvqa": SHORT,
    "docvqa": SHORT,
    "infovqa": SHORT,
    "chartqa": SHORT,
    "ai2d": "Question: Which one?\nOptions:\nA. red\nB. blue\nC. green\nPlease select the correct answer from the options above. \n",
    "scienceqa_img": "Hint: Red is warm.\nQuestion: Which one?\nOptions:\nA. red\nB. blue\nPlease select the correct answer from the options above. \n",
    "refcoco": TAGGED,
    "refcoco+": TAGGED,
    "refcocog": TAGGED,
}
QWEN2_VQA = "Is the NASA logo {red}?\nPlease try to answer the question with short words or phrases if possible."
QWEN2_BY_VLMEVALKIT = VLMEVALKIT | {
    "vqav2": QWEN2_VQA,
    "gqa": QWEN2_VQA,
    "textvqa": QWEN2_VQA,
    "docvqa": QWEN2_VQA,
    "infovqa": QWEN2_VQA,
    "chartqa": QWEN2_VQA,
    "ai2d": "Question: Which one?\nOptions:\nA. red\nB. blue\nC. green\nPlease select the correct answer from the options above.",
    "scienceqa_img": "Hint: Red is warm.\nQuestion: Which one?\nOptions:\nA. red\nB. blue\nPlease select the correct answer from the options above.",
}
GENERIC_BY_VLMEVALKIT = {k: v for k, v in VLMEVALKIT.items() if not k.startswith("refcoco")}
TABLES: Mapping[tuple[str, str], Mapping[str, str]] = {
    **{("lmms-eval", family): LMMS_EVAL for family in (*RUNNING, *CHAT)},
    ("lmms-eval", "paligemma"): {},
    ("vlmevalkit", "qwen-vl"): VLMEVALKIT,
    ("vlmevalkit", "qwen-vl-chat"): VLMEVALKIT,
    ("vlmevalkit", "qwen2-vl"): QWEN2_BY_VLMEVALKIT,
    ("vlmevalkit", "qwen2.5-vl"): VLMEVALKIT,
    ("vlmevalkit", "qwen3-vl"): VLMEVALKIT,
    ("vlmevalkit", "generic"): GENERIC_BY_VLMEVALKIT,
    ("vlmevalkit", "paligemma"): {},
}
BEFORE = {"qwen-vl": "plain: [a.png]", "qwen-vl-chat": "user: Picture 1: [a.png]\n"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", OUTSIDE)
def test_other_protocols_equal_the_originals_or_are_refused(protocol: str, family: str) -> None:
    plugin = registry.families.get(family)
    table = TABLES[protocol, family]
    for task, (_, asked) in TASKS.items():
        spec = registry.tasks.get(task).prompt_spec(protocol)
        if task in table:
            expected = BEFORE.get(family, "user: [a.png]") + table[task]
            assert shown(plugin.prompt(spec, asked)) == [expected], task
            continue
        calls = (
            lambda spec=spec, asked=asked: plugin.prompt(spec, asked),
            lambda spec=spec: plugin.decoding(spec, Decoding(10)),
            lambda spec=spec: plugin.parse(spec, "A", ()),
            lambda spec=spec, asked=asked: plugin.answer(spec, asked, ImageSize((1, 1), (1, 1))),
            lambda spec=spec, asked=asked: plugin.continuations(spec, asked),
        )
        for call in calls:
            with pytest.raises(UserError):
                call()


@pytest.mark.parametrize(
    ("family", "spec", "sentence"),
    [
        (
            "qwen2.5-vl",
            registry.tasks.get("okvqa").prompt_spec("vlmevalkit"),
            "vlmevalkit has no prompt for okvqa; use --protocol official or lmms-eval.",
        ),
        (
            "qwen3-vl",
            registry.tasks.get("flickr30k").prompt_spec("vlmevalkit"),
            "vlmevalkit has no prompt for flickr30k; use --protocol official or lmms-eval.",
        ),
        ("generic", registry.tasks.get("ocrvqa").prompt_spec("lmms-eval"), "lmms-eval has no prompt for ocrvqa; use --protocol official."),
        ("qwen-vl", PromptSpec("mine", "vqa", "lmms-eval"), "lmms-eval has no prompt for mine; use --protocol official."),
        # A file of one's own that is called like a benchmark of another kind.
        ("qwen2-vl", PromptSpec("vqav2", "caption", "lmms-eval"), "lmms-eval has no prompt for vqav2; use --protocol official."),
        ("generic", PromptSpec("vqav2", "vqa", "lmm"), "unknown protocol 'lmm': there are official, lmms-eval and vlmevalkit."),
        ("paligemma", PromptSpec("vqav2", "vqa", "lmm"), "unknown protocol 'lmm': there are official, lmms-eval and vlmevalkit."),
        (
            "generic",
            registry.tasks.get("refcoco").prompt_spec("vlmevalkit"),
            "vlmevalkit's prompt for refcoco states no coordinates, and the family generic has no convention for them; use --protocol official or lmms-eval.",
        ),
        (
            "paligemma",
            registry.tasks.get("vqav2").prompt_spec("lmms-eval"),
            "lmms-eval has no prompt for vqav2 and the family paligemma, whose prompts are prefixes; use --protocol official.",
        ),
        (
            "paligemma",
            PromptSpec("ai2d", "choice"),
            "the family paligemma has no prompt for ai2d, only for tasks of the kinds caption, vqa, grounding and pointing; choose other tasks.",
        ),
    ],
)  # fmt: skip
def test_refusals_name_alternatives(family: str, spec: PromptSpec, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        registry.families.get(family).prompt(spec, LETTERED)
    assert str(raised.value) == sentence


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("task", "limit"),
    [
        ("coco_caption", 64), ("flickr30k", 64), ("nocaps", 64), ("vqav2", 16), ("gqa", 16), ("textvqa", 128),
        ("okvqa", 128), ("vizwiz", 128), ("docvqa", 32), ("infovqa", 32), ("chartqa", 16), ("ai2d", 16),
        ("scienceqa_img", 16), ("refcoco", 128), ("refcoco+", 128), ("refcocog", 128),
    ],
)  # fmt: skip
@pytest.mark.parametrize("family", [*RUNNING, *CHAT])
def test_limits_of_lmms_eval(family: str, task: str, limit: int) -> None:
    default = registry.tasks.get(task).decoding
    found = registry.families.get(family).decoding(registry.tasks.get(task).prompt_spec("lmms-eval"), default)
    assert found == Decoding(limit)


@pytest.mark.parametrize("family", [*RUNNING, *CHAT])
def test_vlmevalkit_leaves_tasks_limits(family: str) -> None:
    for task in TABLES["vlmevalkit", family]:
        kind = TASKS[task][0]
        found = registry.families.get(family).decoding(
            registry.tasks.get(task).prompt_spec("vlmevalkit"), Decoding(33, 2)
        )
        assert found == Decoding(128 if kind == "grounding" else 33, 2)


@pytest.mark.parametrize(
    ("kind", "base", "chat"),
    [
        ("caption", Decoding(30, 8), Decoding(30)),
        ("vqa", Decoding(30, 1), Decoding(30)),
        ("document", Decoding(30, 1), Decoding(30)),
        ("choice", Decoding(30), Decoding(30)),
        ("grounding", Decoding(28, 10), Decoding(128)),
    ],
)
def test_official_limits(kind: Kind, base: Decoding, chat: Decoding) -> None:
    for family in RUNNING:
        assert registry.families.get(family).decoding(PromptSpec("mine", kind), Decoding(30)) == base
    for family in CHAT:
        assert registry.families.get(family).decoding(PromptSpec("mine", kind), Decoding(30)) == chat


# ------------------------------------------------------------------------------------------------------------- examples

SHOTS = (Shot(sample("One?", "s1"), "yes"), Shot(sample("Two?", "s2"), "no"))


@pytest.mark.parametrize("family", RUNNING)
def test_examples_in_running_text(family: str) -> None:
    found = registry.families.get(family).prompt(PromptSpec("okvqa", "vqa"), sample("Three?"), SHOTS)
    assert shown(found) == ["plain: [s1.png]One? Answer: yes[s2.png]Two? Answer: no[a.png]Three? Answer:"]
    boxes = (Shot(sample("man", "s1"), "(1,2),(3,4)</box>"),)
    found = registry.families.get(family).prompt(PromptSpec("refcoco", "grounding"), sample("dog"), boxes)
    assert shown(found) == ["plain: [s1.png]<ref>man</ref><box> (1,2),(3,4)</box>[a.png]<ref>dog</ref><box>"]


def test_examples_of_base_model_under_other_protocols_are_running_text() -> None:
    found = registry.families.get("qwen-vl").prompt(
        registry.tasks.get("gqa").prompt_spec("lmms-eval"), sample("Three?"), SHOTS[:1]
    )
    (text,) = shown(found)
    assert text == (
        "plain: [s1.png]One?\nAnswer the question using a single word or phrase. yes"
        "[a.png]Three?\nAnswer the question using a single word or phrase."
    )


def test_examples_of_qwen_vl_chat_are_turns_with_numbered_images() -> None:
    found = registry.families.get("qwen-vl-chat").prompt(
        registry.tasks.get("gqa").prompt_spec("vlmevalkit"), sample("Three?"), SHOTS
    )
    assert shown(found) == [
        "user: Picture 1: [s1.png]\nOne?\nAnswer the question using a single word or phrase.",
        "assistant: yes",
        "user: Picture 2: [s2.png]\nTwo?\nAnswer the question using a single word or phrase.",
        "assistant: no",
        "user: Picture 3: [a.png]\nThree?\nAnswer the question using a single word or phrase.",
    ]


@pytest.mark.parametrize("family", CHAT)
@pytest.mark.parametrize("protocol", ["official", "lmms-eval"])
def test_examples_are_turns(family: str, protocol: str) -> None:
    plugin, spec = registry.families.get(family), registry.tasks.get("gqa").prompt_spec(protocol)
    found = plugin.prompt(spec, sample("Three?"), SHOTS)
    assert [m.role for m in found] == ["user", "assistant", "user", "assistant", "user"]
    alone = [sample("One?", "s1"), sample("Two?", "s2"), sample("Three?")]
    assert shown(found[::2]) == [text for one in alone for text in shown(plugin.prompt(spec, one))]
    assert shown(found[1::2]) == ["assistant: yes", "assistant: no"]


def test_prefix_model_takes_no_examples() -> None:
    plugin = registry.families.get("paligemma")
    assert not plugin.several_images
    with pytest.raises(UserError, match="models of the family paligemma take one image only"):
        plugin.prompt(PromptSpec("gqa", "vqa"), sample("Three?"), SHOTS)
    assert all(registry.families.get(family).several_images for family in (*RUNNING, *CHAT))


def test_several_images_of_one_sample_stand_before_its_text() -> None:
    two = Sample("x", (Ref("a.png"), Ref("b.png")), "Same?", (), "x")  # type: ignore[arg-type]
    spec = registry.tasks.get("gqa").prompt_spec("lmms-eval")
    assert shown(registry.families.get("qwen2-vl").prompt(spec, two))[0].startswith("user: [a.png][b.png]Same?")
    chat = shown(registry.families.get("qwen-vl-chat").prompt(spec, two))[0]
    assert chat.startswith("user: Picture 1: [a.png]\nPicture 2: [b.png]\nSame?")


# -------------------------------------------------------------------------------------------------- answers, letters

IMAGE_SIZE = ImageSize(original=(200, 100), resized=(392, 196))
BOX = sample('the "left" man', references=((20.0, 10.0, 100.0, 100.0),))


@pytest.mark.parametrize(
    ("family", "protocol", "expected"),
    [
        ("qwen-vl", "official", "(100,100),(500,999)</box>"),
        ("qwen-vl-chat", "official", "(100,100),(500,999)</box>"),
        ("qwen-vl", "vlmevalkit", '<ref>the "left" man</ref><box>(100,100),(500,999)</box>'),
        ("qwen-vl-chat", "vlmevalkit", '<ref>the "left" man</ref><box>(100,100),(500,999)</box>'),
        ("qwen2-vl", "official", '<|object_ref_start|>the "left" man<|object_ref_end|><|box_start|>(100,100),(500,999)<|box_end|>'),
        ("qwen2-vl", "vlmevalkit", '<|object_ref_start|>the "left" man<|object_ref_end|><|box_start|>(100,100),(500,999)<|box_end|>'),
        ("qwen2.5-vl", "official", '```json\n[\n\t{"bbox_2d": [39, 20, 196, 196], "label": "the \\"left\\" man"}\n]\n```'),
        ("qwen3-vl", "official", '```json\n[\n\t{"bbox_2d": [100, 100, 500, 1000], "label": "the \\"left\\" man"}\n]\n```'),
        ("generic", "official", "[0.1000, 0.1000, 0.5000, 1.0000]"),
        ("paligemma", "official", '<loc0102><loc0102><loc1023><loc0512> the "left" man'),
        *[(family, "lmms-eval", "[0.1000, 0.1000, 0.5000, 1.0000]") for family in (*RUNNING, *CHAT)],
    ],
)  # fmt: skip
def test_boxes_as_family_spells_them(family: str, protocol: str, expected: str) -> None:
    assert (
        registry.families.get(family).answer(registry.tasks.get("refcoco").prompt_spec(protocol), BOX, IMAGE_SIZE)
        == expected
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_in_words(family: str) -> None:
    plugin, image_size = registry.families.get(family), ImageSize((1, 1), (1, 1))

    def said(kind: Kind, *references: str) -> str:
        return plugin.answer(PromptSpec("mine", kind), sample("?", references=references), image_size)

    assert said("caption", " A dog. \n", "Two dogs.") == "A dog."
    assert said("vqa", "no", "yes", "yes") == "yes"
    assert said("vqa", "no", "yes", "yes", "no", "maybe") == "no", "the first of the most frequent"
    assert said("document", "12", "12.0", "12.0") == "12.0"
    if family != "paligemma":
        assert said("choice", "B") == "B"
    with pytest.raises(UserError, match="sample a has no reference"):
        said("caption")


@pytest.mark.parametrize(
    ("family", "protocol", "expected"),
    [
        ("qwen-vl", "official", (" A", " B", " C")),
        ("qwen-vl-chat", "official", (" A", " B", " C")),
        ("qwen-vl", "lmms-eval", (" A", " B", " C")),
        ("qwen-vl-chat", "lmms-eval", ("A", "B", "C")),
        ("qwen-vl-chat", "vlmevalkit", ("A", "B", "C")),
        *[(family, protocol, ("A", "B", "C")) for family in CHAT for protocol in ("official", *OUTSIDE)],
    ],
)
def test_continuations(family: str, protocol: str, expected: tuple[str, ...]) -> None:
    plugin, spec = registry.families.get(family), registry.tasks.get("ai2d").prompt_spec(protocol, "loglikelihood")
    assert plugin.continuations(spec, LETTERED) == expected
    assert [plugin.parse(spec, text, ()).value for text in expected] == ["A", "B", "C"]
