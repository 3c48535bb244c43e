"""lmms-eval's rules for option letters (EvolvingLMMs-Lab/lmms-eval, commit 75571cf); each benchmark has its own.

- ``read`` (``lmms-eval-2026-04``): ``extract_mcq_answer`` in ``_task_utils/mcq_extract.py``, which MMStar, RealWorldQA
  and MMBench use since April 2026 (commits d0c1eae7, 7a69a9a1).  Letters are looked for in many forms; the form of the
  highest rank counts, and of its letters the last: a letter that begins the answer, one that ends it, one somewhere
  after "the answer is", ``(A)``, ``A.``, ``A:``, ``A)``, ``A`` before a blank; without any, the last capital that is a
  letter of an option, also inside a word.
- ``read_ai2d``: a capital and a point at the beginning, else the answer itself, case and punctuation aside.
- ``read_scienceqa``: the answer itself, case aside, or its first two characters, if they are a capital and a point.
- ``read_muirbench``: a capital and a point at the beginning, else the answer itself, case aside.
- ``read_blink``: the first letter, of whatever word: "The answer is A" is T.

MMMU's is in ``mmmu.py``, VisuLogic's in the task's file.  A letter beyond the options is none here, and wrong there.
"""

from __future__ import annotations

import re
import string

from .options import Options, Reading

LATEST = "lmms-eval-2026-04"
COMMIT = "lmms-eval-75571cf"
"""The name of a benchmark's own rule at the commit whose prompts the protocol ``lmms-eval`` has."""

_STRIPPED = (",", ".", "!", "?", ";", ":", "'", '"')
_DEFAULT_LETTERS = "ABCDEFGH"
_FORMS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
_PHRASE, _START, _END = 7, 10, 9
_NOUNS = ("answer", "correct answer", "best answer", "correct option", "best option", "choice", "correct choice")
_PHRASES = (
    *(f"{noun} is" for noun in _NOUNS),
    *(f"the {noun} is" for noun in _NOUNS),  # its first occurrence may be another one
    "my answer is", "my choice is", "i choose", "i select", "i pick",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip
_LETTER_AND_POINT = re.compile(r"\s*([A-Z])\.")
_FIRST_LETTER = re.compile(r"[(\s]*([A-Z])", re.I)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
NOTHING = "no option"
BEYOND = "no such option"


def read(text: str, options: Options, letters: str = "") -> Reading:
    """The letter in an answer by ``extract_mcq_answer``.

    Args:
        letters: those that are looked for; empty for those of the options, or A to H if these are not known.
    """
    letters = letters or (options.letters if options.texts else _DEFAULT_LETTERS)
    text = text.strip()
    for sign in _STRIPPED:
        text = text.strip(sign)
    core, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []  # (rank, place, letter)
    for form, rank in _FORMS:
        found += [(rank, text.rfind(form.format(letter)), letter) for letter in letters if form.format(letter) in text]
    for place in _after_phrases(text):
        found += [(_PHRASE, at, letter) for letter in letters if (at := text.find(letter, place)) >= 0]
    for letter in letters:
        if core.startswith(letter) and not core[1:2].isalpha():
            found.append((_START, 0, letter))
        if core.endswith(letter) and not core[-2:-1].isalpha():
            found.append((_END, len(text), letter))
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    if not found:
        return Reading(None, NOTHING)
    return _known(max(found, key=lambda one: one[:2])[2], options)


def _after_phrases(text: str) -> list[int]:
    """Where the first occurrence of each phrase ends."""
    lower = text.lower()
    return [place + len(phrase) for phrase in _PHRASES if (place := lower.find(phrase)) >= 0]


def read_ai2d(text: str, options: Options) -> Reading:
    """The letter in an answer to AI2D."""
    return _letter_and_point(text, options) or _whole(text.lower().translate(_NO_PUNCTUATION), options)


def read_scienceqa(text: str, options: Options) -> Reading:
    """The letter in an answer to ScienceQA; LLaVA's scorer had the rule first."""
    text = text.strip()
    if len(text) >= 2 and text[0].isupper() and text[1] == ".":
        return _known(text[0], options)
    return _whole(text, options)


def read_muirbench(text: str, options: Options) -> Reading:
    """The letter in an answer to MuirBench."""
    return _letter_and_point(text, options) or _whole(text.strip(), options)


def read_blink(text: str, options: Options) -> Reading:
    """The letter in an answer to BLINK."""
    match = _FIRST_LETTER.match(text.strip())
    return Reading(None, NOTHING) if match is None else _known(match[1].upper(), options)


def _letter_and_point(text: str, options: Options) -> Reading | None:
    match = _LETTER_AND_POINT.match(text)
    return None if match is None else _known(match[1], options)


def _whole(text: str, options: Options) -> Reading:
    """An answer that is a letter and nothing else."""
    letter = text.upper()
    return _known(letter, options) if len(text) == 1 and text.isascii() and letter.isalpha() else Reading(None, NOTHING)


def _known(letter: str, options: Options) -> Reading:
    return Reading(letter, "letter") if letter in options.letters else Reading(None, BEYOND)
