"""Kimi-VL: prompts and answer parsing; for servers, since transformers has no model for it.

Sources: VLMEvalKit's file for the models (open-compass/VLMEvalKit, commit e8e78f05, ``vlmeval/vlm/kimi_vl.py``), which
asks for steps and ``\\boxed{LETTER}`` on MMMU and MMStar, with 4,096 tokens, and the README of MoonshotAI/Kimi-VL,
which has no prompts of the authors' evaluation.  Other kinds are asked for in LLaVA's words.  No convention for boxes
and points was found, although the report (arXiv 2504.07491) gives scores on ScreenSpot: the prompts for them, for
detection and for events in videos are ours.

The Thinking checkpoints reason between ``◁think▷`` and ``◁/think▷``.  Images keep their shape and stand where the
question has them.  Kimi K2.5 is another architecture, and not in this family.
"""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.types import PromptTemplate

from ._fractions import FractionChat

END = (
    "\nAnswer the preceding question. The last line of your response should follow this format: 'Answer: "
    "$\\boxed{{LETTER}}$' (without quotes), where LETTER is one of the options. Think step by step logically, "
    "considering all relevant information before answering."
)
CHOICE = "{hints}Question: {question}\nOptions:\n{options}" + END
STEPS = PromptTemplate(CHOICE, max_new_tokens=4096, others={"vqa": "{hints}Question: {question}" + END})


class KimiVL(FractionChat):
    """The family of Kimi-VL checkpoints."""

    name = "kimi-vl"
    model_types = ("kimi_vl",)
    by_task: Mapping[str, PromptTemplate] = {"mmmu": STEPS, "mmstar": STEPS}
    vlmevalkit_by_task: Mapping[str, str] = {"mmmu": CHOICE, "mmstar": CHOICE}
    without_sharing = "it runs on servers only"
    shares_encodings = False


FAMILY = KimiVL()
