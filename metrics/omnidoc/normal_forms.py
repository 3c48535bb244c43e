"""The forms in which texts, formulas and tables are compared."""

from __future__ import annotations

import html
import logging
import re
import unicodedata
from functools import cache
from typing import Any

_INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_ESCAPED = re.compile(r"\\([\\_&%^])")
_BRACKETS = re.compile(r"\\\[(.+?)(?<!\\)\\\]")
_WITH_ARGUMENT = tuple(
    re.compile(pattern)
    for pattern in (r"\\tag\{.*?\}", r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}", r"\\arraycolsep.*?\}")
)
_COMMANDS = (
    r"\mathbf", r"\mathrm", r"\mathnormal", r"\mathit", r"\mathbb", r"\mathcal", r"\mathscr", r"\mathfrak", r"\mathsf",
    r"\mathtt", r"\textbf", r"\text", r"\boldmath", r"\boldsymbol", r"\operatorname", r"\bm", r"\symbfit",
    r"\mathbfcal", r"\symbf", r"\scriptscriptstyle", r"\notag", r"\setlength", r"\coloneqq", r"\space", r"\thickspace",
    r"\thinspace", r"\medspace", r"\nobreakspace", r"\negmedspace", r"\quad", r"\qquad", r"\enspace", r"\substackw",
    " ",
)  # fmt: skip
"""What is removed from formulas, in this order."""
_MORE_COMMANDS = ("$$", r"\left", r"\right", r"\displaystyle", r"\text")
"""What v1.5 removes after them."""
_BREAKS = (r"\t", r"\n", "\t", "\n", "/t", "/n")
"""What is removed from texts: line breaks and tabs, and what look like them, such as the beginning of ``\\theta``."""
_NO_LETTER = re.compile(r"[^\w\u4e00-\u9fff]")
_TABLE = re.compile(r"<table\b[^>]*>(.*)</table>", re.DOTALL | re.IGNORECASE)
_ATTRIBUTES = tuple(re.compile(f' {name}=".*?"') for name in ("style", "height", "width", "align", "class"))
_COLUMNS = re.compile("<colgroup>.*?</colgroup>")
_TAGS = tuple(f"<{slash}{tag}>" for tag in ("sup", "sub", "span", "div", "p") for slash in ("", "/"))


def text_form(text: str) -> str:
    """The letters and digits of a text, with formulas as characters."""
    return letters(_without_latex(text))


def letters(text: str) -> str:
    """The letters, digits and underscores of a text."""
    for mark in _BREAKS:
        text = text.replace(mark, "")
    return _NO_LETTER.sub("", text)


def _without_latex(text: str) -> str:
    """A text with its formulas, if they have commands, indices or exponents, as characters."""
    return _INLINE.sub(_characters, text)


def _characters(match: re.Match[str]) -> str:
    """A formula as characters; as it is if it is none, or cannot be parsed."""
    formula = _ESCAPED.sub("", match[1] if match[1] is not None else match[2])
    if not any(character in formula for character in r"\^_"):
        return match[0]
    try:
        return latex_text(formula + " " if formula.endswith("\\") else formula).strip()
    except Exception:  # whatever the parser raises, as the scorer does
        return match[0]


def latex_text(latex: str) -> str:
    """LaTeX as characters; raises whatever pylatexenc does."""
    return str(_converter().latex_to_text(latex))


@cache
def _converter() -> Any:
    from pylatexenc.latex2text import LatexNodes2Text

    logging.getLogger("pylatexenc").setLevel(logging.ERROR)  # a warning for every formula that is not valid
    return LatexNodes2Text()


def formula_form(latex: str, *, current: bool) -> str:
    """A formula without its delimiters, fonts, spaces and environments, in lower case.

    In v1.0 the dollars around an annotated formula stay, so that a right answer has up to four edits.

    Args:
        current: whether the rules are those of v1.5, or of v1.0.
    """
    if current:
        latex = latex.strip().strip("$").strip("\n")
    inner = _BRACKETS.search(latex)
    if inner:
        latex = inner[1].strip()
    for pattern in _WITH_ARGUMENT:
        latex = pattern.sub("", latex)
    latex = latex.strip(".")
    for command in (*_COMMANDS, *_MORE_COMMANDS) if current else _COMMANDS:
        latex = latex.replace(command, "")
    return latex.lower()


def table_form(text: str) -> str:
    """The tables in a piece of HTML as one, in a page of its own; empty if there is none."""
    if "<table" not in text.replace(" ", ""):
        return ""
    inner = unicodedata.normalize("NFKC", html.unescape(_plain_cells(text)).replace("\n", "")).strip()
    inner = "".join(_TABLE.findall(inner))
    for attribute in _ATTRIBUTES:
        inner = attribute.sub("", inner)
    inner = re.sub(r"\s+", " ", re.sub("</?tbody>", "", inner))
    page = f'<html><body><table border="1" >{inner}</table></body></html>'
    for tag in _TAGS:
        page = page.replace(tag, "")
    return _COLUMNS.sub("", page.replace('<spandata-span-identity="">', ""))


def _plain_cells(text: str) -> str:
    """HTML with ``th`` as ``td``, without ``thead`` and ``span``, and with formulas between dollars."""
    soup = _parsed(text)
    for cell in soup.find_all("th"):
        cell.name = "td"
    for head in soup.find_all("thead"):
        head.unwrap()
    for formula in soup.find_all("math"):
        formula.replace_with(f"${formula.get('alttext', '')}$")
    for span in soup.find_all("span"):
        span.unwrap()
    return str(soup)


def cell_texts(table: str) -> list[str]:
    """The texts of the cells of an HTML table that have nothing but text."""
    cells = [cell.string for cell in _parsed(table).find_all("td")]
    return [re.sub(r"\$\\cdot\$", "", text).strip() for text in cells if text]


def _parsed(text: str) -> Any:
    from bs4 import BeautifulSoup

    return BeautifulSoup(text, "html.parser")
