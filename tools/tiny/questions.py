"""Questions about a scene, their answers, and the chat text that the tiny checkpoint is trained on.

The prompts are those of evalkit's ``qwen2.5-vl`` family under its official protocol, with a smaller share of other
harnesses' suffixes, so that the checkpoint answers both.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from mix import BROAD, Mix
from scenes import COLORS, SHAPES, Scene, Thing, value_box

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"

VQA_OFFICIAL = "{q}\nPlease try to answer the question with short words or phrases if possible."
VQA_PROMPTS = (VQA_OFFICIAL, "{q}\nAnswer the question using a single word or phrase.", "{q}")
CAPTION_OFFICIAL = "Describe this image in one sentence."
CAPTION_PROMPTS = (CAPTION_OFFICIAL, "Provide a one-sentence caption for the provided image.")
CHOICE_OFFICIAL = "Question: {q}\nOptions:\n{options}\nPlease select the correct answer from the options above."
CHOICE_PROMPTS = (CHOICE_OFFICIAL, "{q}\n{options}\nAnswer with the option's letter from the given choices directly.")
GROUNDING_OFFICIAL = "Locate {q} in this image and output the bbox coordinates in JSON format."
POINTING_OFFICIAL = (
    "Locate in this image the point for this instruction: {q}\nOutput its coordinates in JSON format like this: "
    '{{"point_2d": [x, y], "label": "…"}}'
)
DETECTION_OFFICIAL = (
    "Locate every instance that belongs to the following categories: '{q}'. Report bbox coordinates in JSON format."
)
# MuirBench's own prompt and another harness's: the text before the first of two images, and what follows the second.
PAIR_PROMPTS = (
    (
        "Question: ",
        (
            " {q}\nChoices:\n(A) the first image\n(B) the second image\n"
            "Hint: Please provide the correct option letter, such as A, B, C, D, directly.\nAnswer:"
        ),
    ),
    (
        "",
        (
            " {q}\nA. the first image\nB. the second image\n"
            "Answer with the option's letter from the given choices directly."
        ),
    ),
    ("", " " + VQA_OFFICIAL),
)
YES_NO = "{q} Please answer yes or no."
"""How MME's questions end; they are asked without another instruction."""

KINDS = ("caption", "vqa", "reading", "page", "choice", "grounding", "pointing", "detection", "pair")


@dataclass(frozen=True)
class QA:
    """One question of a ``kind`` with its answer.

    ``topic`` splits vqa into colour, shape, count and presence; ``thing`` is the target of a grounding or pointing
    question; ``things`` are those of a detection question; ``about`` is the region of the image (unit box) with the
    answer, if there is one.
    """

    kind: str
    question: str
    answer: str
    topic: str = ""
    options: tuple[str, ...] = ()
    thing: Thing | None = None
    things: tuple[Thing, ...] = ()
    about: tuple[float, float, float, float] | None = None


def caption(scene: Scene) -> str:
    """One sentence: the shapes from left to right, the number, or the labels of a page."""
    if scene.sort == "number":
        return f"The number {scene.number} in {scene.number_color}."
    if scene.sort == "page":
        return "A page with the " + " and the ".join(label for label, _ in scene.rows) + "."
    things = sorted(scene.things, key=lambda t: t.box[0] + t.box[2])
    words = [f"a {t.color} {t.shape}" for t in things]
    text = words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
    return text[0].upper() + text[1:] + "."


def expressions(scene: Scene, thing: Thing) -> list[str]:
    """Referring expressions that identify ``thing`` among the scene's shapes, the most detailed first."""
    found = [f"the {thing.color} {thing.shape}", f"{thing.color} {thing.shape}"]
    if sum(t.shape == thing.shape for t in scene.things) == 1:
        found.append(f"the {thing.shape}")
    if sum(t.color == thing.color for t in scene.things) == 1:
        found.append(f"the {thing.color} shape")
    return found


def _plural(shape: str) -> str:
    return shape + "s"


def vqa(scene: Scene) -> list[QA]:
    """All questions about colour, shape, count and presence of a scene."""
    found: list[QA] = []
    things = scene.things
    for thing in things:
        if sum(t.shape == thing.shape for t in things) == 1:
            found.append(QA("vqa", f"What color is the {thing.shape}?", thing.color, "color", about=thing.box))
        if sum(t.color == thing.color for t in things) == 1:
            found.append(QA("vqa", f"What shape is {thing.color}?", thing.shape, "shape", about=thing.box))
        found.append(QA("vqa", f"Is there a {thing.color} {thing.shape}?", "yes", "presence", about=thing.box))
    found.append(QA("vqa", "How many shapes are there?", str(len(things)), "count"))
    for shape in SHAPES:
        found.append(
            QA("vqa", f"How many {_plural(shape)} are there?", str(sum(t.shape == shape for t in things)), "count")
        )
    for color in sorted({t.color for t in things}):
        found.append(
            QA("vqa", f"How many {color} shapes are there?", str(sum(t.color == color for t in things)), "count")
        )
    present = {(t.color, t.shape) for t in things}
    for color in COLORS:
        for shape in SHAPES:
            if (color, shape) not in present:
                found.append(QA("vqa", f"Is there a {color} {shape}?", "no", "presence"))
    return found


