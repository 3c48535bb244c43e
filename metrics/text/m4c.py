"""M4C's normalisation of answers, used to score TextVQA.

Source: ``EvalAIAnswerProcessor`` in ``mmf/utils/m4c_evaluators.py`` of facebookresearch/mmf (commit b0ffc7fb), which
LLaVA copied unchanged (``llava/eval/m4c_evaluator.py``, commit c121f043).  It runs a tokeniser before the steps of the
official VQA scorer, which it adopts with all their quirks and the same contraction table: see ``vqa``.

Quirks of the tokeniser, reproduced on purpose:

- *commas and question marks are removed without a space*: ``1,000`` -> ``1000``, and ``red,blue`` -> ``redblue``.  So
  the later rule for a comma between two digits, which deletes all other marks of the text, never applies.
- *every ``'s`` is detached*, also if it is not a possessive: ``it's`` -> ``it 's``, ``'ow's'at`` -> ``'ow 's'at``.  So
  a contraction with an apostrophe is split, and one without gets it: ``what's`` -> ``what 's``, but ``whats`` ->
  ``what's``; the two do not match.
"""

from __future__ import annotations

from .vqa import normalise as _normalise_vqa


def tokenise(text: str) -> str:
    """``text`` in lower case, without commas and question marks, a space before every ``'s``, its ends stripped."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def normalise(text: str) -> str:
    """All steps in the order of M4C: tokenise, then those of the official VQA scorer."""
    return _normalise_vqa(tokenise(text))
