"""Pixtral, Mistral Small 3.1 and 3.2, Ministral 3: prompts and answer parsing.

Sources: the report (arXiv 2410.07073), whose "explicit" prompts are in the authors' evaluation,
mistralai/mistral-evals (commit d61811f): VQAv2 (for all questions with short answers), DocVQA, ChartQA and MMMU.  The
latter two ask for steps and for ``Final Answer: …``; what follows it is the answer.  Other multiple choice, and
captions, are asked for in LLaVA's words.  No convention for boxes is documented: prompts for boxes, points and
detection are ours, and so is that for events in videos.

Images keep their shape, up to 1,024 or 1,540 pixels a side, by checkpoint; they stand where the question has them.
The authors use no system prompt in that evaluation; the chat templates of some checkpoints write one of their own.
Magistral and other checkpoints that reason do so in ``[THINK]``.  Frames of videos are given as images.  Pixtral-12B
in transformers' format has the ``model_type`` of LLaVA, and needs ``--family pixtral``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from evalkit.types import PromptTemplate

from ._fractions import FractionChat
from ._prompts import SHORT

VQA = (
    "{q}\n"
    "- Answer the question using a single word, number, or short phrase. Use as few words as possible.\n"
    "- If the answer is a number, report it as a number, i.e. 2, not Two, and only include the number without any "
    "unit.\n"
    "- If the question is Yes/No, answer with Yes/No, and nothing else (no likely, unknown, etc.).\n"
    "- You cannot answer that the question is unanswerable. You must answer."
)
STEPS = (
    "Analyze the image and question carefully, using step-by-step reasoning.\n"
    "First, describe any image provided in detail. Then, present your reasoning. And finally your final answer in this "
    "format:\nFinal Answer: <answer>\n"
)
END = "IMPORTANT: Remember, to end your answer with Final Answer: <answer>."
CHARTQA = (
    "{q}\n" + STEPS + "where <answer> follows the following instructions:\n"
    "- <answer> should should be a single phrase or number.\n"
    "- <answer> should not paraphrase or reformat the text in the image.\n"
    "- If <answer> is a ratio, it should be a decimal value like 0.25 instead of 1:4.\n"
    "- If the question is a Yes/No question, <answer> should be Yes/No.\n"
    "- If <answer> is a number, it should not contain any units.\n"
    "- If <answer> is a percentage, it should include a % sign.\n"
    "- If <answer> is an entity, it should include the full label from the graph.\n" + END
)
MMMU = (
    STEPS + "where <answer> is:\n"
    "- The single correct letter choice A, B, C, D, E, F, etc. when options are provided. Only include the letter.\n"
    "- Your direct answer if no options are given, as a single phrase or number.\n"
    "- If your answer is a number, only include the number without any unit.\n"
    "- If your answer is a word or phrase, do not paraphrase or reformat the text you see in the image.\n"
    "- You cannot answer that the question is unanswerable. You must either pick an option or provide a direct "
    "answer.\n" + END
)
NAME = re.compile(r"pixtral|ministral-3|mistral-small-3\.[12]", re.IGNORECASE)


class Pixtral(FractionChat):
    """The family of Mistral's checkpoints with Pixtral's vision encoder."""

    name = "pixtral"
    model_types = ("mistral3",)
    timed_videos = False
    official = {**FractionChat.official, "vqa": VQA, "document": SHORT}
    by_task: Mapping[str, PromptTemplate] = {
        "chartqa": PromptTemplate(CHARTQA, max_new_tokens=2048),
        "mmmu": PromptTemplate("{q}\n{options}\n" + MMMU, max_new_tokens=2048, others={"vqa": "{q}\n" + MMMU}),
    }

    final_mark = "Final Answer:"

    def matches_name(self, name: str) -> bool:
        return NAME.search(name) is not None


FAMILY = Pixtral()
