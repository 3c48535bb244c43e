"""Qwen3.5: prompts and answer parsing.

Sources: no report with prompts was found for this line of image-text models.  Qwen3-VL's are taken (``qwen3_vl.py``),
as lmms-eval does (EvolvingLMMs-Lab/lmms-eval, commit 75571cf, ``models/simple/qwen3_5.py``), with its boxes relative
to the image, from 0 to 1000.  Not verified: that these models keep these coordinates.

The chat template has a switch for reasoning (``--thinking``) and opens it in the prompt, for some sizes by default.
Behind servers that do not show their prompts, it is recognised by its closing marker.
"""

from __future__ import annotations

from .qwen3_vl import Qwen3VL


class Qwen35(Qwen3VL):
    """The family of Qwen3.5 checkpoints, dense and mixture of experts."""

    name = "qwen3.5-vl"
    model_types = ("qwen3_5", "qwen3_5_moe")
    without_sharing = "layers with linear attention keep a state that every token changes, beside keys and values"

    def matches_name(self, name: str) -> bool:
        return "qwen3.5" in name.lower()  # the checkpoints' names have no VL


FAMILY = Qwen35()
