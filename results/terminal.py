"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from evalkit.console import encodable

from .tables import Note, Table, cells_of, flat

if TYPE_CHECKING:
    from rich.box import Box
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table as RichTable

GAP = 2
"""Columns between two columns of a table."""


@dataclass(frozen=True)
class OnTerminal:
    """A table for rich: its title, then blocks of columns that fit the terminal, with a blank line after each."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        table = _encodable(self.table, console.encoding)
        if table.title:
            yield Text(flat(table.title), style="bold")
        for block in in_blocks(table, options.max_width):
            yield rich_table(block, _box(ascii=options.ascii_only))
            yield ""


def _encodable(table: Table, encoding: str) -> Table:
    """The table as a terminal of this encoding shows it, so that columns align."""
    rows = [[replace(cell, text=encodable(cell.text, encoding)) for cell in cells_of(row)] for row in table.rows]
    return replace(table, header=[encodable(name, encoding) for name in table.header], rows=rows)


def _box(*, ascii: bool) -> Box:
    """Rules below the header and between sections, and nothing else."""
    from rich.box import Box

    blank = " " * 4
    rule = " " + ("-" if ascii else "─") * 3
    return Box("".join(f"{line}\n" for line in (blank, blank, rule, blank, rule, blank, blank, blank)), ascii=ascii)


def rich_table(table: Table, box: Box) -> RichTable:
    """The table as rich prints it."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        header_style="bold", box=box, pad_edge=False, collapse_padding=True, show_edge=False, padding=(0, 1)
    )
    for number, name in enumerate(table.header):
        text = number < table.left
        shown.add_column(Text(flat(name)), justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for place, row in enumerate(table.rows):
        if place in table.rules and place:
            shown.add_section()
        shown.add_row(*(Text(flat(cell.text), style="bold" if cell.bold else "") for cell in cells_of(row)))
    return shown


def in_blocks(table: Table, width: int) -> list[Table]:
    """``table`` split into as few blocks of at most ``width`` characters as possible, each with the text columns."""
    from rich.cells import cell_len

    wide = [
        GAP + max(cell_len(flat(str(row[c]))) for row in [table.header, *table.rows]) for c in range(len(table.header))
    ]
    numbers = range(table.left, len(table.header))
    blocks = _balanced([wide[c] for c in numbers], width + GAP - sum(wide[: table.left]))
    if len(blocks) == 1:
        return [table]
    chosen = [[*range(table.left), *(numbers[place] for place in block)] for block in blocks]
    # Rows that are empty in a block are left out of it.
    filled = [
        [p for p, row in enumerate(table.rows) if any(str(row[c]) for c in columns[table.left :])] for columns in chosen
    ]
    return [
        replace(
            table, header=[table.header[c] for c in columns],
            rows=[[table.rows[p][c] for c in columns] for p in kept],
            rules=[sum(p < rule for p in kept) for rule in table.rules],
            title=table.title if place == 0 else "", notes=table.notes if place == len(chosen) - 1 else (),
        )
        for place, (columns, kept) in enumerate(zip(chosen, filled, strict=True))
    ]  # fmt: skip


def _balanced(widths: Sequence[int], most: int) -> list[list[int]]:
    """Indices of ``widths`` in as few runs of a sum up to ``most`` as possible, and of those runs the most even."""
    blocks = _filled(widths, most)
    if len(blocks) == 1:
        return blocks
    sums = sorted({total - before for total in accumulate(widths) for before in accumulate(widths, initial=0)})
    return next(found for limit in sums if limit >= max(widths) and len(found := _filled(widths, limit)) <= len(blocks))


def _filled(widths: Sequence[int], most: int) -> list[list[int]]:
    """Indices of ``widths`` in runs, each filled up to ``most`` before the next begins."""
    blocks: list[list[int]] = [[]]
    used = 0
    for place, width in enumerate(widths):
        if blocks[-1] and used + width > most:
            blocks.append([])
            used = 0
        blocks[-1].append(place)
        used += width
    return blocks


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print notes below a table; signatures are not wrapped, so that they can be copied."""
    for note in notes:
        console.print(note, style="dim", highlight=False, soft_wrap=isinstance(note, Note))
