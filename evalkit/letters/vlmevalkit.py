"""VLMEvalKit's rules for option letters, by the date of each revision.

Source: open-compass/VLMEvalKit, ``can_infer`` in ``vlmeval/utils/matching_util.py``.

- ``vlmevalkit-2024`` (until August 2025) takes the only option letter among the words of an answer, else the only
  option whose text the answer contains.
- ``vlmevalkit-2025-08`` (commit c3371551) takes the letter only if it is among the last four words, and the text only
  if the answer is at most twice as long as the texts of all options together.
- ``vlmevalkit-2026-06`` (commit a67ace50) also looks for "answer is X", X from A to D, before the text.
- ``qwen3-vl-evaluation`` is the copy in QwenLM/Qwen3-VL's ``evaluation/`` (commit 9658872): the first rule, except that
  no letter is read in an answer of more than three words with "A" among them.

VLMEvalKit reads its files with pandas, for which an option such as ``None`` or ``N/A`` is a missing value
(``MISSING``): it is no option there, nor is it for these rules, even if it is the right one.

VLMEvalKit asks a judge model about the answers that its rule leaves open, and draws a letter where the judge fails.
Here they are unparsed, as with its ``--judge exact_matching``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from .options import Options, Reading

LATEST = "vlmevalkit-2026-06"
"""The rule at the commit whose prompts the protocol ``vlmevalkit`` has."""

MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip
"""What ``pandas.read_csv`` takes for a missing value."""

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_FAILED = "Failed to obtain answer via API"
_STATED = re.compile(r"answer\s+is\s+\**([ABCD])", re.I)
_LAST_WORDS = 4
OPEN = "undecided"


def _read(
    text: str, options: Options, *, at_end: bool = False, stated: bool = False, no_article: bool = False
) -> Reading:
    choices = {letter: option for letter, option in options.by_letter.items() if option not in MISSING}
    known = list(choices) if options.texts else list(options.letters)
    if any(refusal in text for refusal in _REFUSALS):
        return Reading(None, "refusal")
    if _FAILED not in text:
        words = text.translate(_SEPARATORS).split()
        letters = [letter for letter in known if letter in words]
        if len(letters) == 1 and not (no_article and "A" in words and len(words) > 3):
            if not at_end or words.index(letters[0]) >= len(words) - _LAST_WORDS:
                return Reading(letters[0], "letter")
        elif not letters and "Z" in words:
            return Reading(None, "refusal")
        match = _STATED.search(text) if stated else None
        if match is not None and match[1].upper() in known:
            return Reading(match[1].upper(), "stated")
    lower = text.lower()
    if at_end and len(text) > 2 * sum(len(str(option)) for option in choices.values()):
        return Reading(None, OPEN)
    found = [letter for letter, option in choices.items() if option is not None and option.lower() in lower]
    return Reading(found[0], "text") if len(found) == 1 else Reading(None, OPEN)


RULES: Mapping[str, Callable[[str, Options], Reading]] = {
    "vlmevalkit-2024": _read,
    "vlmevalkit-2025-08": partial(_read, at_end=True),
    LATEST: partial(_read, at_end=True, stated=True),
    "qwen3-vl-evaluation": partial(_read, no_article=True),
}
"""The rules by name."""
