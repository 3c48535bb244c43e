"""CCBench: multiple-choice questions on Chinese culture, each asked with its options in every order.

Paper: Liu et al., "MMBench: Is Your Multi-modal Model an All-around Player?", ECCV 2024 (arXiv 2307.06281), which
presents it beside MMBench.  Official data and scorer: OpenCompass's VLMEvalKit (commit e8e78f05), CCBench.tsv; also on
the hub (lmms-lab/MMBench, configuration cc).
Score: share of questions answered right in every order of their options (``metrics/circular_accuracy.py``): 510
questions in 2,040 rows, in 7 categories.

Rules as for MMBench (``mmbench.py``).
"""

from __future__ import annotations

from evalkit.letters import lmms_eval
from evalkit.types import PromptTemplate, Split

from ._circular import CircularTable
from ._tables import VLMEVALKIT_PROMPT
from .mmbench import LMMS_EVAL_RULE, OPTIONS


class CCBench(CircularTable):
    """CCBench, from VLMEvalKit's TSV file or the hub."""

    name = "ccbench"
    splits = {"test": Split(2_040, "510 questions, with rotations")}
    default_splits = ("test",)
    tsv = {"test": ("CCBench",)}
    hub = "lmms-lab/MMBench"
    hub_splits = {"test": ("cc", "test")}
    hub_columns = ("index", "question", "answer", "A", "B", "C", "D", "image")
    layout = ("ccbench/CCBench.tsv",)
    prompts = {
        "lmms-eval": PromptTemplate(
            f"{OPTIONS.replace('{prompt}', '{q}')}请直接使用所提供的选项字母作为答案回答。", max_new_tokens=256
        ),
        "vlmevalkit": VLMEVALKIT_PROMPT,
    }
    rules = {**CircularTable.rules, lmms_eval.COMMIT: LMMS_EVAL_RULE}
    protocol_rules = {**CircularTable.protocol_rules, "lmms-eval": lmms_eval.COMMIT}


TASK = CCBench()
