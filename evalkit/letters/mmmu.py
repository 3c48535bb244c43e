"""The rules of MMMU and of the benchmarks that took them over.

- ``read``: ``parse_multi_choice_response`` in ``mmmu/utils/eval_utils.py`` of MMMU-Benchmark/MMMU (commit bb0b95a);
  MuirBench's ``eval/utils/postprocess.py`` (commit 840b85f) is a copy.  Commas, points, exclamation and question marks,
  semicolons, colons and quotes are stripped from both ends, one sign after the other.  Then, in this order: ``(A)``;
  ``A`` between blanks; in answers of more than five words, an option's text.  Of several options, the one found last.
- ``read_loosely``: the same with ``A`` before a blank (also at the end of a word: ``NASA is …``), then ``A`` before a
  point, instead of ``A`` between blanks: lmms-eval's ``parse_mmmu_multi_choice_response`` (commit 75571cf).  Of several
  such letters it takes the last between blanks, and the first of all if none is.
- ``read_pro``: ``mmmu-pro/evaluate.py`` of MMMU-Benchmark/MMMU: the only letter of an option after the last
  ``Answer:``, else ``read_loosely``.

White space is not stripped: "A", then a line end, is no letter by ``read``.  Upstream draws a letter at random where
none is found; here such an answer is unparsed.
"""

from __future__ import annotations

from .options import Options, Reading

_STRIPPED = (",", ".", "!", "?", ";", ":", "'")
_FEW_WORDS = 5
_MARKER = "Answer:"
NOTHING = "no option"


def read(text: str, options: Options) -> Reading:
    """The letter in an answer by MMMU's own rule."""
    return _by_forms(text, options, (" {} ",))


def read_loosely(text: str, options: Options) -> Reading:
    """The letter in an answer by lmms-eval's version of MMMU's rule."""
    return _by_forms(text, options, ("{} ", "{}."))


def read_pro(text: str, options: Options) -> Reading:
    """The letter in an answer by MMMU-Pro's own rule."""
    _, marker, last = text.rpartition(_MARKER)
    if marker:
        found = [letter for letter in options.letters if letter in last]
        if len(found) == 1:
            return Reading(found[0], "stated")
    return read_loosely(text, options)


def _by_forms(text: str, options: Options, forms: tuple[str, ...]) -> Reading:
    """The letter in parentheses, else in the first of ``forms`` that occurs, else of the option whose text occurs."""
    for sign in _STRIPPED:
        text = text.strip(sign)
    text = f" {text} "
    for form in ("({})", *forms):
        found = [letter for letter in options.letters if form.format(letter) in text]
        if found:
            located = form if form == "({})" else " {} "
            return Reading(max(found, key=lambda letter: text.rfind(located.format(letter))), "letter")
    if len(text.split()) > _FEW_WORDS:
        lower = text.lower()
        places = {
            letter: lower.rfind(option.lower()) for letter, option in options.by_letter.items() if option is not None
        }
        last = max(places.values(), default=-1)
        if last >= 0:
            return Reading(next(letter for letter, place in places.items() if place == last), "text")
    return Reading(None, NOTHING)
