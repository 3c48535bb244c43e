"""Any chat model on the hub: prompts that need no special training.

The prompts are LLaVA-1.5's (arXiv 2310.03744), which lmms-eval has too; those for boxes and points are ours.  They
state a format and a range, fractions of the image, and answers are parsed as such: a model that answers in pixels is
wrong here, and needs its own family.  VLMEvalKit's grounding prompt states no coordinates, so it is refused for this
family.
"""

from __future__ import annotations

from ._fractions import FractionChat


class Generic(FractionChat):
    """The family of checkpoints that no other family claims."""

    name = "generic"

    def matches_name(self, name: str) -> bool:
        return False


FAMILY = Generic()
