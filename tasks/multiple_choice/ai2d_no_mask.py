"""AI2D without mask: the test questions of AI2D on diagrams whose words are legible.

Paper: Kembhavi et al., "A Diagram Is Worth a Dozen Images", ECCV 2016 (arXiv 1603.07396).  Data: VLMEvalKit's
AI2D_TEST_NO_MASK.tsv, or the hub's copy that lmms-eval reads (Efficient-Large-Model/ai2d-no-mask).
Score: share of questions whose option was named, of the same 3,088 questions as ``ai2d``.

In ``ai2d`` letters cover the words of a diagram where a question speaks of letters.  Here the words stay, which makes
the questions easier: 94.2 instead of 84.6 for GPT-4o in InternVL's tables.  Reports of Qwen2.5-VL and Qwen3-VL have the
version with mask.

Rules: ``lmms-eval-75571cf`` takes a capital and a point at the beginning, else the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.letters import lmms_eval
from evalkit.tasks._files import text_in, texts_in
from evalkit.types import ImageRef, PromptTemplate, ScoringRule, Split

from ._choice import letter
from ._tables import LETTER, VLMEVALKIT_PROMPT, ChoiceTable, Row


class AI2DNoMask(ChoiceTable):
    """AI2D test without mask, from VLMEvalKit's TSV file or the hub."""

    name = "ai2d_no_mask"
    splits = {"test": Split(3_088, "test; the words are legible")}
    default_splits = ("test",)
    tsv = {"test": ("AI2D_TEST_NO_MASK",)}
    hub = "Efficient-Large-Model/ai2d-no-mask"
    hub_splits = {"test": (None, "test")}
    hub_columns = ("image", "question", "options", "answer")
    layout = ("ai2d_no_mask/AI2D_TEST_NO_MASK.tsv",)
    breakdowns: Mapping[str, str] = {}
    prompts = {"lmms-eval": PromptTemplate(LETTER, max_new_tokens=16), "vlmevalkit": VLMEVALKIT_PROMPT}
    rules = {
        lmms_eval.COMMIT: ScoringRule("lmms-eval-75571cf-ai2d", about="lmms-eval's for AI2D", read=lmms_eval.read_ai2d)
    }
    protocol_rules = {**ChoiceTable.protocol_rules, "lmms-eval": lmms_eval.COMMIT}

    def from_row(self, row: Mapping[str, Any], index: int, name: str, images: tuple[ImageRef, ...]) -> Row:
        options = texts_in(row, "options")
        right = letter(row["answer"], options, task=self.name, where=name)
        return Row(str(index), text_in(row, "question"), options, right, images, name, row)


TASK = AI2DNoMask()
