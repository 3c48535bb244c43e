"""Tables in the formats that people paste: terminal, Markdown, CSV, HTML, LaTeX (booktabs)."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "≥": r"$\ge$",
    "≈": r"$\approx$", "→": r"$\to$", "α": r"$\alpha$", "…": r"\ldots{}", "·": r"$\cdot$", "<": "$<$", ">": "$>$",
    "|": r"\textbar{}", "×": r"$\times$", "—": "---", "!": "!",
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
    """A table with what a reader must know to quote it.

    The first ``left`` columns are texts, the others numbers.  ``rules`` are the rows before which a line is drawn.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    left: int = 1
    title: str = ""
    notes: Sequence[str] = ()
    rules: Sequence[int] = field(default_factory=tuple)


def _cells(row: Iterable[Cell | str]) -> list[Cell]:
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's Markdown."""
    blocks = []
    for table in tables:
        marks = ["---" if i < table.left else "---:" for i in range(len(table.header))]
        lines = [f"**{table.title}**", ""] if table.title else []
        lines += ["| " + " | ".join(map(_pipe, row)) + " |" for row in (table.header, marks)]
        for row in table.rows:
            texts = [f"**{_pipe(c.text)}**" if c.bold and c.text else _pipe(c.text) for c in _cells(row)]
            lines.append("| " + " | ".join(texts) + " |")
        if table.notes:
            lines += ["", *(f"- {note}" for note in table.notes)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def latex(tables: Sequence[Table]) -> str:
    r"""Tables for ``\usepackage{booktabs}``."""
    blocks = []
    for table in tables:
        columns = "l" * table.left + "r" * (len(table.header) - table.left)
        lines = [r"\begin{tabular}{" + columns + "}", r"\toprule"]
        lines.append(" & ".join(map(tex, table.header)) + r" \\")
        lines.append(r"\midrule")
        for place, row in enumerate(table.rows):
            lines += [r"\midrule"] if place in table.rules and place else []
            texts = [rf"\textbf{{{tex(c.text)}}}" if c.bold and c.text else tex(c.text) for c in _cells(row)]
            lines.append(" & ".join(texts) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip{{\footnotesize {tex(note)}\par}}" for note in table.notes]
        title = [f"% {table.title}"] if table.title else []
        blocks.append("\n".join(["% needs \\usepackage{booktabs}", *title, *lines]) + "\n")
    return "\n".join(blocks)


def tex(text: str) -> str:
    """``text`` as LaTeX prints it."""
    return "".join(LATEX.get(character, character) for character in text.replace("`", "").replace("\n", " "))


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { border-bottom: 1px solid #57606a; } tr.rule td { border-top: 1px solid #b6bdc5; }
.text { text-align: left; } li { color: #57606a; font-size: 13px; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3; } li { color: #9198a1; } }
"""


def page(tables: Sequence[Table], title: str) -> str:
    """A page of its own, nothing fetched from elsewhere."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for table in tables:
        body += [f"<h2>{html.escape(table.title)}</h2>"] if table.title else []
        body.append("<table><thead><tr>")
        body += [f"<th{_side(i, table)}>{html.escape(name)}</th>" for i, name in enumerate(table.header)]
        body.append("</tr></thead><tbody>")
        for place, row in enumerate(table.rows):
            body.append('<tr class="rule">' if place in table.rules and place else "<tr>")
            for i, cell in enumerate(_cells(row)):
                text = html.escape(cell.text)
                body.append(f"<td{_side(i, table)}>{f'<b>{text}</b>' if cell.bold else text}</td>")
            body.append("</tr>")
        body.append("</tbody></table>")
        if table.notes:
            body.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in table.notes) + "</ul>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(body) + "\n</body></html>\n"
    )  # fmt: skip


def _side(column: int, table: Table) -> str:
    return ' class="text"' if column < table.left else ""


def rows_as_csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """One line a row, numbers unrounded; what is not among ``fields`` is left out."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def rich_table(table: Table) -> RichTable:
    """For the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=table.title or None, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD,
        pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    for number, name in enumerate(table.header):
        text = number < table.left
        shown.add_column(Text(name), justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for place, row in enumerate(table.rows):
        if place in table.rules and place:
            shown.add_section()
        shown.add_row(*(Text(cell.text, style="bold" if cell.bold else "") for cell in _cells(row)))
    return shown


def in_blocks(table: Table, width: int) -> list[Table]:
    """A table that is wider than ``width`` characters as several under each other, each with the first columns."""

    def wide(column: int) -> int:
        return 2 + max(len(str(row[column])) for row in [table.header, *table.rows])

    fixed = 2 + sum(wide(column) for column in range(table.left))
    blocks: list[list[int]] = [[]]
    used = fixed
    for column in range(table.left, len(table.header)):
        if blocks[-1] and used + wide(column) > width:
            blocks.append([])
            used = fixed
        blocks[-1].append(column)
        used += wide(column)
    chosen = [[*range(table.left), *block] for block in blocks]
    return [
        Table(
            [table.header[c] for c in columns], [[row[c] for c in columns] for row in table.rows], table.left,
            table.title if place == 0 else "", table.notes if place == len(chosen) - 1 else (), table.rules,
        )
        for place, columns in enumerate(chosen)
    ]  # fmt: skip
