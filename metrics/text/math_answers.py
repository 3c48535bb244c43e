"""The final answer in a solution to a mathematical problem, as MATH-Vision's scorer extracts it.

Source: ``evaluation/evaluate.py`` and ``find_math_answer`` of mathllm/MATH-V (commit a1f5cc3).  Quirks that decide
scores are reproduced: options that are named at the end of the text are looked for before ``\\boxed``; what is boxed
extends to the *last* brace of the text; only what follows the last ``=`` counts; fractions are repaired only where
there is a root; ``0.5`` becomes a fraction; all of it in lower case.
"""

from __future__ import annotations

OPTIONS = "ABCDE"
_STATED = (
    "the final answer is",
    "The final answer is",
    "the answer is",
    "The answer is",
    "the correct answer is",
    "The correct answer is",
    "the answer should be",
    "The answer should be",
)
_BOX = "oxed{"

# In this order; each removes or replaces every occurrence.
_CLEANED = (
    (" ", ""), ("\\,", ""), ("∞", "\\infty"), ("+\\infty", "\\infty"), ("\\\\", "\\"), ("\n", ""), ("\\text", ""),
    ("\\mbox", ""), ("bmatrix", "pmatrix"), ("\\left", ""), ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""),
    ("{m}^3", ""), ("m^3", ""), ("{units}", ""), ("units", ""), ("{km}", ""), ("km", ""),
)  # fmt: skip
_STRIPPED = (
    ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""),
)  # fmt: skip
_LETTERS = tuple((f"{left}{letter}{right}", letter) for left, right in ("()", "{}") for letter in "abcde")


def math_vision_answer(solution: str) -> str:
    """The answer that ``solution`` ends with, in lower case and without blanks; never fails."""
    text = _stated(solution.strip())
    return _replaced(_cleaned(text), _LETTERS).rstrip(".").lstrip(":").strip()


def _stated(text: str) -> str:
    """The part of a solution that states the answer, as far as it shows."""
    for letter in OPTIONS:
        ends, begins = (f" {letter}.", f" ({letter})."), (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if text.endswith(ends) or text.startswith(begins):
            text = letter
    last = text.split("is ")[-1].rstrip(".")
    if is_number(last):
        text = last
    if _BOX in text:
        return "\\boxed{" + text.split(_BOX)[-1] if text.count(_BOX) > 1 else text
    for stated in _STATED:
        found = stated in text
        text = text.split(stated)[-1].strip()
        if found:
            text = text.split("\n")[0].split(". ")[0]
    return text


def is_number(text: str) -> bool:
    """Whether Python reads ``text`` as a number (``1e3``, ``1_000`` and ``nan`` are)."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cleaned(text: str) -> str:
    """``text``, or what is boxed in it, without layout and units."""
    text = text.lower().replace("{}", "")
    start, end = text.find(_BOX), text.rfind("}")
    answer = text[start + len(_BOX) : end] if -1 < start < end else text
    opening, closing = answer.find("{"), answer.find("}")
    if closing != -1 and (opening == -1 or closing < opening):
        answer = answer[:closing]
    answer = answer.split("=")[-1].split("\\approx")[-1]
    return _stripped(_replaced(answer, _CLEANED))


def _stripped(text: str) -> str:
    text = _replaced(text, _STRIPPED).split("\\text{ ")[0]
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text.startswith("."):
        text = f"0{text}"
    for relation in ("=", "\\approx"):
        sides = text.split(relation)
        if len(sides) == 2:
            text = sides[1]
    if "sqrt" in text:
        text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    text = text.replace(" ", "")
    return _slash_as_fraction("\\frac{1}{2}" if text == "0.5" else text)


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _braced_roots(text: str) -> str:
    """``\\sqrt2`` as ``\\sqrt{2}``."""
    first, *others = text.split("\\sqrt")
    return first + "".join(
        f"\\sqrt{{{part[0]}}}{part[1:]}" if part and part[0] != "{" else f"\\sqrt{part}" for part in others
    )


def _braced_fractions(text: str) -> str:
    """``\\frac12`` as ``\\frac{1}{2}``; ``text`` itself if a fraction breaks off."""
    first, *others = text.split("\\frac")
    found = [first]
    for part in others:
        if part.startswith("{"):
            found.append(f"\\frac{part}")
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            found.append(f"\\frac{{{part[0]}}}{part[1:]}")
        else:
            found.append(f"\\frac{{{part[0]}}}{{{part[1]}}}{part[2:]}")
    return "".join(found)


def _slash_as_fraction(text: str) -> str:
    """``3/4`` as ``\\frac{3}{4}``, for integers."""
    over, slash, under = text.partition("/")
    if not slash or "/" in under:
        return text
    for number in (over, under):
        try:
            if str(int(number)) != number:
                return text
        except ValueError:
            return text
    return f"\\frac{{{over}}}{{{under}}}"
