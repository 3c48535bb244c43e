"""What a page of Markdown consists of: tables, formulas and blocks of text, each with its place.

Quirks of the scorer that are kept:

- A formula between single dollars or ``\\(…\\)`` is found as a formula, and stays in its text.
- A table in LaTeX ends one character after ``\\end{tabular}``; a ``</table>`` right behind ``<table>`` is not seen.
- Places are not comparable: a block's is the length of those before it without the blank lines, a Markdown table's that
  in the page whose Markdown tables are HTML.
- Fences at the ends of lines are removed first, so that blocks of code are rarely found as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .markdown_tables import MARKDOWN_ROW, with_html_tables

TEXT, FORMULA, HTML_TABLE, LATEX_TABLE = "text_all", "equation_isolated", "html_table", "latex_table"
"""Kinds of blocks."""
INLINE, MARKDOWN, CODE, PLAIN = "equation_inline", "md2html_table", "code", "text_block"
"""What is known beyond the kind."""


@dataclass(frozen=True)
class Block:
    """An element of a page of Markdown.

    Attributes:
        start: its place; blocks are in the order of their places.
        detail: what is known beyond the kind; may be empty.
    """

    kind: str
    start: int
    content: str
    detail: str = ""

    @property
    def category(self) -> str:
        return self.detail or self.kind


_IMAGE = re.compile(r"!\[.*?\]\(.*?\)")
_LATEX_FLOAT = re.compile(r"\\begin{table}.*?\\end{table}", re.DOTALL)
_TABULAR = re.compile(r"\\begin{tabular}"), re.compile(r"\\end{tabular}")
_TABULAR_STEPS = len(r"\\end{tabular}"), len(r"\\begin{tabular}")
_HTML = re.compile(r"<table[^>]*>"), re.compile("</table>")
_HTML_STEPS = len("</table>"), len("<table(?:[^>]*)>")
"""How far the search moves on behind a tag, and how far behind an opening one that is not closed."""
_MATH = re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]|\$.*?\$|\\\(.*?\\\)", re.DOTALL)
_DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_HTML_TABLE = re.compile("<table.*?</table>", re.DOTALL)
_CODE = re.compile(r"```\w+\n(.*?)```", re.DOTALL)
_COMMANDS = (
    re.compile(r"\\title\{(.*?)\}"),
    re.compile(r"\\title\s*\{\s*(.*?)\s*\}", re.DOTALL),
    re.compile(r"\\text\s*\{\s*(.*?)\s*\}", re.DOTALL),
    re.compile(r"\\section\*?\{(.*?)\}"),
    re.compile(r"\\section\*?\{\s*(.*?)\s*\}", re.DOTALL),
)
"""Commands of which only the argument is kept."""


def blocks_of(markdown: str, *, current: bool) -> list[Block]:
    """The blocks of a page in the order of their places.

    Args:
        current: whether the rules are those of v1.5, or of v1.0.
    """
    page = _cleaned(markdown, current)
    found: list[Block] = []
    for kind, tables in ((LATEX_TABLE, _latex_tables), (HTML_TABLE, _html_tables)):
        for start, table in tables(page):
            found.append(Block(kind, start, table))
            page = _blanked(page, start, start + len(table))
    page = _take_formulas(page, found, current)
    if len(MARKDOWN_ROW.findall(page + "\n")) >= 2:
        page = with_html_tables(page)
        for match in _HTML_TABLE.finditer(page):
            found.append(Block(HTML_TABLE, match.start(), match[0].strip(), MARKDOWN))
            page = _blanked(page, *match.span())
    for match in _CODE.finditer(page):
        found.append(Block(TEXT, match.start(), match[1].strip(), CODE))
        page = _blanked(page, *match.span())
    for command in _COMMANDS:
        page = command.sub(r"\1", page)
    found.extend(_texts(page))
    return sorted(found, key=lambda block: block.start)


def _cleaned(markdown: str, current: bool) -> str:
    """The page without images and fences, and with long runs of characters shortened."""
    page = _IMAGE.sub("", markdown)
    for language in ("markdown", "html", "latex") if current else ("markdown",):
        page = re.sub(rf"^```{language}\n?", "", page, flags=re.MULTILINE)
    page = re.sub(r"```\n?$", "", page, flags=re.MULTILINE)
    page = re.sub(r"_{4,}", "____", page)
    page = re.sub(r" {4,}", "    ", page)
    if not current:
        return re.sub(r"([^a-zA-Z0-9])\1{10,}", r"\1\1\1\1", page)
    for tag in ("<html>", "</html>", "<body>", "</body>"):
        page = page.replace(tag, "")
    return page


def _blanked(page: str, start: int, end: int) -> str:
    """The page with spaces from ``start`` to ``end``."""
    return page[:start] + " " * (end - start) + page[end:]


def _latex_tables(page: str) -> list[tuple[int, str]]:
    """The tables in LaTeX with their places, in order."""
    found = []
    for match in _LATEX_FLOAT.finditer(page):
        found.append((match.start(), match[0]))
        page = _blanked(page, *match.span())
    found.extend(_enclosed(page, *_TABULAR, *_TABULAR_STEPS))
    return sorted(found, key=lambda table: table[0])


def _html_tables(page: str) -> list[tuple[int, str]]:
    """The outermost tables in HTML with their places."""
    return list(_enclosed(page, *_HTML, *_HTML_STEPS))


def _enclosed(
    page: str, opening: re.Pattern[str], closing: re.Pattern[str], step: int, unclosed: int
) -> Iterator[tuple[int, str]]:
    """What stands between tags, outermost ones only, with its place.

    Where a tag is not closed, the search begins again behind it.
    """
    begin = 0
    while True:
        depth: list[int] = []
        place = begin
        first, last = opening.search(page, place), closing.search(page, place)
        if not last:
            return
        while last or (first and not depth):  # further opening tags alone would enclose nothing
            if first and (not last or first.start() < last.start()):
                depth.append(first.start())
                place = first.start() + step
            elif last:
                place = last.start() + step
                if depth:
                    start = depth.pop()
                    if not depth:
                        yield start, page[start:place]
            if first and first.start() < place:
                first = opening.search(page, place)
            if last and last.start() < place:
                last = closing.search(page, place)
        if not depth:
            return
        begin = depth[0] + unclosed


def _take_formulas(page: str, found: list[Block], current: bool) -> str:
    """Add the formulas of the page to ``found``; the page without those that stand alone."""
    for match in _MATH.finditer(page):
        # v1.0 removes all blanks, v1.5 only line breaks.
        line = " ".join(match[0].strip().split("\n")) if current else "".join(match[0].split())
        dollars = _DOLLARS.search(line)
        if dollars is not None and not dollars[1]:
            found.append(Block(FORMULA, match.start(), _DOLLARS.sub(r"\\[\2\3\\]", line), INLINE))
            continue
        if dollars is not None:
            line = _DOLLARS.sub(r"\\[\1\\]", line)
        found.append(Block(FORMULA, match.start(), line))
        page = _blanked(page, *match.span())
    return page


def _texts(page: str) -> Iterator[Block]:
    """The blocks of text: between blank lines, or the lines of a page that has none."""
    pieces = page.split("\n\n")
    if len(pieces) == 1:
        pieces = page.split("\n")
    place = 0
    for piece in pieces:
        start, place = place, place + len(piece)
        text = "\n".join(line.strip() for line in piece.strip().split("\n") if line.strip())
        if not text:
            continue
        if text.startswith("<table") and text.endswith("</table>"):
            yield Block(HTML_TABLE, start, text)
        elif text.startswith("$") and text.endswith("$"):
            if text.replace("$", "").strip():
                yield Block(FORMULA, start, text)
        else:
            yield Block(TEXT, start, text, PLAIN)
