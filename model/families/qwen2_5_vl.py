"""Qwen2.5-VL: prompts and answer parsing.

Sources: the report (arXiv 2502.13923) for boxes; prompts as the Qwen2-VL line of models is evaluated in VLMEvalKit, and
the grounding instruction of the model's own cookbook.  No official caption prompt exists from Qwen2-VL on:
``Describe this image in one sentence.`` is ours.  So is the prompt for points, in the format of the model's cookbook:
ScreenSpot-Pro's authors give this model a tool to click with instead, and force the beginning of its answer.

Coordinates are *absolute pixels of the resized image* (``image_grid_thw`` × 14), converted here to pixels of the
original image.  If the resized sizes were not recorded (``evalkit score``), ``resized`` computes them as the
released processor does (``smart_resize.py``) with the limits of its ``preprocessor_config.json``.
"""

from __future__ import annotations

from evalkit.coordinates import Numbers, PointNumbers
from evalkit.model.smart_resize import resize
from evalkit.types import ImageSize, PromptSpec, SamplingPreset, Size

from ._chat import fenced_json, fenced_point
from ._prompts import TEMPORAL
from .qwen2_vl import CAPTION, CHOICE, DETECTION, MAX_PIXELS, MIN_PIXELS, SIDE, VQA, Qwen2VL

GROUNDING = "Locate {q} in this image and output the bbox coordinates in JSON format."
POINTING = (
    "Locate in this image the point for this instruction: {q}\nOutput its coordinates in JSON format like this: "
    '{{"point_2d": [x, y], "label": "…"}}'
)


def resized(size: Size, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS) -> Size:
    """The size to which the processor resizes an image of ``size``, both (width, height) in pixels.

    Raises:
        ValueError: one side is more than 200 times the other, which the processor does not support.
    """
    return resize(size, SIDE, min_pixels, max_pixels)


class Qwen25VL(Qwen2VL):
    """The family of Qwen2.5-VL checkpoints."""

    name = "qwen2.5-vl"
    presets = {
        "qwen2.5-vl-vlmevalkit": SamplingPreset(
            {"temperature": 0.01, "top_p": 0.001, "top_k": 1, "repetition_penalty": 1.0, "max_new_tokens": 2048},
            "VLMEvalKit, vlmeval/vlm/qwen2_vl/model.py (commit 002f7b78)",
        )
    }
    model_types = ("qwen2_5_vl",)
    coordinates = "absolute pixels of the resized image"
    video_sampling = "qwen2.5-report"
    timed_videos = True
    # VLMEvalKit asks Qwen2-VL only in words of its own (``use_custom_prompt=False`` for this family).
    vlmevalkit = {}
    vlmevalkit_by_task = {}
    official = {
        "caption": CAPTION,
        "vqa": VQA,
        "choice": CHOICE,
        "grounding": GROUNDING,
        "pointing": POINTING,
        "detection": DETECTION,
        "temporal_grounding": TEMPORAL,
    }

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return image_size.resized

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        a, b, c, d = (round(v) for v in box)
        return fenced_json((a, b, c, d), expression)

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        return fenced_point(*point, expression)


FAMILY = Qwen25VL()
