"""How M4C's answer processor rewrites an answer, which is how TextVQA is scored.

Source: ``EvalAIAnswerProcessor`` in ``mmf/utils/m4c_evaluators.py`` of facebookresearch/mmf (commit b0ffc7fb), which
LLaVA copied unchanged (``llava/eval/m4c_evaluator.py``, commit c121f043).  It puts a tokeniser in front of the steps of
the official VQA scorer and takes those over with all their quirks and the same contraction table: see ``vqa``.

Quirks of the tokeniser, reproduced on purpose:

- *commas and question marks go without a trace*: ``1,000`` -> ``1000``, and ``red,blue`` -> ``redblue``.  So the comma
  between two digits, which would delete every other mark of the text, is never seen afterwards.
- *every ``'s`` is detached*, also where it is no possessive: ``it's`` -> ``it 's``, ``'ow's'at`` -> ``'ow 's'at``.  A
  contraction with it is therefore left apart where it was written with the apostrophe, and gains one where it was
  written without: ``whats`` -> ``what's``, but ``what's`` -> ``what 's``; the two do not match.
"""

from __future__ import annotations

from .vqa import normalise as _normalise_vqa


def tokenise(text: str) -> str:
    """``text`` in lower case, without commas and question marks, a space before every ``'s``, its ends stripped."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def normalise(text: str) -> str:
    """All steps in the order of M4C: tokenise, then those of the official VQA scorer."""
    return _normalise_vqa(tokenise(text))
