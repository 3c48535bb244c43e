"""InternVL 2.5, 3 and 3.5: prompts and answer parsing.

Sources: the authors' evaluation, ``internvl_chat/eval/`` of OpenGVLab/InternVL (commit 2410d1d): captions, questions,
multiple choice, MME, MMMU, POPE, VizWiz and grounding; several images are numbered as in ``eval/mantis_eval`` (images
first, ``Image-1`` in the places of those inside the text).  Boxes are ``<box>[[x1, y1, x2, y2]]</box>`` in
thousandths of the image.  ``evaluate_grounding.py`` takes numbers whose sum is below 4 for fractions; here they are
thousandths.  Points are the centres of boxes, asked for as VLMEvalKit asks these models on ScreenSpot.  The prompts
for detection and for events in videos are ours.

Images are cut into up to 12 tiles of 448 × 448 pixels and a thumbnail; the number is the processor's, and the authors
raise it for some benchmarks (24 for InfoVQA), which is not done here.  Frames of videos are given as images, without
the authors' ``Frame1:``.  InternVL3.5 reasons in ``<think>`` only with the authors' system prompt (``--system``).
transformers loads the checkpoints whose names end in ``-hf``; the others are for servers.
"""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.types import ImagePart, Message, PromptSpec, PromptTemplate, Sample, TextPart, VideoPart

from ._chat import OTHER_SPECIAL
from ._prompts import DETECTION_THOUSANDTHS, LETTER, LLAVA, LMMS_EVAL, SHORT, joined
from ._scaled import MarkedChat

VQA = "{q} Answer the question using a single word or phrase."
GROUNDING = "Please provide the bounding box coordinate of the region this sentence describes: <ref>{q}</ref>"
BY_TASK: Mapping[str, PromptTemplate] = {
    "mme": PromptTemplate(VQA),
    "pope": PromptTemplate(SHORT),
    "mmmu": PromptTemplate(LETTER, others={"vqa": SHORT}, images_first=True),
    "vizwiz": PromptTemplate(
        "{q} When the provided information is insufficient, respond with 'Unanswerable'. Answer the question using a "
        "single word or phrase."
    ),
}


class InternVL(MarkedChat):
    """The family of InternVL checkpoints, in transformers' format and in the authors'."""

    name = "internvl"
    model_types = ("internvl", "internvl_chat")
    special = OTHER_SPECIAL
    official = {
        **LLAVA,
        "vqa": VQA,
        "grounding": GROUNDING,
        "pointing": GROUNDING,
        "detection": DETECTION_THOUSANDTHS,
    }
    by_task = BY_TASK
    vlmevalkit = {"choice": LETTER}
    vlmevalkit_by_task = {
        "mme": VQA,
        "hallusionbench": "{q} Please answer yes or no. Answer the question using a single word or phrase.",
    }

    def _user(self, spec: PromptSpec, sample: Sample) -> Message:
        """The question; several images come first and are numbered, and those inside the text leave their numbers."""
        turn = super()._user(spec, sample)
        several = sum(isinstance(part, ImagePart) for part in turn.content) > 1
        if spec.protocol == LMMS_EVAL or not several:
            return turn
        first: list[TextPart | ImagePart | VideoPart] = []
        text: list[TextPart | ImagePart | VideoPart] = []
        for part in turn.content:
            if isinstance(part, ImagePart):
                number = 1 + sum(isinstance(one, ImagePart) for one in first)
                first += [TextPart(f"Image-{number}: "), part]
                text += [TextPart(f"<Image-{number}>")] if any(isinstance(one, TextPart) for one in text) else []
            else:
                text.append(part)
        return Message(turn.role, joined([*first, *text]))


FAMILY = InternVL()