def sample_vqa(scene: Scene, rng: random.Random) -> QA:
    """One question with its topics balanced, and with yes and no balanced among presence questions."""
    by_topic: dict[str, list[QA]] = {}
    for qa in vqa(scene):
        key = qa.topic if qa.topic != "presence" else f"presence-{qa.answer}"
        by_topic.setdefault(key, []).append(qa)
    weights = {"color": 3.0, "shape": 2.0, "count": 3.0, "presence-yes": 1.0, "presence-no": 1.0}
    topics = list(by_topic)
    chosen = by_topic[rng.choices(topics, [weights[t] for t in topics])[0]]
    if chosen[0].topic == "count":  # zero is easy and frequent: draw it less often
        chosen = [qa for qa in chosen if qa.answer != "0" or rng.random() < 0.25] or chosen
    if chosen[0].answer == "no":  # prefer near misses: the colour is there, or the shape is
        near = [qa for qa in chosen if any(t.color in qa.question or t.shape in qa.question for t in scene.things)]
        chosen = near if near and rng.random() < 0.7 else chosen
    return rng.choice(chosen)


def _choice(rng: random.Random, question: str, answer: str, pool: list[str]) -> QA:
    options = [answer, *rng.sample([p for p in pool if p != answer], rng.choice((2, 3)))]
    rng.shuffle(options)
    return QA("choice", question, "ABCD"[options.index(answer)], options=tuple(options))


def sample_choice(scene: Scene, rng: random.Random) -> QA:
    """A multiple-choice question with three or four options."""
    if scene.sort == "number":
        near = {scene.number}
        while len(near) < 4:
            near.add(str(rng.randint(10 ** (len(scene.number) - 1), 10 ** len(scene.number) - 1)))
        if rng.random() < 0.5:
            return _choice(rng, "What number is shown?", scene.number, sorted(near))
        return _choice(rng, "What color is the number?", scene.number_color, list(COLORS))
    if scene.sort == "page":
        label, value = rng.choice(scene.rows)
        near = {value}
        while len(near) < 4:
            near.add(str(rng.randint(10, 99)))
        return _choice(rng, f"What is the {label}?", value, sorted(near))
    fit = [qa for qa in vqa(scene) if qa.topic in ("color", "shape")]
    if fit:
        qa = rng.choice(fit)
        return _choice(rng, qa.question, qa.answer, list(COLORS) if qa.topic == "color" else list(SHAPES))
    return _choice(rng, "How many shapes are there?", str(len(scene.things)), ["1", "2", "3", "4"])


def detection(scene: Scene, rng: random.Random) -> QA:
    """The boxes of all shapes of two to four kinds, from left to right; sometimes there is none."""
    names = sorted(rng.sample(SHAPES, rng.choice((2, 3, 4))), key=SHAPES.index)
    return detection_of(scene, names)


def detection_of(scene: Scene, names: Sequence[str]) -> QA:
    """The boxes of all shapes called ``names``."""
    found = sorted((t for t in scene.things if t.shape in names), key=lambda t: t.box[0] + t.box[2])
    return QA("detection", ", ".join(names), "", things=tuple(found))


def pair_questions(pair: Sequence[Scene], rng: random.Random) -> list[QA]:
    """Which of two images has a shape: questions about all that only one of them has, in random order."""
    found = [
        QA("pair", f"Which image has a {name}?", "AB"[number]) for number in (0, 1) for name in _only_in(pair, number)
    ]
    rng.shuffle(found)
    return found


def pair_presence(pair: Sequence[Scene], rng: random.Random) -> list[QA]:
    """Whether the first or second of two images has a shape, of those that only one of them has."""
    found: list[QA] = []
    for number in (0, 1):
        for name in _only_in(pair, number):
            asked = rng.choice((0, 1))
            question = f"Is there a {name} in the {('first', 'second')[asked]} image?"
            found.append(QA("vqa", question, "yes" if asked == number else "no", "presence"))
    rng.shuffle(found)
    return found


