"""DeepSeek-VL2: prompts and answer parsing; for servers, since transformers has no model for it.

Sources: the report (arXiv 2412.10302), whose grounding data has the prompt ``Locate <|ref|>…<|/ref|> in the given
image.`` (one of several that are drawn at random in training) and answers ``<|ref|>…<|/ref|><|det|>[[x1, y1, x2,
y2], …]<|/det|>``; the authors' code, deepseek-ai/DeepSeek-VL2 (commit ef9f91e), which divides these numbers by 999
(``serve/app_modules/utils.py``); for MMMU, VLMEvalKit's file for the models (open-compass/VLMEvalKit, commit e8e78f05,
``vlmeval/vlm/deepseek_vl2.py``).  Captions, questions and other options are asked for in LLaVA's words, events in
videos in ours: the authors publish no prompts for them.  Points are the centres of boxes.  Detection of several
categories has no prompt there and is not supported; the answers with ``<|grounding|>`` are not used.

Servers may remove the special tokens from answers: the numbers in brackets remain, and are read without them.  Up to
two images are cut into tiles of 384 × 384 pixels, more are only scaled.  Frames of videos are given as images.
"""

from __future__ import annotations

import re

from evalkit.types import PromptTemplate

from ._prompts import LETTER, LLAVA, SHORT
from ._scaled import MarkedChat

GROUNDING = "Locate <|ref|>{q}<|/ref|> in the given image."


class DeepSeekVL2(MarkedChat):
    """The family of DeepSeek-VL2 checkpoints."""

    name = "deepseek-vl2"
    model_types = ("deepseek_vl_v2",)
    coordinates = "integers from 0 to 999, 999ths of the image"
    largest = 999
    expression_marks = ("<|ref|>", "<|/ref|>")
    box_marks = ("<|det|>", "<|/det|>")
    special = re.compile(r"<\|/?[a-z0-9_]++\|>|<｜[^<>｜]{1,40}+｜>")
    official = {**LLAVA, "grounding": GROUNDING, "pointing": GROUNDING}
    by_task = {
        "mmmu": PromptTemplate(
            f"{LETTER} Answer the question using a single word or phrase.\n", images_first=True, others={"vqa": SHORT}
        )
    }
    without_sharing = "it runs on servers only"
    shares_encodings = False


FAMILY = DeepSeekVL2()
