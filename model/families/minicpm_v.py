"""MiniCPM-V 4, 4.5 and 4.6: prompts and answer parsing.

Sources: VLMEvalKit's file for the models (open-compass/VLMEvalKit, commit e8e78f05, ``vlmeval/vlm/minicpm_v.py``,
classes ``MiniCPM_V_4`` to ``MiniCPM_V_4_6``), in which the authors evaluate: options after ``Question:`` and
``Options:``; the request for a single word or phrase before the image, which OmniDocBench is without; steps and
``Answer: …`` on benchmarks on which all three versions are asked for them (MMMU, MMStar, MathVista, MathVision,
MathVerse).  What else that file does is not done here: three beams, a repetition penalty of 1.2, enlarged images of a
random size, and the versions' different lists of other benchmarks.  No convention for boxes was found: prompts for
boxes, points, detection and events in videos are ours, that for captions is LLaVA's.

MiniCPM-V 4.5 reasons in ``<think>`` where its template is told to (``--thinking on``); of 4.6 there is a checkpoint
that always does.  Images are cut into up to nine slices and a small copy.  Frames of videos are given as images.
transformers loads 4.6; earlier versions need their authors' code, or a server.
"""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.types import Message, PromptSpec, PromptTemplate, Sample, TextPart

from ._fractions import FractionChat
from ._prompts import OFFICIAL, joined

BRIEFLY = "Answer the question using a single word or phrase."
QUESTION = "{q}"
CHOICE = (
    "{hints}Question: {question}\nOptions:\n{options}\n\n"
    "Answer with the option's letter from the given choices directly."
)
STEPS = (
    "Read the following question carefully, solve it step by step, and then output the final answer in the format of "
)
WORD = STEPS + '"Answer: single number or single word or phrase".\n\n{q}'
LETTER = (
    "Carefully read the following multichoice question, solve it step by step and finally pick the option associated "
    'with the correct answer in the format of "Answer: selected option\n\n{hints}{question}\n{options}\n'
)
MATH = ("mathvista", "mathvision", "mathverse")
PAGES = ("omnidocbench", "omnidocbench_v1")
"""Benchmarks whose answers are complete pages."""


class MiniCPMV(FractionChat):
    """The family of MiniCPM-V 4 checkpoints, in transformers' format and in the authors'."""

    name = "minicpm-v"
    model_types = ("minicpmv4_6", "minicpmv")
    final_mark = "Answer:"
    official = {**FractionChat.official, "vqa": QUESTION, "choice": CHOICE}
    by_task: Mapping[str, PromptTemplate] = {
        **dict.fromkeys(("mmmu", "mmstar"), PromptTemplate(LETTER, 2048, others={"vqa": WORD})),
        **dict.fromkeys(MATH, PromptTemplate(WORD, 2048, others={"choice": LETTER})),
    }
    vlmevalkit = {"choice": CHOICE}
    vlmevalkit_by_task: Mapping[str, str] = {"mmstar": LETTER, **dict.fromkeys(MATH, WORD)}
    without_sharing = "layers with linear attention keep a state that every token changes, beside keys and values"

    def _user(self, spec: PromptSpec, sample: Sample) -> Message:
        """The question, after the request for a short answer and the images."""
        turn = super()._user(spec, sample)
        if spec.protocol != OFFICIAL or spec.given or spec.kind == "choice" or spec.task in PAGES:
            return turn
        if self.template(spec).text != QUESTION:
            return turn
        apart = "\n" if isinstance(turn.content[0], TextPart) else ""  # there is no image between them
        return Message(turn.role, joined([TextPart(BRIEFLY + apart), *turn.content]))


FAMILY = MiniCPMV()
