"""GLM-4.1V, GLM-4.5V and GLM-4.6V: prompts and answer parsing.

Sources: the report (arXiv 2507.01006) and the README of zai-org/GLM-V (commit 8fc9756), which has the prompt for
boxes and says that they are thousandths of the image between ``<|begin_of_box|>`` and ``<|end_of_box|>``, in brackets
of any sort.  The authors publish no other prompts: those for captions, questions and options are LLaVA's, those for
detection and events in videos ours.  Points are the centres of boxes; the agents in that repository are given a tool
instead.

The models reason in ``<think>``, and mark final answers of any kind as they mark boxes.  GLM-4.1V-Thinking always
reasons; the chat templates of 4.5V and 4.6V have a switch (``--thinking off``).  The authors sample with temperature
1.0 and top-p 0.6 in their examples; here decoding is greedy unless it is overridden.  Frames of videos are given as
images, without the times that the processor would write after them.
"""

from __future__ import annotations

import re

from evalkit.coordinates import Numbers
from evalkit.types import PromptSpec

from ._prompts import DETECTION_THOUSANDTHS, LLAVA
from ._scaled import ScaledChat

GROUNDING = "Please pinpoint the bounding box [[x1,y1,x2,y2], …] in the image as per the given description. {q}"
NAME = re.compile(r"glm-?4(?:\.\d)?v", re.IGNORECASE)


class GLM4V(ScaledChat):
    """The family of GLM-4.1V, 4.5V and 4.6V checkpoints."""

    name = "glm-4v"
    model_types = ("glm4v", "glm4v_moe", "glm46v")
    timed_videos = False
    official = {**LLAVA, "grounding": GROUNDING, "pointing": GROUNDING, "detection": DETECTION_THOUSANDTHS}

    def matches_name(self, name: str) -> bool:
        return NAME.search(name) is not None

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        x1, y1, x2, y2 = self.integers(box)
        return f"<|begin_of_box|>[[{x1},{y1},{x2},{y2}]]<|end_of_box|>"


FAMILY = GLM4V()
