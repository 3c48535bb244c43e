"""What families have in common: a family is a ``Chat`` with its own wordings and its own boxes."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from evalkit.errors import UserError
from evalkit.types import (
    Box,
    Decoding,
    Frame,
    ImagePart,
    Kind,
    Message,
    Prediction,
    PromptSpec,
    Sample,
    Shot,
    Size,
    TextPart,
)

from ._parsing import SPECIAL, Numbers, letter, numbers, spoken
from ._prompts import LMMS_EVAL, Wording, letters, wording

# JSON with a label that repeats the expression: 28 tokens, Qwen-VL's limit, would cut it in half.
GROUNDING_TOKENS = 128


class Chat:
    """A family of chat models: a user turn per question, exemplars as turns before it.

    A family says its ``official`` wordings by kind, those that VLMEvalKit has for its models, how many units of its
    coordinates make a whole image (``span``), and how it spells a box (``spelled``).
    """

    name: str
    model_types: Sequence[str] = ()
    coordinates: str
    several_images = True

    official: Mapping[Kind, str]
    vlmevalkit: Mapping[Kind, str] = {}
    special: re.Pattern[str] = SPECIAL
    """Tokens that are no part of what an answer says."""

    # ------------------------------------------------------------------------------------- what families differ in

    def span(self, ask: PromptSpec, frame: Frame) -> tuple[float, float]:
        """How many units of a box's coordinates a whole image is wide and high."""
        raise NotImplementedError

    def spelled(self, ask: PromptSpec, box: Numbers, expression: str) -> str:
        """A box in the family's units, as it writes one.  ``expression`` is what it was asked for."""
        raise NotImplementedError

    def frame(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> Frame:
        """An image's size, twice: the coordinates of most families do not depend on what the encoder sees."""
        return Frame(size, size)

    # ---------------------------------------------------------------------------------------------------- the contract

    def prompt(self, ask: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """A user turn, its images first, after those of the exemplars with their answers; see ``Family``."""
        self.check_shots(shots)
        turns: list[Message] = []
        for shot in shots:
            turns += [self._user(ask, shot.sample), Message("assistant", (TextPart(shot.answer),))]
        return (*turns, self._user(ask, sample))

    def decoding(self, ask: PromptSpec, default: Decoding) -> Decoding:
        """The protocol's limit, else the task's own; at least 128 tokens for boxes, which come with words around."""
        tokens = self.wording(ask).tokens
        found = default if tokens is None else Decoding(tokens)
        if ask.kind == "grounding":
            return Decoding(max(found.max_new_tokens, GROUNDING_TOKENS), found.min_new_tokens)
        return found

    def read(self, ask: PromptSpec, text: str, frames: Sequence[Frame]) -> Prediction:
        """A stripped text, an option's letter, or the first box in pixels of the original; see ``Family``."""
        self.wording(ask)
        said = spoken(text)
        if said is None:
            return Prediction(None)
        if ask.kind == "grounding":
            box = self.numbers(ask, said)
            return Prediction(self._original(ask, box, frames[-1]) if box and frames else None)
        plain = self.special.sub("", said).strip()
        return Prediction(letter(plain) if ask.kind == "choice" else plain or None)

    def answer(self, ask: PromptSpec, sample: Sample, frame: Frame) -> str:
        """The first caption, the most frequent answer (the first of those), the letter, or the box; see ``Family``."""
        self.wording(ask)
        if not sample.references:
            raise UserError(f"sample {sample.id} has no reference, so it cannot be an exemplar; take another split.")
        first = sample.references[0]
        if ask.kind == "grounding":
            units = (s / o for s, o in zip(self._span(ask, frame) * 2, frame.original * 2, strict=True))
            a, b, c, d = (v * unit for v, unit in zip(first, units, strict=True))
            return fractions((a, b, c, d)) if by_fractions(ask) else self.spelled(ask, (a, b, c, d), sample.text)
        if ask.kind in ("vqa", "document"):
            first = Counter(sample.references).most_common(1)[0][0]
        return str(first).strip()

    def continuations(self, ask: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """The letters: an assistant's turn begins with them."""
        self.wording(ask)
        return letters(sample)

    # ------------------------------------------------------------------------------------------------------- the rest

    def wording(self, ask: PromptSpec) -> Wording:
        """How ``ask`` is worded.  Raises ``UserError`` where its protocol does not say."""
        return wording(ask, self.name, self.official, self.vlmevalkit)

    def numbers(self, ask: PromptSpec, said: str) -> Numbers | None:
        """The first box of an answer, in the units that were asked for."""
        return numbers(said)

    def check_shots(self, shots: Sequence[Shot]) -> None:
        """Raises ``UserError`` for exemplars where only one image can be taken."""
        if shots and not self.several_images:
            raise UserError(f"--shots: models of the family {self.name} take one image only; leave it out.")

    def _user(self, ask: PromptSpec, sample: Sample) -> Message:
        return Message("user", (*map(ImagePart, sample.images), TextPart(self.wording(ask).of(sample))))

    def _span(self, ask: PromptSpec, frame: Frame) -> tuple[float, float]:
        return (1, 1) if by_fractions(ask) else self.span(ask, frame)

    def _original(self, ask: PromptSpec, box: Numbers, frame: Frame) -> Box | None:
        (width, height), (wide, high) = frame.original, self._span(ask, frame)
        found = box[0] * width / wide, box[1] * height / high, box[2] * width / wide, box[3] * height / high
        return found if all(map(math.isfinite, found)) else None  # 1e999, or what becomes too large here


def by_fractions(ask: PromptSpec) -> bool:
    """Whether the prompt itself asks for fractions of the image: then that is how the answer is read."""
    return ask.protocol == LMMS_EVAL


def fractions(box: Numbers) -> str:
    """Four numbers between 0 and 1 in brackets, to a 10,000th."""
    return f"[{', '.join(f'{v:.4f}' for v in box)}]"


def whole(box: Numbers, largest: tuple[float, float]) -> tuple[int, int, int, int]:
    """The nearest whole numbers from 0 to ``largest`` (x, y)."""
    a, b, c, d = (round(min(max(v, 0), most)) for v, most in zip(box, largest * 2, strict=True))
    return a, b, c, d


def fenced_json(box: tuple[int, int, int, int], label: str) -> str:
    """A box as Qwen2.5-VL and Qwen3-VL write it."""
    item = f'{{"bbox_2d": {json.dumps(list(box))}, "label": {json.dumps(label, ensure_ascii=False)}}}'
    return f"```json\n[\n\t{item}\n]\n```"
