"""Rules of lmms-eval (commit 75571cf) and VLMEvalKit (commit e8e78f0) for letters in answers about videos.

What several benchmarks share is here; no rule draws an option where upstream does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.letters import LETTERS, Options, Reading
from evalkit.letters.lmms_eval import BEYOND, NOTHING

_MOST_WORDS = 10
_STRIPPED = (",", ".", "!", "?", ";", ":", "'")
_FEW_WORDS = 5

LMMS_EVAL_PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer",
    "The best option isThe correct option is", "Best answer:Best option:",  # two commas are missing upstream
)  # fmt: skip
VLMEVALKIT_PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer",
    "The best option isThe correct option is", "Best answer:Best option:", "Answer:", "Option:",
)  # fmt: skip
ALL_PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is",
    "The correct option is", "Best answer:", "Best option:",
)  # fmt: skip


def known(letter: str | None, options: Options) -> Reading:
    """The letter, if it is one of the options'."""
    if letter is None:
        return Reading(None, NOTHING)
    return Reading(letter, "letter") if letter in options.letters else Reading(None, BEYOND)


def first_capital(text: str, options: Options, letters: str, prefixes: Sequence[str]) -> Reading:
    """The first capital that is one of ``letters``, also inside a word; phrases like ``The answer is`` are removed.

    Video-MME's own rule, which both harnesses and LongVideoBench have with other phrases: "A man …" is A.
    """
    text = text.strip()
    for prefix in prefixes:
        text = text.replace(prefix, "")
    match = re.search(f"[{letters}]", text)
    return known(None if match is None else match[0], options)


def earliest_form(text: str, options: Options) -> Reading:
    """EgoSchema's rule in lmms-eval: of ``(A)``, ``A`` before a blank and ``A.``, the one whose last place is first.

    Without any, in answers of more than five words, the option whose text occurs, by the same.
    """
    for sign in _STRIPPED:
        text = text.strip(sign)
    text = f" {text} "
    forms = [form.format(letter) for form in ("({})", "{} ", "{}.") for letter in options.letters]
    found = [form for form in forms if form in text]
    if found:
        return Reading(min(found, key=text.rfind).strip("(). "), "letter")
    if len(text.split()) > _FEW_WORDS:
        lower = text.lower()
        named = {
            letter: lower.rfind(option.strip().lower())
            for letter, option in options.by_letter.items()
            if option is not None and option.strip().lower() in lower
        }
        if named:
            return Reading(min(named, key=lambda letter: named[letter]), "text")
    return Reading(None, NOTHING)


def word_letter(text: str, options: Options) -> Reading:
    """The first capital from A to D that is a word: PerceptionTest's rule in lmms-eval."""
    match = re.search(r"\b([A-D])\b", text.strip())
    return known(None if match is None else match[1], options)


# -------------------------------------------------------------------------------------------------------------- MVBench

_LETTER_AND_TEXT = re.compile(r"^([A-E])\.\s*(.+)$", re.I)
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_COMMA = re.compile(r"(\d)(\,)(\d)")
_SIGNS = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
_PERIODS = 32  # ``re.UNICODE`` is given in the place of the count
_WORD_LETTER = re.compile(r"\b([A-E])\b", re.I)


def mvbench_lmms_eval(text: str, options: Options) -> Reading:
    """MVBench's rule in lmms-eval: ``A. text``, else the first A to E of either case that is a word ("a man" is A)."""
    match = _LETTER_AND_TEXT.match(text.strip())
    if match is None:
        plain = text.replace("\n", " ").replace("\t", " ").strip()
        match = _WORD_LETTER.search(
            _without_punctuation(plain).strip("'").strip('"').strip(")").strip("(").strip().lower()
        )
    return known(None if match is None else match[1].upper(), options)


def _without_punctuation(text: str) -> str:
    found = text
    comma = _COMMA.search(text) is not None
    for sign in _SIGNS:
        joined = f"{sign} " in text or f" {sign}" in text or comma
        found = found.replace(sign, "" if joined else " ")
    return _PERIOD.sub("", found, _PERIODS)


def first_word(text: str, options: Options) -> Reading:
    """MVBench's and MLVU's own rule: the first word, without points, is in ``(a)``, or ``(a)`` is in it.

    A word that fits every option, such as an empty one, is right upstream whatever the reference; here it is no answer.
    """
    word = text.lower().strip().split(" ")[0]
    found = [
        letter
        for letter in options.letters
        if word.replace(".", "") in f"({letter.lower()})" or f"({letter.lower()})" in word
    ]
    return Reading(found[0], "letter") if len(found) == 1 else Reading(None, NOTHING)


# ---------------------------------------------------------------------------------------------------------- TempCompass


def tempcompass_choice(text: str, options: Options) -> Reading:
    """TempCompass's rule without a judge: the option's line, a letter alone, or ``A.`` or ``A)`` at the beginning."""
    for letter, option in options.by_letter.items():
        if text in (f"{letter}. {option}", letter):
            return Reading(letter, "letter")
    match = re.match(r"([A-D])[.)]", text)
    return known(None if match is None else match[1], options)


def tempcompass_yes_no(text: str, options: Options) -> Reading:
    """TempCompass's own rule for yes and no: how the answer begins."""
    lower = text.lower()
    return Reading("yes" if lower.startswith("yes") else "no" if lower.startswith("no") else None, "beginning")


def letters_up_to(count: int) -> str:
    """The first ``count`` letters."""
    return LETTERS[:count]
