"""SmolVLM, SmolVLM2 and Idefics3: prompts and answer parsing.

Sources: the authors evaluate in VLMEvalKit (open-compass/VLMEvalKit, commit e8e78f05), to which they gave the models'
prompts: ``vlmeval/vlm/smolvlm.py`` and ``idefics.py``, which follow the instruction that VLMEvalKit puts after
questions of some benchmarks.  They begin the answer to a multiple-choice question with ``Answer:``, which is not done
here: a conversation ends with the user's turn.  No prompts for captions, boxes, points and events in videos are
known: LLaVA's for captions, the others are ours.

An image is scaled to a longest edge of 1,536 or 2,048 pixels (by checkpoint) and cut into tiles of 364, 384 or 512
pixels, which come before a small copy of it.  Frames of videos are given as images; the authors' processor would
write times.
"""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.types import PromptTemplate

from ._fractions import FractionChat
from ._prompts import SHORT

BRIEF = "{q}\nGive a very brief answer."
YES_NO = "{q}\nAnswer yes or no."
CHOICE = "{hints}Question: {question}\nChoices:\n{options}\nAnswer with the letter."
MMBENCH = "Question: {question}\n{hints}Choices:\n{options}\nAnswer with a letter."
CHARTQA = (
    "For the question below, follow the following instructions:\n"
    "-The answer should contain as few words as possible.\n"
    "-Don't paraphrase or reformat the text you see in the image.\n"
    "-Answer a binary question with Yes or No.\n"
    "-When asked to give a numerical value, provide a number like 2 instead of Two.\n"
    "-If the final answer has two or more items, provide it in the list format like [1, 2].\n"
    "-When asked to give a ratio, give out the decimal value like 0.25 instead of 1:4.\n"
    "-When asked to give a percentage, give out the whole value like 17 instead of decimal like 0.17%.\n"
    "-Don't include any units in the answer.\n"
    "-Do not include any full stops at the end of the answer.\n"
    "-Try to include the full label from the graph when asked about an entity.\n"
    "Question: " + SHORT
)
DOCVQA = (
    "Give a short and terse answer to the following question. Do not paraphrase or reformat the text you see in the "
    "image. Do not include any full stops. Just give the answer without additional explanation. Question: " + SHORT
)
TEXTVQA = (
    "Answer the following question about the image using as few words as possible. Follow these additional "
    "instructions:\n"
    "-Always answer a binary question with Yes or No.\n"
    "-When asked what time it is, reply with the time seen in the image.\n"
    "-Do not put any full stops at the end of the answer.\n"
    "-Do not put quotation marks around the answer.\n"
    "-An answer with one or two words is favorable.\n"
    "-Do not apply common sense knowledge. The answer can be found in the image.\n"
    "Question: " + SHORT
)
BY_TASK: Mapping[str, str] = {
    "chartqa": CHARTQA,
    "docvqa": DOCVQA,
    "textvqa": TEXTVQA,
    **dict.fromkeys(("ocrvqa", "infovqa"), f"{SHORT}\nGive a very brief answer."),
    **dict.fromkeys(("mme", "mmvet", "ocrbench"), BRIEF),
    **dict.fromkeys(("mmstar", "seedbench_img", "ai2d", "scienceqa_img"), CHOICE),
    **dict.fromkeys(("mmbench_en", "mmbench_cn", "mmbench_en_v11", "mmbench_cn_v11", "ccbench"), MMBENCH),
    "hallusionbench": YES_NO,
}


class SmolVLM(FractionChat):
    """The family of SmolVLM, SmolVLM2 and Idefics3 checkpoints."""

    name = "smolvlm"
    model_types = ("smolvlm", "idefics3")
    timed_videos = False
    official = {**FractionChat.official, "vqa": BRIEF, "yes_no": YES_NO, "choice": CHOICE}
    by_task: Mapping[str, PromptTemplate] = {task: PromptTemplate(text) for task, text in BY_TASK.items()}
    vlmevalkit_by_task = BY_TASK

    def matches_name(self, name: str) -> bool:
        return super().matches_name(name) or "idefics3" in name.lower()


FAMILY = SmolVLM()
