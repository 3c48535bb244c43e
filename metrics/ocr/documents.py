"""Tables and documents as OCRBench v2 scores them.

Source: ``OCRBench_v2/eval_scripts/TEDS_metric.py`` and ``eval.py`` of Yuliang-Liu/MultimodalOCR (commit 794c36d6).
"""

from __future__ import annotations

import re

from .trees import Costs, Node, teds, tree_distance

ROOT, TITLE = "ROOT", "TITLE"

_CLEANED = (
    (re.compile("<bos>|<eos>|<pad>|<unk>"), ""),
    (re.compile(r"\s##(\S)"), r"\1"),
    (re.compile(r"\\\s"), r"\\"),
    (re.compile(r"\s\*\s\*\s"), "**"),
    (re.compile(r"{\s"), "{"),
    (re.compile(r"\s}"), "}"),
    (re.compile(r"\s}"), "}"),
    (re.compile(r"\\begin\s"), r"\\begin"),
    (re.compile(r"\\end\s"), r"\\end"),
    (re.compile(r"\\end{table}"), r"\\end{table} \n\n"),
    (re.compile(r"[\n*_]"), " "),
)
"""What lines of a document are cleaned of, in this order."""


def html_table(predicted: str, right: str) -> float:
    """TEDS of the first table in the text, from ``<body`` or else ``<table`` on; 0 without either, at most 1."""
    predicted = predicted.replace("\n", "")
    place = predicted.find("<body")
    place = place if place >= 0 else predicted.find("<table")
    return teds(_document(predicted[place:]), _document(right)) if place >= 0 else 0.0


def _document(table: str) -> str:
    """A table with the elements around it that it lacks."""
    table = table.replace("\n", "")
    begins, ends = "<table" in table, "</table>" in table
    table = f"{'' if begins else '<table>'}{table}{'' if ends else '</table>'}"
    table = table if "<body>" in table else f"<body>{table}</body>"
    return table if "<html>" in table else f"<html>{table}</html>"


def markdown_table(predicted: str, right: str) -> float:
    """TEDS of two tables in Markdown, at most 1."""
    return teds(_from_markdown(predicted), _from_markdown(right))


def _from_markdown(table: str) -> str:
    """A table as HTML: every line but the second is a row, with the cells between its first and last bar."""
    lines = table.strip("`markdown").strip("`").strip().split("\n")
    rows = ""
    for line in [lines[0], *lines[2:]]:
        cells = (" " if set(cell) == {" "} else cell.strip() for cell in line.strip().split("|")[1:-1])
        rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return f"<html><body><table>{rows}</table></body></html>".replace("\n", "")


class _LineCosts(Costs):
    """The costs between lines of documents: renaming is free unless one of the lines is blank."""

    def rename(self, first: Node, second: Node) -> float:
        return 0.0 if first.label.strip() and second.label.strip() else 1.0


def document(predicted: str, right: str) -> float:
    """1 − edit distance / nodes of the documents' trees of lines below headings, at most 1.

    Only the structure counts: any line that is not blank is as good as another.
    """
    first, second = _tree(predicted), _tree(right)
    return 1.0 - tree_distance(first, second, _LineCosts()) / max(len(_nodes(first)), len(_nodes(second)))


def _tree(text: str) -> Node:
    """A document's headings, with their lines, and before them a node with the lines before the first heading.

    As in the script, lines go to the first node whose text is that of the last heading.
    """
    top, root = Node(TITLE), Node(ROOT)
    first: dict[str, _Place] = {ROOT: ((), root)}  # the first node of each text, in the order of ``_nodes``
    _add(top, ((), root), first)
    place = first[TITLE]
    for line in text.split("\n"):
        for pattern, replacement in _CLEANED:
            line = pattern.sub(replacement, line)
        if not line.startswith("#"):
            _add(Node(line), place, first)
            continue
        heading = line.replace("#", "")
        _add(Node(heading), first[ROOT], first)
        place = first[heading or TITLE]
    return root


_Place = tuple[tuple[int, ...], Node]
"""A node, and the numbers of the children on the way to it, which sort nodes as ``_nodes`` does."""


def _add(node: Node, below: _Place, first: dict[str, _Place]) -> None:
    """Add a node as the last child of another."""
    path, parent = below
    place = ((*path, len(parent.children)), node)
    parent.children.append(node)
    if node.label not in first or place[0] < first[node.label][0]:
        first[node.label] = place


def _nodes(tree: Node) -> list[Node]:
    """The nodes of a tree, each before those below it."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting.extend(reversed(node.children))
    return found