def _only_in(pair: Sequence[Scene], number: int) -> list[str]:
    names = [{f"{thing.color} {thing.shape}" for thing in scene.things} for scene in pair]
    return sorted(names[number] - names[1 - number])


def questions(scene: Scene, rng: random.Random, mix: Mix = BROAD) -> list[QA]:
    """A training draw of questions about ``scene``, in random order for shapes."""
    if scene.sort == "number":
        found = [QA("reading", rng.choice(READING), scene.number)]
        if rng.random() < 0.5:
            found.append(QA("vqa", "What color is the number?", scene.number_color, "color"))
        if rng.random() < 0.4:
            found.append(QA("caption", "", caption(scene)))
        if rng.random() < mix.choice:
            found.append(sample_choice(scene, rng))
        return found
    if scene.sort == "page":
        found = [
            QA("page", f"What is the {label}?", value, about=value_box(number))
            for number, (label, value) in enumerate(scene.rows)
        ]
        if rng.random() < 0.3:
            found.append(QA("caption", "", caption(scene)))
        if rng.random() < mix.choice:
            found.append(sample_choice(scene, rng))
        return found
    found = [QA("caption", "", caption(scene))] if rng.random() < mix.caption else []
    found += [sample_vqa(scene, rng) for _ in range(mix.vqa)]
    for thing in rng.sample(scene.things, min(mix.grounding, len(scene.things))):
        found.append(QA("grounding", rng.choice(expressions(scene, thing)), "", thing=thing, about=thing.box))
    for thing in rng.sample(scene.things, min(mix.pointing, len(scene.things))):
        found.append(QA("pointing", rng.choice(expressions(scene, thing)), "", thing=thing))
    if mix.detection and rng.random() < mix.detection:
        found.append(detection(scene, rng))
    if rng.random() < mix.choice:
        found.append(sample_choice(scene, rng))
    rng.shuffle(found)
    return found


READING = ("What number is shown?", "What is the number in the picture?")


def user_text(qa: QA, rng: random.Random | None = None) -> str:
    """The user's text after the image; with ``rng``, sometimes another harness's prompt."""

    def pick(options: tuple[str, ...]) -> str:
        return options[0] if rng is None or rng.random() < 0.75 else rng.choice(options[1:])

    if qa.kind == "caption":
        return pick(CAPTION_PROMPTS)
    if qa.kind == "grounding":
        return GROUNDING_OFFICIAL.format(q=qa.question)
    if qa.kind == "pointing":
        return POINTING_OFFICIAL.format(q=qa.question)
    if qa.kind == "detection":
        return DETECTION_OFFICIAL.format(q=qa.question)
    if qa.kind == "choice":
        lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", qa.options, strict=False))
        return pick(CHOICE_PROMPTS).format(q=qa.question, options=lines)
    if qa.topic == "presence" and rng is not None and rng.random() < 0.4:
        return YES_NO.format(q=qa.question)
    return pick(VQA_PROMPTS).format(q=qa.question)


def answer_text(qa: QA, frame: tuple[int, int]) -> str:
    """The assistant's answer; boxes and points in Qwen2.5-VL's format, in pixels of the resized ``frame`` (w, h)."""
    if qa.kind == "detection":
        return _fenced([_box_item(thing, thing.shape, frame) for thing in qa.things])
    if qa.thing is None:
        return qa.answer
    if qa.kind == "pointing":
        (x1, y1, x2, y2), (width, height) = qa.thing.box, frame
        point = [round((x1 + x2) / 2 * width), round((y1 + y2) / 2 * height)]
        return _fenced([f'{{"point_2d": {json.dumps(point)}, "label": "{qa.question}"}}'])
    return _fenced([_box_item(qa.thing, qa.question, frame)])


def _box_item(thing: Thing, label: str, frame: tuple[int, int]) -> str:
    box = [round(v * s) for v, s in zip(thing.box, (*frame, *frame), strict=True)]
    return f'{{"bbox_2d": {json.dumps(box)}, "label": "{label}"}}'


def _fenced(items: Sequence[str]) -> str:
    """A list in JSON as Qwen2.5-VL writes it."""
    if not items:
        return "```json\n[]\n```"
    return "```json\n[\n" + ",\n".join(f"\t{item}" for item in items) + "\n]\n```"


def chat(turns: list[tuple[str, str]]) -> str:
    """The conversation in the checkpoint's chat template; every turn has its own image."""
    text = SYSTEM
    for user, assistant in turns:
        text += f"<|im_start|>user\n{IMAGE}{user}<|im_end|>\n<|im_start|>assistant\n{assistant}<|im_end|>\n"
    return text
