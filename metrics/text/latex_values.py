"""The value of an arithmetic expression in LaTeX or plain text, such as ``\\frac{3 \\sqrt{3}}{2}`` or ``4\\pi``.

Understood are numbers (``1,000``, ``50\\%``), ``+ - * / : ^``, ``\\times``, ``\\cdot``, ``\\div``, products without a
sign, ``\\frac``, ``\\sqrt``, ``\\pi``, trigonometric functions, factorials, brackets, and ``x = …``.  Anything else has
no value: nothing is executed, and no variable or unit is guessed.  Answers are untrusted: numbers and nesting are
limited, and nothing raises.

The grammar is that of latex2sympy2 1.9.1, which MATH-Vision's scorer uses, with its quirks: a product without a sign
binds tighter than a division (``1/2\\pi`` is 1/(2π)), so that a mixed number is a product; ``2^{-1}`` is a power and
``2^-1`` is not; ``\\frac12`` is no fraction; and an expression ends where a closing bracket or a period cannot belong
to it, whatever follows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

Value = Fraction | float
"""Exact for rational arithmetic."""

UNKNOWN = "?"
"""Stands for a character that fits nowhere."""
LONGEST = 2000
"""Characters; longer texts have no value."""
DEEPEST = 30
"""Nested brackets and signs."""
LARGEST_FACTORIAL = 100
LARGEST_POWER = 20_000
"""Bits of an exact power."""

_TOKEN = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d*+)?|\.\d++)"
    r"|(?P<other>\\[a-zA-Z]++|\\[%{}\\]|[-+*/:^(){}\[\]!.&_'])",
    re.ASCII,
)
_BLANK = re.compile(r"(?:\s|\\,|\\quad\b|\\qquad\b|\$|~|\\(?:left|right|displaystyle)(?![a-zA-Z]))++", re.ASCII)
_VARIABLE = re.compile(r"\s*+[a-zA-Z]\s*+=")
_OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_ENDS = (*_OPENING.values(), ".", "&", "\\\\", "_", "'", "")
_TIMES = ("*", "\\times", "\\cdot")
_OVER = ("/", ":", "\\div")
_FRACTIONS = ("\\frac", "\\dfrac", "\\tfrac")
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "\\sin": math.sin,
    "\\cos": math.cos,
    "\\tan": math.tan,
    "\\arcsin": math.asin,
    "\\arccos": math.acos,
    "\\arctan": math.atan,
}
_ERRORS = (ValueError, ZeroDivisionError, OverflowError, RecursionError)


def latex_value(text: str) -> Value | None:
    """The value of ``text``; None if it is no arithmetic."""
    if len(text) > LONGEST:
        return None
    variable = _VARIABLE.match(text)
    parser = _Parser(text, 0 if variable is None else variable.end())
    try:
        value = parser.sum()
        complete = parser.next in _ENDS
    except _ERRORS:
        return None
    finite = isinstance(value, Fraction) or math.isfinite(value)
    return value if complete and finite else None


def rounded(value: Value, digits: int) -> Value:
    """``value`` rounded as Python rounds floats; integers stay exact."""
    if isinstance(value, Fraction) and value.denominator == 1:
        return value
    try:
        return round(float(value), digits)
    except OverflowError:
        return value


class _Parser:
    """A recursive descent; methods raise one of ``_ERRORS`` where the text is no arithmetic."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.place = start
        self.depth = 0
        self.next = ""
        """The token that comes next, empty at the end."""
        self._read()

    def _read(self) -> None:
        blank = _BLANK.match(self.text, self.place)
        self.place = self.place if blank is None else blank.end()
        match = _TOKEN.match(self.text, self.place)
        if match is None:
            self.next = "" if self.place == len(self.text) else UNKNOWN
            return
        self.next = match[0]
        self.place = match.end()

    def take(self) -> str:
        """The next token."""
        token = self.next
        if not token:
            raise ValueError
        self._read()
        return token

    def sum(self) -> Value:
        value = self.product()
        while self.next in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Value:
        value = self.signed()
        while self.next in _TIMES or self.next in _OVER:
            value = value * self.signed() if self.take() in _TIMES else value / self.signed()
        return value

    def signed(self) -> Value:
        if self.next in ("+", "-"):
            sign = self.take()
            return self._nested(self.signed) if sign == "+" else -self._nested(self.signed)
        value = self.factor()
        while self._begins_factor():
            value *= self.factor()
        return value

    def _begins_factor(self) -> bool:
        token = self.next
        number = token[:1].isdigit() or (token[:1] == "." and token != ".")
        return number or token in _OPENING or token in ("\\pi", "\\sqrt", *_FRACTIONS, *_FUNCTIONS)

    def factor(self) -> Value:
        value = self.atom()
        while self.next == "^":
            self.take()
            if self.next in ("(", "[", "\\{"):
                raise ValueError
            value = _power(value, self.atom())
        while self.next == "!":
            self.take()
            value = _factorial(value)
        return value

    def atom(self) -> Value:
        token = self.take()
        if token[0].isdigit() or (token[0] == "." and token != "."):
            number = Fraction(token.replace(",", "").rstrip(".") or "0")
            if self.next == "\\%":
                self.take()
                return number / 100
            return number
        if token in _OPENING:
            return self._rest(token)
        if token == "\\pi":
            return math.pi
        if token in _FRACTIONS:
            over = self._braced()
            return over / self._braced()
        if token == "\\sqrt":
            return self._root()
        if token in _FUNCTIONS:
            return _FUNCTIONS[token](float(self._nested(self.signed if self.next not in _OPENING else self.atom)))
        raise ValueError(token)

    def _root(self) -> Value:
        degree = self._rest(self.take()) if self.next == "[" else Fraction(2)
        value = self._braced()
        if degree == 2:
            return math.sqrt(value)
        return _power(value, 1 / float(degree))

    def _braced(self) -> Value:
        if self.next != "{":
            raise ValueError(self.next)
        return self._rest(self.take())

    def _rest(self, opening: str) -> Value:
        """The value of a group whose opening bracket was taken."""
        value = self._nested(self.sum)
        if self.take() != _OPENING[opening]:
            raise ValueError
        return value

    def _nested(self, rule: Callable[[], Value]) -> Value:
        self.depth += 1
        if self.depth > DEEPEST:
            raise RecursionError
        value = rule()
        self.depth -= 1
        return value


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= LARGEST_POWER:
            return Fraction(base ** int(exponent))
    if base < 0:
        raise ValueError  # complex, or beyond any limit
    return float(float(base) ** float(exponent))


def _factorial(value: Value) -> Value:
    if value != int(value) or not 0 <= value <= LARGEST_FACTORIAL:
        raise ValueError
    return Fraction(math.factorial(int(value)))
