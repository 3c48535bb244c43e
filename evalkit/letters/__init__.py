"""How an answer to a multiple-choice question is read: a text and the options in, an option letter or None out.

``read_letter(text, options)`` applies a named rule.  The default is the declared grammar, ``evalkit-2``
(``grammar.py``); the others are VLMEvalKit's (``vlmevalkit.py``) and lmms-eval's (``lmms_eval.py``).  Rules of single
benchmarks are named in their tasks (``Task.rules``); those that several share are here (``mmmu.py``, ``lmms_eval.py``).
No rule draws a letter at random.  A rule that reads any answer differently gets a new name, because the name is in the
signature of every score.

Pure text processing: no torch, no images, no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evalkit.errors import UserError

from . import grammar, lmms_eval, vlmevalkit
from .options import LETTERS, Options, Reading
from .vlmevalkit import LATEST as VLMEVALKIT

GRAMMAR = "evalkit-2"
"""The rule of every protocol that has none of its own."""

RULES: Mapping[str, Callable[[str, Options], Reading]] = {
    GRAMMAR: grammar.read,
    **vlmevalkit.RULES,
    lmms_eval.LATEST: lmms_eval.read,
}
"""The rules by name."""

__all__ = ["GRAMMAR", "LETTERS", "RULES", "VLMEVALKIT", "Options", "Reading", "read_letter"]


def read_letter(text: str, options: Sequence[str | None] = (), rule: str = GRAMMAR) -> Reading:
    """The option letter that an answer states.

    Args:
        text: the answer, without thoughts and without the model's special tokens.
        options: the texts of the sample's options in order, at most 26; None for an option that is an image.  Empty if
            they are not known: then every letter from A to Z is one.
        rule: a name of ``RULES``.

    Returns:
        The letter, or None, and what it was read from.

    Raises:
        UserError: there is no such rule.
    """
    if rule not in RULES:
        raise UserError(f"there is no letter rule {rule!r}: there are {', '.join(RULES)}.")
    return RULES[rule](text, Options(tuple(options)))
