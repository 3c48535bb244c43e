"""Markdown tables as HTML, as the scorer of OmniDocBench converts them (as intsig-textin/markdown_tester does).

Every row becomes a table of its own, which are then joined.  Quirks that are kept: the line before a table is lost
unless it is blank; a cell with a colon or ``---`` is lost, since the line could be the one below the header; a row
without cells is left out.
"""

from __future__ import annotations

import re

MARKDOWN_ROW = re.compile(r"\|\s*.*?\s*\|\n", re.DOTALL)
"""A row, or several whose ends are not ``|``."""
_COMMENT = re.compile(r"<!--[\s\S]*?-->")
_TABLE = re.compile(r"<table>[\s\S]*?</table>")
_FRAME = re.compile("</?t(able|head|body)>")


def with_html_tables(page: str) -> str:
    """The page with its Markdown tables in HTML."""
    rows = MARKDOWN_ROW.sub(lambda match: _row(match[0]), page.replace("\r", "") + "\n")
    joined = _joined(rows)
    return joined.replace("<table>", '<table border="1" >').replace("<td>", '<td colspan="1" rowspan="1">')


def _row(rows: str) -> str:
    """A table of one row; of several rows, the second is taken for the line below the header."""
    lines = [line.strip() for line in rows.strip().split("\n")]
    html = ["<table>", "  <thead>", "    <tr>"]
    html += [f"      <th>{cell}</th>" for cell in _cells(lines[0])]
    html += ["    </tr>", "  </thead>", "  <tbody>"]
    for line in lines[2:]:
        html += ["    <tr>", *(f"      <td>{cell}</td>" for cell in _cells(line)), "    </tr>"]
    html += ["  </tbody>", "</table>", ""]
    return "\n".join(html)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def _joined(page: str) -> str:
    """The page with tables that follow each other joined."""
    done: list[str] = []
    table: list[str] = []
    inside, last = False, ""
    for line in page.split("\n"):
        if "<table>" in line:
            inside = True
            table.append(last)
        elif inside:
            if not (":" in last or "---" in last or "</thead>" in last):
                table.append("\n" + last)
            if "</table>" in last:
                inside = False
                done.append(_merged("".join(table)))
                table = []
        else:
            done.append(last)
        last = line
    if last:
        closing = inside or "</table>" in last
        done.append(_merged("".join([*table, "\n", last])) if closing else last)
    return "\n".join(done)


def _merged(tables: str) -> str:
    """One table with the rows of several."""
    rows: list[str] = []
    for table in _TABLE.findall(_COMMENT.sub("", tables)):
        lines = [
            line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line
            for line in table.split("\n")
        ]
        kept = [line for line in lines if not _FRAME.search(line)]
        if len(kept) > 2:
            rows += kept
    return "\n\n<table>\n" + "\n".join(rows) + "\n</table>\n\n"
