"""Tables, and their text as Markdown, CSV and LaTeX (booktabs).  For the terminal, see ``results/terminal.py``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from evalkit.plain_text import printable

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "≥": r"$\ge$",
    "≈": r"$\approx$", "→": r"$\to$", "α": r"$\alpha$", "…": r"\ldots{}", "·": r"$\cdot$", "<": "$<$", ">": "$>$",
    "|": r"\textbar{}", "×": r"$\times$", "—": "---", "\N{REPLACEMENT CHARACTER}": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A cell's text; ``bold`` for the best of its column."""

    text: str
    bold: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """A table with notes.

    Attributes:
        left: the number of text columns, which come first; the others are numbers.
        rules: the rows before which a line is drawn.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    left: int = 1
    title: str = ""
    notes: Sequence[str] = ()
    rules: Sequence[int] = field(default_factory=tuple)


class Note(str):
    """A note that ends with a signature, which is text to be copied, between backticks.

    Attributes:
        sentence: what comes before; empty for a signature alone.
        signature: without backticks around it.
    """

    sentence: str
    signature: str

    def __new__(cls, sentence: str, signature: str) -> Note:
        note = super().__new__(cls, f"{sentence}`{signature}`")
        note.sentence, note.signature = sentence, signature
        return note


def cells_of(row: Iterable[Cell | str]) -> list[Cell]:
    """A row's entries as cells."""
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]


def flat(text: str) -> str:
    """``text`` on one line, without terminal control characters."""
    return printable(" ".join(text.split()))


def safe(text: str) -> str:
    """``text`` with its line breaks and spaces, without terminal control characters."""
    return printable("\n".join(text.splitlines()).replace("\t", "    "))


def short(text: str, most: int = 160) -> str:
    """``text`` on one line, cut after ``most`` characters."""
    line = flat(text)
    return line if len(line) <= most else line[: most - 1] + "…"


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's Markdown.  A table without rows is its title and notes."""
    blocks = []
    for table in tables:
        marks = ["---" if i < table.left else "---:" for i in range(len(table.header))]
        lines = [f"**{plain(table.title)}**", ""] if table.title else []
        if table.rows:
            lines += ["| " + " | ".join(row) + " |" for row in (map(plain, table.header), marks)]
        for row in table.rows:
            texts = [f"**{plain(c.text)}**" if c.bold and c.text else plain(c.text) for c in cells_of(row)]
            lines.append("| " + " | ".join(texts) + " |")
        if table.notes:
            lines += [*([""] if table.rows else []), *(f"- {_note(note)}" for note in table.notes)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


MARKS = re.compile(r"[\\|*`]|<(?=[A-Za-z/!?])|(?<=\])\(|(?<!\w)_|_(?!\w)|~(?=~)")
"""Characters that are markup in Markdown or HTML."""


def plain(text: str) -> str:
    """``text`` as Markdown prints it."""
    return MARKS.sub(lambda found: "\\" + found[0], flat(text))


def _note(note: str) -> str:
    """A note in Markdown: plain except for its signature."""
    if not isinstance(note, Note):
        return plain(note)
    space = " " if note.sentence.endswith(" ") else ""
    return f"{plain(note.sentence)}{space}{code_span(note.signature)}"


def code_span(text: str) -> str:
    """``text`` as code in a line of Markdown, between more backticks than any run in it has."""
    line = flat(text)
    fence = "`" * (longest_run(line, "`") + 1)
    pad = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def longest_run(text: str, character: str) -> int:
    """The length of the longest run of a character in ``text``."""
    return max((len(run[0]) for run in re.finditer(f"{re.escape(character)}+", text)), default=0)


def latex(tables: Sequence[Table]) -> str:
    r"""Tables for ``\usepackage{booktabs}``.  A table without rows is its notes."""
    blocks = []
    for table in tables:
        title = [f"% {flat(table.title)}"] if table.title else []
        lines = _tabular(table) if table.rows else []
        lines += [rf"\par\smallskip{{\footnotesize {tex(note)}\par}}" for note in table.notes]
        blocks.append("\n".join(["% needs \\usepackage{booktabs}", *title, *lines]) + "\n")
    return "\n".join(blocks)


def _tabular(table: Table) -> list[str]:
    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    lines = [r"\begin{tabular}{" + columns + "}", r"\toprule"]
    lines.append(" & ".join(map(tex, table.header)) + r" \\")
    lines.append(r"\midrule")
    for place, row in enumerate(table.rows):
        lines += [r"\midrule"] if place in table.rules and place else []
        texts = [rf"\textbf{{{tex(c.text)}}}" if c.bold and c.text else tex(c.text) for c in cells_of(row)]
        line = " & ".join(texts) + r" \\"
        # After \\, LaTeX reads these two as its argument.
        lines.append("{}" + line if line[0] in "[*" else line)
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def tex(text: str) -> str:
    """``text`` as LaTeX prints it."""
    pairs = pairwise(flat(text.replace("`", "")) + " ")
    # Two hyphens in a name are not a dash.
    return "".join("-{}" if one + after == "--" else LATEX.get(one, one) for one, after in pairs)


FORMULA = re.compile(r"[=+\-@\t\r]")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def as_text(value: Any) -> Any:
    """``value`` with an apostrophe in front if it is a text that a spreadsheet would compute, such as ``=1+1``."""
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def rows_as_csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]], *, formulas: bool = False) -> str:
    """One line per row, numbers unrounded; keys that are not in ``fields`` are left out.

    Args:
        formulas: write texts that a spreadsheet would compute as they are, without an apostrophe in front.
    """
    if not formulas:
        rows = ({key: as_text(value) for key, value in row.items()} for row in rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------------- numbers


def p_text(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """``value`` with its sign, and a typographic minus."""
    return f"{value:+.2f}".replace("-", "−")
