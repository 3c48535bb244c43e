"""The rule of SEED-Bench's generated answers: the first character, of either case, is the letter.

lmms-eval (commit 75571cf, ``seedbench/utils.py`` and ``seedbench_2_plus/utils.py``) and LLaVA score so.
"""

from __future__ import annotations

from evalkit.letters import LETTERS, Options, Reading
from evalkit.types import ScoringRule


def read_first_character(text: str, options: Options) -> Reading:
    """The letter that an answer begins with: "a dog" is A, "Both" is B."""
    letter = text.strip()[:1].upper()
    letters = LETTERS[: max(4, len(options.texts))]
    return Reading(letter, "letter") if letter and letter in letters else Reading(None, "no option")


RULE = ScoringRule("first-character", about="LLaVA and lmms-eval: the first character", read=read_first_character)
