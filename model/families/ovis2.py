"""Ovis2: prompts and answer parsing.

Sources: the authors evaluate in VLMEvalKit (open-compass/VLMEvalKit, commit e8e78f05, ``vlmeval/vlm/ovis/ovis.py``),
which has LLaVA's prompts for options and yes/no questions.  The steps that it asks some sizes of the model for, on
some benchmarks, are not used here.  Captions are asked for in LLaVA's words; no convention for boxes was found in
AIDC-AI/Ovis (commit 4de4946): prompts for boxes, points, detection and events in videos are ours.

Images are cut into tiles of 448 × 448 pixels (up to nine in that evaluation of the authors' format; here their number
is the processor's).  Frames of videos are given as images.  transformers loads the checkpoints whose names end in
``-hf``; the others, and Ovis2.5, whose prompts and reasoning are other ones, are for servers.
"""

from __future__ import annotations

import re

from ._fractions import FractionChat
from ._prompts import LETTER, SHORT

NAME = re.compile(r"ovis-?2(?!\.\d)", re.IGNORECASE)


class Ovis2(FractionChat):
    """The family of Ovis2 checkpoints, in transformers' format and in the authors'."""

    name = "ovis2"
    model_types = ("ovis2", "ovis")
    vlmevalkit = {"choice": LETTER}
    vlmevalkit_by_task = dict.fromkeys(("mme", "pope", "hallusionbench"), SHORT)

    def matches_name(self, name: str) -> bool:
        return NAME.search(name) is not None


FAMILY = Ovis2()
