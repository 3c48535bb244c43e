"""Tables on the terminal: blocks of columns, alignment, encodings."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evalkit.console import HANDLER
from evalkit.results.tables import Table
from evalkit.results.terminal import OnTerminal, in_blocks


def shown(table: Table, width: int, encoding: str = "utf-8") -> str:
    """The table as a terminal shows it."""
    content = io.BytesIO()
    file = io.TextIOWrapper(content, encoding, errors=HANDLER, write_through=True)
    Console(width=width, file=file).print(OnTerminal(table))
    return content.getvalue().decode(encoding)


def test_block_leaves_out_rows_without_value_in_it() -> None:
    rows = [["ours", "1" * 20, "2" * 20], ["theirs", "3" * 20, ""], ["others", "", "4" * 20]]
    blocks = in_blocks(Table(["model", "first", "second"], rows, rules=[1]), 40)
    assert [[row[0] for row in block.rows] for block in blocks] == [["ours", "theirs"], ["ours", "others"]]
    assert [list(block.rules) for block in blocks] == [[1], [1]]
    assert [[row[0] for row in block.rows] for block in in_blocks(Table(["a", "b"], rows[:1]), 80)] == [["ours"]]


def test_blocks_are_of_even_width() -> None:
    header = ["task", "score", "n", "unparsed", "truncated", "errors"]
    blocks = in_blocks(Table(header, [["vqav2", "100.00 [75.8, 100.0]", "214,354", "0", "0", "0"]]), 60)
    assert [list(block.header) for block in blocks] == [
        ["task", "score", "n"],
        ["task", "unparsed", "truncated", "errors"],
    ], "no lone column"


def test_columns_align_in_ascii() -> None:
    rows = [["é…", "65.00 ± 3.20 ≈"], ["refcoco", "5.00"]]
    lines = shown(Table(["task", "ü − A"], rows), 80, "ascii").rstrip("\n").splitlines()
    assert lines == [
        "task                u - A",
        "-------------------------",
        "e...     65.00 +/- 3.20 ~",
        "refcoco              5.00",
    ]


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_cell_is_cut(width: int) -> None:
    names = [f"refcoco{i}/testA" for i in range(7)]
    table = Table(["model", *names], [["checkpoint-1000", *["100.00 [90.4, 100.0]"] * 7]], 1, "A title, " * 12)
    text = shown(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("100.00 [90.4, 100.0]") == 7
    assert all(name in text for name in names)
    assert text.startswith("A title, A title")
    if width >= 80:
        assert text.count("checkpoint-1000") == len(in_blocks(table, width)), "nor is a name folded"


def test_table_as_wide_as_terminal_is_one_block() -> None:
    table = Table(["a", "b", "c"], [["1" * 10, "2" * 10, "3" * 10]])
    assert "1" * 10 + "  " + "2" * 10 + "  " + "3" * 10 in shown(table, 34)
    assert len(in_blocks(table, 34)) == 1
    assert len(in_blocks(table, 33)) == 2
