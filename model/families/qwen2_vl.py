"""Qwen2-VL: prompts and answer parsing.

Sources: the report (arXiv 2409.12191, §2.2.1: boxes are integers in [0, 1000) of the image, between special tokens);
prompts for questions as VLMEvalKit has them for these models; the grounding prompt is the one that users report to
reproduce the paper.  No official caption prompt exists: ``Describe this image in one sentence.`` is ours, and so is the
prompt for points, after that for boxes.
Sizes: the limits are those of the released ``preprocessor_config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.coordinates import Numbers, PointNumbers
from evalkit.model.smart_resize import resize
from evalkit.types import ImageSize, Kind, PromptSpec, PromptTemplate, SamplingPreset, Size, VideoGeometry

from ._chat import Chat, rounded
from ._prompts import TEMPORAL

VQA = "{q}\nPlease try to answer the question with short words or phrases if possible."
CHOICE = "Question: {q}\nOptions:\n{options}\nPlease select the correct answer from the options above."
CAPTION = "Describe this image in one sentence."
GROUNDING = "Please provide the bounding box coordinate of the region this sentence describes: {q}"
DETECTION = (
    "Locate every instance that belongs to the following categories: '{q}'. Report bbox coordinates in JSON format."
)
POINTING = "Please provide the point coordinate of the region this sentence describes: {q}"

# VLMEvalKit's prompts for Qwen2-VL; its prompts for captions and boxes are those of any model.
VLMEVALKIT: dict[Kind, str] = {
    "vqa": VQA,
    "choice": (
        "{hints}Question: {question}\nOptions:\n{options}\nPlease select the correct answer from the options above."
    ),
}

# The same for benchmarks that have prompts of their own.  MMMU has its images first there, with its marks in the text.
BY_TASK: dict[str, PromptTemplate] = {
    "blink": PromptTemplate(CHOICE),
    "mmmu": PromptTemplate(CHOICE, others={"vqa": "Question: {q}"}, images_first=True),
}

# A visual token is 28 × 28 pixels (two by two patches of 14); an image has 4 to 16,384 of them.
SIDE = 28
MIN_PIXELS = 4 * SIDE**2
MAX_PIXELS = 16_384 * SIDE**2


class Qwen2VL(Chat):
    """The family of Qwen2-VL checkpoints."""

    name = "qwen2-vl"
    presets = {
        "qwen2-vl-vlmevalkit": SamplingPreset(
            {"temperature": 0.01, "top_p": 0.001, "top_k": 1, "repetition_penalty": 1.0, "max_new_tokens": 2048},
            "VLMEvalKit, vlmeval/vlm/qwen2_vl/model.py (commit 002f7b78)",
        )
    }
    model_types: Sequence[str] = ("qwen2_vl",)
    coordinates = "integers from 0 to 999, thousandths of the image"
    video_sampling = "qwen-vl-utils-0.0.14"
    video_geometry = VideoGeometry()
    timed_videos = False
    official = {
        "caption": CAPTION,
        "vqa": VQA,
        "choice": CHOICE,
        "grounding": GROUNDING,
        "pointing": POINTING,
        "detection": DETECTION,
        "temporal_grounding": TEMPORAL,
    }
    vlmevalkit = VLMEVALKIT
    by_task: Mapping[str, PromptTemplate] = BY_TASK
    # Its instruction for these two; POPE's questions end with it already.
    vlmevalkit_by_task: Mapping[str, str] = {
        "hallusionbench": "{q} Please answer yes or no.",
        "pope": "{q} Please answer yes or no. Please answer yes or no.",
    }
    side, min_pixels, max_pixels = SIDE, MIN_PIXELS, MAX_PIXELS

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return 1000, 1000

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        x1, y1, x2, y2 = rounded(box, (999, 999))
        return f"<|object_ref_start|>{expression}<|object_ref_end|><|box_start|>({x1},{y1}),({x2},{y2})<|box_end|>"

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        x, y = (round(min(max(value, 0), 999)) for value in point)
        return f"<|object_ref_start|>{expression}<|object_ref_end|><|point_start|>({x},{y})<|point_end|>"

    def image_size(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageSize:
        """An image's size in the file and after resizing; None stands for the released processor's limit."""
        least = self.min_pixels if min_pixels is None else min_pixels
        most = self.max_pixels if max_pixels is None else max_pixels
        return ImageSize(size, resize(size, self.side, least, most))


FAMILY = Qwen2VL()
