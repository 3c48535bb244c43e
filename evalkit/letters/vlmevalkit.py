"""VLMEvalKit's rules for option letters, by the date of each revision.

Source: open-compass/VLMEvalKit, ``can_infer`` in ``vlmeval/utils/matching_util.py``.

- ``vlmevalkit-2024`` (until August 2025) takes the only option letter among the words of an answer, else the only
  option whose text the answer contains.
- ``vlmevalkit-2025-08`` (commit c3371551) takes the letter only if it is among the last four words, and the text only
  if the answer is at most twice as long as the texts of all options together.
- ``vlmevalkit-2026-06`` (commit a67ace50) also looks for "answer is X", X from A to D, before the text.
- ``qwen3-vl-evaluation`` is the copy in QwenLM/Qwen3-VL's ``evaluation/`` (commit 9658872): the first rule, except that
  no letter is read in an answer of more than three words with "A" among them.

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
    if any(refusal in text for refusal in _REFUSALS):
        return Reading(None, "refusal")
    if _FAILED not in text:
        words = text.translate(_SEPARATORS).split()
        letters = [letter for letter in options.letters if letter in words]
        if len(letters) == 1 and not (no_article and "A" in words and len(words) > 3):
            if not at_end or words.index(letters[0]) >= len(words) - _LAST_WORDS:
                return Reading(letters[0], "letter")
        elif not letters and "Z" in words:
            return Reading(None, "refusal")
        match = _STATED.search(text) if stated else None
        if match is not None and match[1].upper() in options.letters:
            return Reading(match[1].upper(), "stated")
    lower = text.lower()
    if at_end and len(text) > 2 * sum(len(str(option)) for option in options.texts):
        return Reading(None, OPEN)
    pairs = zip(options.letters, options.texts, strict=False)
    found = [letter for letter, option in pairs if option is not None and option.lower() in lower]
    return Reading(found[0], "text") if len(found) == 1 else Reading(None, OPEN)


RULES: Mapping[str, Callable[[str, Options], Reading]] = {
    "vlmevalkit-2024": _read,
    "vlmevalkit-2025-08": partial(_read, at_end=True),
    LATEST: partial(_read, at_end=True, stated=True),
    "qwen3-vl-evaluation": partial(_read, no_article=True),
}
"""The rules by name."""
