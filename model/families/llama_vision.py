"""Llama 3.2 Vision and Llama 4: prompts and answer parsing.

Sources: Meta's account of its evaluation of Llama 3.2 (meta-llama/llama-models, ``models/llama3_2/eval_details.md``)
for VQAv2, DocVQA, MMMU and MathVista, with their token limits.  The prompts of VQAv2 and DocVQA are used for all
questions with short answers and about documents.  Those of AI2D and ChartQA depend on the model's size, and begin its
answer; they are not used here, nor is MMMU-Pro's, which stitches several images into one.  Captions and other multiple
choice are asked for in LLaVA's words; boxes, points, detection and events in videos in ours, since no convention is
documented.  Llama 4 has the same prompts, as in VLMEvalKit (open-compass/VLMEvalKit, commit e8e78f05,
``vlmeval/vlm/llama4.py``); Meta's own for Llama 4 were not found.

Images come before the text.  An image of Llama 3.2 is cut into up to four tiles of 560 × 560 pixels, one of Llama 4
into up to 16 of 336 × 336 and a small copy.  Frames of videos are given as images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from evalkit.types import PromptTemplate

from ._fractions import FractionChat

RULES = (
    "For yes/no questions, just respond Yes or No. If the answer is numeric, just respond with the number and nothing "
    "else. If the answer has multiple words, just respond with the words and absolutely nothing else. Never respond in "
    "a sentence or a phrase.\n "
)
VQA = (
    f"Look at the image carefully and answer this visual question. {RULES}Respond with as few words as possible.\n "
    "Question: {q}"
)
DOCUMENT = (
    "Read the text in the image carefully and answer the question with the text as seen exactly in the image. "
    f"{RULES}Question: {{q}}"
)
STEPS = "Look at the image carefully and solve the following question step-by-step. "
END = " Indicate the correct answer at the end."
MMMU = STEPS + "{q} Options: {options}" + END
NAME = re.compile(r"llama-?3\.2.*vision|llama-?4", re.IGNORECASE)


class LlamaVision(FractionChat):
    """The family of Llama 3.2 Vision and Llama 4 checkpoints."""

    name = "llama-vision"
    model_types = ("mllama", "llama4")
    official = {**FractionChat.official, "vqa": VQA, "document": DOCUMENT}
    by_task: Mapping[str, PromptTemplate] = {
        "vqav2": PromptTemplate(VQA, max_new_tokens=25),
        "docvqa": PromptTemplate(DOCUMENT, max_new_tokens=512),
        "mmmu": PromptTemplate(MMMU, max_new_tokens=2048, images_first=True, others={"vqa": STEPS + "{q}" + END}),
        "mathvista": PromptTemplate("{q}", max_new_tokens=2048),
    }  # fmt: skip
    vlmevalkit_by_task = {"docvqa": DOCUMENT, "mathvista": "{q}"}
    without_sharing = "Llama 3.2 sees images through cross-attention, and Llama 4 attends in chunks"

    def matches_name(self, name: str) -> bool:
        return NAME.search(name) is not None


FAMILY = LlamaVision()
