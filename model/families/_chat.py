"""The base of most families: a ``Chat`` with its own prompts and box format."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evalkit.coordinates import Numbers, PointNumbers, box_numbers
from evalkit.errors import UserError
from evalkit.interfaces import Family
from evalkit.reasoning import ANSWER, split, unwrap
from evalkit.types import (
    LOCATED,
    Box,
    Decoding,
    ImageSize,
    Kind,
    LabelledBox,
    LabelledBoxes,
    Message,
    Part,
    Point,
    Prediction,
    PromptSpec,
    PromptTemplate,
    Sample,
    Shot,
    Size,
    TextPart,
    TimeSpan,
)

from ._prompts import LMMS_EVAL, letters, render, template_of

SPECIAL = re.compile(r"<\|[a-z0-9_]++\|>")
OTHER_SPECIAL = re.compile(r"<\|[a-z0-9_]++\|>|</?s>|<(?:bos|eos|pad|unk|end_of_turn|end_of_utterance)>")
"""Those of models beyond Qwen, too."""

ANSWER_TOKENS = tuple(marker for marker in ANSWER if marker.opening.startswith(("<|", "[")))
"""Markers of final answers that would be removed as special tokens."""

# JSON with a label that repeats the expression: 28 tokens, Qwen-VL's limit, would cut it in half.
GROUNDING_TOKENS = 128


class Chat(Family):
    """A family of chat models: one user turn per question, few-shot examples as turns before it.

    A subclass has its ``official`` prompt templates by kind, those that VLMEvalKit has for its models, the size of an
    image in its coordinates (``span``), and the format of a box (``spelled``).

    Attributes:
        special: matches tokens that are not part of an answer's text.
        by_task: the prompts that the family's own evaluation has for certain benchmarks, by task.
        vlmevalkit_by_task: those that VLMEvalKit has for the family's models and certain benchmarks, by task.
    """

    official: Mapping[Kind, str]
    by_task: Mapping[str, PromptTemplate] = {}
    vlmevalkit: Mapping[Kind, str] = {}
    vlmevalkit_by_task: Mapping[str, str] = {}
    special: re.Pattern[str] = SPECIAL

    # --------------------------------------------------------------------------------------------- to be overridden

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        """(width, height) of an image in units of the box coordinates."""
        raise NotImplementedError

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        """A box, given in the family's units, as text.  ``expression`` is the question's."""
        raise NotImplementedError

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        """A point, given in the family's units, as text; for families that answer with boxes, as an empty box."""
        return self.spelled(spec, point * 2, expression)

    def spelled_span(self, span: TimeSpan) -> str:
        """A span of time as text."""
        return f"{span[0]:.1f} - {span[1]:.1f} seconds"

    def image_size(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageSize:
        """The image's size for both: most families' coordinates do not depend on resizing."""
        return ImageSize(size, size)

    # --------------------------------------------------------------------------------------------------- the interface

    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """A user turn, after those of the few-shot examples with their answers."""
        self.check_images(sample, shots)
        turns: list[Message] = []
        for shot in shots:
            turns += [self._user(spec, shot.sample), Message("assistant", (TextPart(shot.answer),))]
        return (*turns, self._user(spec, sample))

    def decoding(self, spec: PromptSpec, default: Decoding) -> Decoding:
        """The protocol's limit, else the task's; at least 128 tokens for places in the image, with text around them."""
        tokens = self.template(spec).max_new_tokens
        found = default if tokens is None else Decoding(tokens)
        if spec.kind in LOCATED:
            return replace(found, max_new_tokens=max(found.max_new_tokens, GROUNDING_TOKENS))
        return found

    def parse(
        self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize], options: Sequence[Part] = ()
    ) -> Prediction:
        """The final answer: its text, an option letter, its first box, point or span of time, or all labelled boxes.

        Boxes and points are in pixels of the original image.  See ``evalkit.reasoning`` for what comes before and
        around an answer, ``evalkit.letters`` for letters, ``evalkit.points`` for points, ``evalkit.detections`` for
        labelled boxes and ``evalkit.time_spans`` for spans of time.
        """
        self.template(spec)
        parts = split(text, self.reasoning)
        if not parts.complete:
            return Prediction(None)
        if spec.kind == "choice":
            return Prediction(self._letter(spec, parts.answer, options))
        if spec.kind == "yes_no":
            return Prediction(spec.yes_no(self._plain(parts.answer)))
        if spec.kind == "pointing":
            return Prediction(self._point(spec, parts.answer, image_sizes[-1]) if image_sizes else None)
        if spec.kind == "detection":
            return Prediction(self._labelled_boxes(spec, parts.answer, image_sizes[-1]) if image_sizes else None)
        if spec.kind == "temporal_grounding":
            return Prediction(spec.span(self._plain(parts.answer)))
        answer = parts.answer if spec.verbatim else unwrap(parts.answer, self.answer_markers)
        if spec.kind == "grounding":
            box = self.numbers(spec, answer)
            return Prediction(self._original(spec, box, image_sizes[-1]) if box and image_sizes else None)
        return Prediction(self.special.sub("", answer).strip() or None)

    def answer(self, spec: PromptSpec, sample: Sample, image_size: ImageSize) -> str:
        """The first caption, the most frequent answer (the first of several), the letter, box, its centre, or span.

        For ``detection``: all references, in their order.
        """
        self.template(spec)
        if spec.kind == "detection":
            return self._spelled_boxes(spec, sample.references, image_size)
        if not sample.references:
            raise UserError(
                f"sample {sample.id} has no reference, so it cannot be a few-shot example; take another split."
            )
        first = sample.references[0]
        if spec.kind in LOCATED:
            units = (s / o for s, o in zip(self._span(spec, image_size) * 2, image_size.original * 2, strict=True))
            a, b, c, d = (v * unit for v, unit in zip(first, units, strict=True))
            if spec.kind == "pointing":
                centre = (a + c) / 2, (b + d) / 2
                return fractions(centre) if by_fractions(spec) else self.spelled_point(spec, centre, sample.text)
            return fractions((a, b, c, d)) if by_fractions(spec) else self.spelled(spec, (a, b, c, d), sample.text)
        if spec.kind == "temporal_grounding":
            return self.spelled_span(first)
        if spec.kind in ("vqa", "document"):
            first = Counter(sample.references).most_common(1)[0][0]
        return str(first).strip()

    def continuations(self, spec: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """The option letters, as the start of an assistant's turn."""
        self.template(spec)
        return letters(sample)

    # --------------------------------------------------------------------------------------------------------- helpers

    def template(self, spec: PromptSpec) -> PromptTemplate:
        """The prompt's template.  Raises ``UserError`` if the protocol defines none."""
        return template_of(spec, self.name, self.official, self.vlmevalkit, self.by_task, self.vlmevalkit_by_task)

    def numbers(self, spec: PromptSpec, answer: str) -> Numbers | None:
        """The first box of an answer, in the units of the prompt."""
        return box_numbers(answer)

    def point_numbers(self, spec: PromptSpec, answer: str) -> PointNumbers | None:
        """The point of an answer, in the units of the prompt or of the reading rule."""
        return spec.point_rule.read(answer)

    def _letter(self, spec: PromptSpec, answer: str, options: Sequence[Part]) -> str | None:
        texts = [option if isinstance(option, str) else None for option in options]
        return spec.letter(self._plain(answer), texts).letter

    def _plain(self, answer: str) -> str:
        """``answer`` without special tokens, except that those around a final answer become tags."""
        for marker in (m for m in self.answer_markers if m in ANSWER_TOKENS or m not in ANSWER):
            answer = answer.replace(marker.opening, "<answer>").replace(marker.closing, "</answer>")
        return self.special.sub("", answer)

    def check_images(self, sample: Sample, shots: Sequence[Shot]) -> None:
        """Raise ``UserError`` if there are more images than the family's models can take."""
        if self.several_images:
            return
        if shots:
            raise UserError(f"--shots: models of the family {self.name} take one image only; leave it out.")
        if sample.videos:
            raise UserError(
                f"sample {sample.id} has a video, and its frames are several images, but models of the family "
                f"{self.name} take one image only; choose other tasks."
            )
        if len(sample.all_images) > 1:
            raise UserError(
                f"sample {sample.id} has {len(sample.all_images)} images, but models of the family {self.name} take "
                "one image only; choose other tasks."
            )

    def _user(self, spec: PromptSpec, sample: Sample) -> Message:
        return Message("user", render(self.template(spec), sample))

    def _span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return (1, 1) if by_fractions(spec) else self.span(spec, image_size)

    def _original(self, spec: PromptSpec, box: Numbers, image_size: ImageSize) -> Box | None:
        (width, height), (wide, high) = image_size.original, self._span(spec, image_size)
        found = box[0] * width / wide, box[1] * height / high, box[2] * width / wide, box[3] * height / high
        return found if all(map(math.isfinite, found)) else None  # 1e999, or an overflow here

    def _labelled_boxes(self, spec: PromptSpec, answer: str, image_size: ImageSize) -> LabelledBoxes | None:
        """The labelled boxes of an answer in pixels; None if it cannot be parsed, or one of them is too large."""
        found = spec.box_rule(answer)
        if found is None:
            return None
        boxes: list[LabelledBox] = []
        for label, numbers in found:
            box = self._original(spec, numbers, image_size)
            if box is None:
                return None
            boxes.append({"label": label, "box": box})
        return tuple(boxes)

    def _spelled_boxes(self, spec: PromptSpec, boxes: Sequence[LabelledBox], image_size: ImageSize) -> str:
        """Labelled boxes as a list in JSON, as Qwen2.5-VL and Qwen3-VL write it; numbers are those of ``spelled``."""
        units = [s / o for s, o in zip(self._span(spec, image_size) * 2, image_size.original * 2, strict=True)]
        items = []
        for box in boxes:
            numbers = [value * unit for value, unit in zip(box["box"], units, strict=True)]
            whole = max(self._span(spec, image_size)) > 1
            shown = [round(value) if whole else round(value, 4) for value in numbers]
            items.append(
                f'\t{{"bbox_2d": {json.dumps(shown)}, "label": {json.dumps(box["label"], ensure_ascii=False)}}}'
            )
        return "```json\n[\n" + ",\n".join(items) + "\n]\n```" if items else "```json\n[]\n```"

    def _point(self, spec: PromptSpec, answer: str, image_size: ImageSize) -> Point | None:
        numbers, rule = self.point_numbers(spec, answer), spec.point_rule
        if numbers is None:
            return None
        if rule.frame:
            found = rule.pixels(numbers, image_size.original)
        else:
            (width, height), (wide, high) = image_size.original, self._span(spec, image_size)
            found = numbers[0] * width / wide, numbers[1] * height / high
        return found if all(map(math.isfinite, found)) else None


def by_fractions(spec: PromptSpec) -> bool:
    """Whether the prompt asks for fractions of the image; the answer is then parsed as such."""
    return spec.protocol == LMMS_EVAL


def fractions(box: Sequence[float]) -> str:
    """Numbers between 0 and 1 in brackets, to a 10,000th."""
    return f"[{', '.join(f'{v:.4f}' for v in box)}]"


def rounded(box: Numbers, largest: tuple[float, float]) -> tuple[int, int, int, int]:
    """The nearest integers from 0 to ``largest`` (x, y)."""
    a, b, c, d = (round(min(max(v, 0), most)) for v, most in zip(box, largest * 2, strict=True))
    return a, b, c, d


def fenced_point(x: float, y: float, label: str) -> str:
    """A point, in integers, as Qwen2.5-VL and Qwen3-VL write it."""
    item = f'{{"point_2d": [{round(x)}, {round(y)}], "label": {json.dumps(label, ensure_ascii=False)}}}'
    return f"```json\n[\n\t{item}\n]\n```"


def fenced_json(box: tuple[int, int, int, int], label: str) -> str:
    """A box as Qwen2.5-VL and Qwen3-VL write it."""
    item = f'{{"bbox_2d": {json.dumps(list(box))}, "label": {json.dumps(label, ensure_ascii=False)}}}'
    return f"```json\n[\n\t{item}\n]\n```"
