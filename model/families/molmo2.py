"""Molmo 2: prompts and answer parsing.

Sources: the authors' code, allenai/molmo2 (commit f3cb108): ``olmo/preprocessing/data_formatter.py`` for prompts
(style tags such as ``vqa2:`` before questions with short answers, none before options, captions and points),
``point_formatter.py`` (``html-v2``) for points, ``olmo/hf_model/convert_molmo2_to_hf.py`` for the chat template.  A
point is ``<points coords="1 1 990 800">label</points>``: the image's number, the point's number, and x and y in
thousandths of the image.  Of several prompts that are drawn at random in training, the first is taken.  There are no
prompts for boxes in that code, so grounding and detection are not supported, nor are events in videos.

The chat template puts all images, those of few-shot examples included, before the first turn, and numbers several
(``Image 1``).  The original Molmo (``<point x="…" y="…">``, percent) has no model in transformers.  Frames of videos
are given as images, without the times that the processor would write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from evalkit.coordinates import PointNumbers
from evalkit.types import ImageSize, PromptSpec, PromptTemplate

from ._chat import rounded
from ._fractions import FractionChat

SHORT_ANSWER = "vqa2: {q}"
CHOICE = "{q}\nOnly return the correct answer option.\n{options}"
STYLES = {
    "textvqa": "text_vqa",
    "docvqa": "doc_qa",
    "infovqa": "info_qa",
    "chartqa": "chart_qa",
    "ocrvqa": "ocr_vqa",
    "okvqa": "okvqa",
    "gqa": "gqa",
}
_COORDS = re.compile(r'<(?:points|tracks)\b[^>]*?\bcoords="[\d.]++ \d++ (\d{3,4}) (\d{3,4})\b', re.ASCII)


class Molmo2(FractionChat):
    """The family of Molmo 2 checkpoints."""

    name = "molmo2"
    model_types = ("molmo2",)
    coordinates = "points only: integers from 0 to 1000, thousandths of the image"
    timed_videos = False
    without_sharing = "tokens of an image see each other both ways"
    official = {
        "caption": "Caption the image with 1 or two sentences",
        "vqa": SHORT_ANSWER,
        "choice": CHOICE,
        "pointing": "Point to {q}\nPlease say 'There are none.' if it is not in the image.",
    }
    by_task: Mapping[str, PromptTemplate] = {
        task: PromptTemplate(f"{style}: {{q}}") for task, style in STYLES.items()
    }  # fmt: skip

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return 1000, 1000

    def point_numbers(self, spec: PromptSpec, answer: str) -> PointNumbers | None:
        """The first point of the first image, else what the rule reads."""
        match = None if spec.point_rule.frame else _COORDS.search(answer)
        return super().point_numbers(spec, answer) if match is None else (float(match[1]), float(match[2]))

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        x, y, *_ = rounded(point * 2, (1000, 1000))
        return f'<points coords="1 1 {x:03d} {y:03d}">{expression}</points>'


FAMILY = Molmo2()
