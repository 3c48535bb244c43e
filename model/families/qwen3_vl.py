"""Qwen3-VL, dense and mixture of experts: prompts and answer parsing.

Sources: the report (arXiv 2511.21631) for the prompts of questions about documents and of grounding, and for boxes:
relative to the image, from 0 to 1000, as JSON.  Multiple choice as Qwen2-VL.  The report's prompt for documents
is used for all images.  No official caption prompt exists: ``Describe this image in one sentence.`` is ours.
The prompt for points is ours, as for Qwen2.5-VL; the report's gives the model a tool to click with, and its text is not
published.  The chat template of the Thinking checkpoints opens reasoning in the prompt.
Sizes: the limits are those of the released ``preprocessor_config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.coordinates import Numbers, PointNumbers
from evalkit.types import PromptSpec, PromptTemplate, SamplingPreset, VideoGeometry

from ._chat import fenced_json, fenced_point, rounded
from ._prompts import LETTER, SHORT, TEMPORAL
from .qwen2_5_vl import POINTING
from .qwen2_vl import CAPTION, CHOICE, DETECTION, Qwen2VL

GROUNDING = (
    'Locate every object that matches the description "{q}" in the image. Report bbox coordinates in JSON format.'
)

# The prompts of the report, appendix B, for single benchmarks: images first.
BY_TASK: Mapping[str, PromptTemplate] = {
    "blink": PromptTemplate(CHOICE),
    "mmmu": PromptTemplate(CHOICE, others={"vqa": "Question: {q}"}, images_first=True),
    "mmmu_pro": PromptTemplate("{q}\n{options}\nPlease select the correct answer from the options.", images_first=True),
    "mmmu_pro_vision": PromptTemplate("Identify the problem and solve it. Think step by step before answering."),
    # The data set's own text:
    "hallusionbench": PromptTemplate("{q}"),
    "ocrbench": PromptTemplate("{q}"),
    "ocrbench_v2": PromptTemplate("{q}"),
    "cc_ocr": PromptTemplate("{q}"),
    "charxiv_descriptive": PromptTemplate("{q}"),
    "charxiv_reasoning": PromptTemplate("{q}"),
    "mathvision": PromptTemplate("{q}"),
    "mathvista": PromptTemplate("{q}"),
    "muirbench": PromptTemplate(LETTER),
    "zerobench": PromptTemplate(
        "{q}\nLet's think step by step and give the final answer in curly braces, like this: {{final answer}}"
    ),
    "visulogic": PromptTemplate(
        "{q}\nSolve the complex visual logical reasoning problem through step-by-step reasoning.\nThink about the "
        "reasoning process first and answer the question following this format:\nAnswer://boxed{{$LETTER}}"
    ),
}


class Qwen3VL(Qwen2VL):
    """The family of Qwen3-VL checkpoints."""

    name = "qwen3-vl"
    model_types = ("qwen3_vl", "qwen3_vl_moe")
    presets = {
        "qwen3-vl-instruct": SamplingPreset(
            {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5, "repetition_penalty": 1.0,
             "max_new_tokens": 32_768},
            "README of QwenLM/Qwen3-VL (commit 96588727)",
        ),
        # Elsewhere, the dense Thinking models are evaluated at temperature 1.
        "qwen3-vl-thinking": SamplingPreset(
            {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "presence_penalty": 0.0, "repetition_penalty": 1.0,
             "max_new_tokens": 40_960},
            "README of QwenLM/Qwen3-VL (commit 96588727)",
        ),
    }  # fmt: skip
    coordinates = "from 0 to 1000, thousandths of the image"
    video_sampling = "qwen3-report"
    video_geometry = VideoGeometry(16, 2, 2, whole_video=True, min_pixels=4_096, max_pixels=24_576 * 32**2)
    timed_videos = True
    vlmevalkit = {}  # as for Qwen2.5-VL
    vlmevalkit_by_task = {}
    official = {
        "caption": CAPTION,
        "vqa": SHORT,
        "choice": CHOICE,
        "grounding": GROUNDING,
        "pointing": POINTING,
        "detection": DETECTION,
        "temporal_grounding": TEMPORAL,
    }
    by_task = BY_TASK

    # A visual token is 32 × 32 pixels (two by two patches of 16); an image has 64 to 16,384 of them.
    side, min_pixels, max_pixels = 32, 64 * 32**2, 16_384 * 32**2

    def prompt_end(self, name: str) -> str:
        return "<think>\n" if "thinking" in name.lower() else ""

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        return fenced_json(rounded(box, (1000, 1000)), expression)

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        return fenced_point(min(max(point[0], 0), 1000), min(max(point[1], 0), 1000), expression)


FAMILY = Qwen3VL()
