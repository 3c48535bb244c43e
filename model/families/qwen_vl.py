"""Qwen-VL (2023), the base model: prompts and answer parsing.

Sources: the report (arXiv 2308.12966) and the model's own evaluation, QwenLM/Qwen-VL ``eval_mm/`` (commit aa00ed0).  It
prompts base and chat model alike with plain text, an image (``<img>…</img>``, which the processor writes) and a prompt
without a chat template, decodes greedily with a minimum number of tokens, and ranks the option letters of
multiple-choice questions.  Few-shot examples are ``prompt + " " + answer`` with nothing between them.

Coordinates are integers in [0, 1000) of the image.  ``evaluate_grounding.py`` divides by **999**, so the official
protocol does; under VLMEvalKit's prompt they are thousandths.  That script parses only ``(x1,y1),(x2,y2)``, exactly so,
and scores anything else as an empty box; here Chinese brackets, spaces and other forms are parsed, too.
Points are the centres of boxes, asked for as ScreenSpot's authors do (SeeClick, ``pretrain/screenspot_test.py``).

``config.json`` has ``"model_type": "qwen"`` for base and chat model alike.  The ``chat_format`` of
``generation_config.json`` tells them apart (``raw`` or ``chatml``), else the name does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.coordinates import Numbers
from evalkit.types import (
    LOCATED,
    Decoding,
    ImagePart,
    ImageSize,
    Message,
    PromptSpec,
    Sample,
    Shot,
    TextPart,
    VideoPart,
)

from ._chat import Chat, rounded
from ._prompts import OFFICIAL, joined, render

CAPTION = "Describe the image in English:"
VQA = "{q} Answer:"
CHOICE = "Context: {hint}\nQuestion: {question}\nOptions: {options}\nAnswer:"
GROUNDING = "<ref>{q}</ref><box>"
POINTING = "Generate the bounding box of {q}"


def is_chat_model(name: str, chat_format: object) -> bool:
    """Whether a Qwen-VL checkpoint is Qwen-VL-Chat."""
    return chat_format == "chatml" if chat_format in ("raw", "chatml") else "chat" in name.lower()


class QwenVL(Chat):
    """The family of Qwen-VL's base model: prompts are plain text under every protocol."""

    name = "qwen-vl"
    model_types: Sequence[str] = ("qwen",)
    coordinates = "integers from 0 to 999 across the image (0 to 1000 under vlmevalkit)"
    official = {"caption": CAPTION, "vqa": VQA, "choice": CHOICE, "grounding": GROUNDING, "pointing": POINTING}
    ranks_letters = True
    special = re.compile(r"<\|[a-z0-9_]++\|>|</?(?:ref|box|quad|img)>|<imgpad>")

    def claims(self, model_type: str, name: str, chat_format: object = None) -> bool:
        """Whether it is a Qwen-VL checkpoint, but not a chat model; see the module."""
        return super().claims(model_type, name, chat_format) and not is_chat_model(name, chat_format)

    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """One plain text: few-shot examples with their answers, then the question, each after its image."""
        self.check_images(sample, shots)
        template = self.template(spec)
        parts: list[TextPart | ImagePart | VideoPart] = []
        for shot in shots:
            parts += [*render(template, shot.sample), TextPart(f" {shot.answer}")]
        return (Message("plain", joined([*parts, *render(template, sample)])),)

    def decoding(self, spec: PromptSpec, default: Decoding) -> Decoding:
        """Under the official protocol, as ``eval_mm`` decodes: with minimum numbers of tokens, and 28 for a box."""
        found = super().decoding(spec, default)
        if spec.protocol != OFFICIAL or spec.kind == "choice":
            return found
        if spec.kind in LOCATED:
            return Decoding(28, 10)
        return Decoding(found.max_new_tokens, 8 if spec.kind == "caption" else 1)

    def continuations(self, spec: PromptSpec, sample: Sample) -> tuple[str, ...]:
        """The letters as continuations of plain text: `` A``, `` B``, …"""
        return tuple(f" {letter}" for letter in super().continuations(spec, sample))

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return (999, 999) if spec.protocol == OFFICIAL else (1000, 1000)

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        x1, y1, x2, y2 = rounded(box, (999, 999))
        corners = f"({x1},{y1}),({x2},{y2})</box>"
        return corners if spec.protocol == OFFICIAL else f"<ref>{expression}</ref><box>{corners}"


FAMILY = QwenVL()
