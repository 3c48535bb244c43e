"""Questions about a clip: multiple choice as in Video-MME, short answers, and time spans as in Charades-STA."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from clips import DIRECTIONS, SIDE, Actor, Clip, sampled_times
from questions import CHOICE_OFFICIAL, VQA_PROMPTS
from scenes import COLORS, SHAPES
from targets import cell_targets

VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
LETTERS = "ABCD"

# Each as the text before a question, which all questions about a clip share, and the text after it.
CHOICE_VIDEO_PROMPTS = (
    (
        (
            "Select the best answer to the following multiple-choice question based on the video. Respond with only "
            "the letter (A, B, C, or D) of the correct option.\nQuestion:"
        ),
        " {q}\n{options}\nThe best answer is:",
    ),
    (
        (
            "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
            "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        ),
        "{q}\n{options}\nAnswer with the option's letter from the given choices directly.",
    ),
    (CHOICE_OFFICIAL[:9], CHOICE_OFFICIAL[9:]),
)
OPEN_PROMPTS = tuple(("", prompt) for prompt in VQA_PROMPTS)
TEMPORAL_PROMPTS = (
    (
        "Find the event in the video that this sentence describes:",
        " {q}\nAnswer with the times in seconds when it starts and ends only, as: start - end seconds.",
    ),
    (
        (
            "Please find the visual event described by a sentence in the video, determining its starting and ending "
            "times. The format should be: 'The event happens in the start time - end time'. For example, The event "
            "'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence:"
        ),
        " {q}. Please return its start time and end time.",
    ),
)


@dataclass(frozen=True)
class ClipQA:
    """A question about a clip.

    Attributes:
        topic: Video-MME's task type; empty for time spans.
        answer: the right option as a text, or the span as the model is to write it.
        options: four, in order; empty for time spans.
        span: (start, end) in seconds; the same twice if only one of them is asked for.
        actor: whose event it is that has this span.
    """

    topic: str
    question: str
    answer: str
    options: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    actor: Actor | None = None

    @property
    def letter(self) -> str:
        return LETTERS[self.options.index(self.answer)]


# Options have a fixed order, as those of MVBench's questions about directions: an answer always has the same letter, so
# that a small model is asked what it sees, and not what stands behind which letter.
SHAPE_OPTIONS = tuple(sorted(SHAPES))
COUNT_OPTIONS = ("0", "1", "2", "3")
TIME_OPTIONS = ("at 1 s", "at 2 s", "at 3 s", "at 4 s")
COLOR_OPTIONS = (("black", "blue", "green", "purple"), ("black", "blue", "red", "yellow"))


def _colors(rng: random.Random, answer: str) -> tuple[str, ...]:
    return rng.choice([colors for colors in COLOR_OPTIONS if answer in colors])


def _about_one(actor: Actor, clip: Clip, rng: random.Random) -> list[ClipQA]:
    shape = actor.thing.shape
    found: list[ClipQA] = []
    if actor.event == "moves":
        question = f"In which direction does the {actor.name} move?"
        found.append(ClipQA("Action Recognition", question, actor.direction, tuple(DIRECTIONS)))
        if sum(other.event == "moves" for other in clip.actors) == 1 and len(clip.actors) > 1:
            found.append(ClipQA("Object Recognition", "Which shape moves?", shape, SHAPE_OPTIONS))
    if actor.event == "recolored":
        for when, other_color in (("start", actor.start == 0), ("end", actor.end == clip.seconds)):
            color = actor.color if other_color else actor.thing.color
            question = f"What color is the {shape} at the {when}?"
            found.append(ClipQA("Attribute Perception", question, color, _colors(rng, color)))
        if sum(other.event == "recolored" for other in clip.actors) == 1 and len(clip.actors) > 1:
            found.append(ClipQA("Object Reasoning", "Which shape changes its color?", shape, SHAPE_OPTIONS))
    if actor.event == "visible" and 1 <= actor.start <= 4 and actor.start == int(actor.start):
        question = f"When does the {actor.name} appear?"
        found.append(ClipQA("Temporal Perception", question, f"at {int(actor.start)} s", TIME_OPTIONS))
    return found


def _about_all(clip: Clip) -> list[ClipQA]:
    found: list[ClipQA] = []
    there = {"start": len(clip.at(0.0).things), "end": len(clip.at(clip.seconds - 0.01).things)}
    if any(actor.event == "visible" for actor in clip.actors):
        for when, count in there.items():
            question = f"How many shapes are there at the {when}?"
            found.append(ClipQA("Counting Problem", question, str(count), COUNT_OPTIONS))
    if any(actor.event == "moves" for actor in clip.actors):
        count = sum(actor.event == "moves" for actor in clip.actors)
        found.append(ClipQA("Counting Problem", "How many shapes move?", str(count), COUNT_OPTIONS))
    coming = sorted((a for a in clip.actors if a.event == "visible"), key=lambda a: a.start)
    if len(coming) > 1 and len(coming) == len(clip.actors):
        for when, actor in (("first", coming[0]), ("last", coming[-1])):
            shape = actor.thing.shape
            found.append(ClipQA("Temporal Reasoning", f"Which shape appears {when}?", shape, SHAPE_OPTIONS))
    return found


def clip_questions(clip: Clip, rng: random.Random) -> list[ClipQA]:
    """All multiple-choice questions about ``clip``, in random order."""
    found = [qa for actor in clip.actors for qa in _about_one(actor, clip, rng)] + _about_all(clip)
    rng.shuffle(found)
    return found


REGIONS = ("left", "right", "top", "bottom")


def moment_questions(clip: Clip, rng: random.Random) -> list[ClipQA]:
    """Short questions that only training has: about single moments, and about each event's beginning and end.

    They teach what the times of frames are, with many answers for the tokens of one clip.
    """
    found: list[ClipQA] = []
    for quarter in rng.sample(range(1, clip.seconds * 4), 4):
        found += _at(quarter / 4, clip)
    for actor in clip.actors:
        for verb, time in (("begin", actor.start), ("end", actor.end)) if actor.event else ():
            question = f"When does it {verb}: {sentence(actor)}?"
            found.append(ClipQA("moment", question, f"{time:.1f}", span=(time, time), actor=actor))
        if actor.event == "moves":
            direction = rng.choice(list(DIRECTIONS))
            answer = "yes" if direction == actor.direction else "no"
            found.append(ClipQA("moment", f"Does the {actor.name} move {direction}?", answer))
            found.append(ClipQA("moment", f"In which direction does the {actor.name} move?", actor.direction))
            found.append(ClipQA("moment", f"What does the {actor.name} do?", f"It moves {actor.direction}."))
    rng.shuffle(found)
    return found


def _at(moment: float, clip: Clip) -> list[ClipQA]:
    """What is to be seen at a moment in seconds."""
    when = f"at {moment:.1f} s"
    found = [ClipQA("moment", f"How many shapes are there {when}?", str(len(clip.at(moment).things)))]
    for actor in clip.actors:
        thing = actor.at(moment)
        if actor.event == "visible":
            found.append(ClipQA("moment", f"Is there a {actor.name} {when}?", "no" if thing is None else "yes"))
        if actor.event == "recolored" and thing is not None:
            found.append(ClipQA("moment", f"What color is the {thing.shape} {when}?", thing.color))
        if actor.event == "moves" and thing is not None:
            x, y = (thing.box[0] + thing.box[2]) / 2 - 0.5, (thing.box[1] + thing.box[3]) / 2 - 0.5
            region = (REGIONS[0] if x < 0 else REGIONS[1]) if abs(x) > abs(y) else (REGIONS[2] if y < 0 else REGIONS[3])
            found.append(ClipQA("moment", f"Where is the {actor.name} {when}?", region))
    return found


def sentence(actor: Actor) -> str:
    """What happens to an actor, without a full stop."""
    if actor.event == "moves":
        return f"a {actor.name} moves {actor.direction}"
    if actor.event == "recolored":
        return f"a {actor.thing.shape} is {actor.color}"
    return f"a {actor.name} is visible"


def span_text(span: tuple[float, float]) -> str:
    return f"{span[0]:.1f} - {span[1]:.1f} seconds"


def temporal_questions(clip: Clip) -> list[ClipQA]:
    """When each event of ``clip`` happens."""
    spans = [(actor, (actor.start, actor.end)) for actor in clip.actors if actor.event]
    return [ClipQA("", sentence(actor), span_text(span), span=span, actor=actor) for actor, span in spans]


def option_lines(options: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=True))


def event_cells(clip: Clip, qa: ClipQA) -> list[list[int]]:
    """The visual tokens of the clip, counted from its first, that show each of the times in an answer.

    They are those of the actor in the first frame of its event, and in the last one.
    """
    if qa.actor is None or qa.span is None:
        return []
    actor, times = qa.actor, sampled_times(clip)
    color = actor.color if actor.event == "recolored" else actor.thing.color
    number = list(COLORS).index(color) * len(SHAPES) + SHAPES.index(actor.thing.shape)
    within = [frame for frame, time in enumerate(times) if actor.start <= time < actor.end]
    found = []
    for time in dict.fromkeys(qa.span):
        frame = within[0 if time == actor.start else -1]
        thing = cell_targets(clip.at(times[frame]), SIDE, SIDE)["thing"]
        found.append([frame // 2 * len(thing) + int(cell) for cell in np.flatnonzero(thing == number)])
    return found
