"""Edit distances of trees, and of tables in HTML (TEDS).

Sources: Zhong et al., "Image-based table recognition: data, model, and evaluation" (arXiv 1911.10683) for TEDS, of
which OCRBench v2 and CC-OCR have a copy each; the distance is computed by the package apted, which finds the minimum.

TEDS is 1 − distance / nodes.  Deleting, inserting and renaming a node cost 1 each; the cost of changing the text of a
cell is its normalised edit distance, in tokens that are characters and tags.  The nodes are those below ``<table>`` in
the larger of the two tables.  Quirks that are kept: a cell's ``<th>`` is a node without text, and a table that shares
little with a small reference can have less than 0.

The distance takes time: about five seconds for two tables of 400 cells, 30 for 900.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz.distance import Levenshtein


@dataclass
class Node:
    """A node of a tree with a label."""

    label: str
    children: list[Node] = field(default_factory=list)


@dataclass
class Cell:
    """A node of a table: an element with its spans, and a cell's text in tokens."""

    tag: str
    spans: tuple[int, int] | None = None
    tokens: Sequence[str] = ()
    children: list[Cell] = field(default_factory=list)


class Costs(ABC):
    """What the operations on nodes cost, in the interface of apted's ``Config``."""

    valuecls = float

    def children(self, node: Any) -> Any:
        return node.children

    def delete(self, node: Any) -> float:
        return 1.0

    def insert(self, node: Any) -> float:
        return 1.0

    @abstractmethod
    def rename(self, first: Any, second: Any) -> float:
        """The cost of turning one node into another."""


class CellCosts(Costs):
    """The costs of TEDS."""

    def rename(self, first: Cell, second: Cell) -> float:
        if first.tag != second.tag or first.spans != second.spans:
            return 1.0
        if first.tag == "td" and (first.tokens or second.tokens):
            longest = max(len(first.tokens), len(second.tokens))
            return float(Levenshtein.distance(first.tokens, second.tokens) / longest)
        return 0.0


def tree_distance(first: Any, second: Any, costs: Costs) -> float:
    """The smallest cost of the operations that turn the tree ``first`` into ``second``."""
    from apted import APTED

    return float(APTED(first, second, costs).compute_edit_distance())


def teds(predicted: str, right: str, *, structure_only: bool = False) -> float:
    """TEDS of the first tables in the bodies of two HTML documents; 0 if one has none, at most 1.

    A document that cannot be parsed, and spans that are no numbers, give 0.

    Args:
        structure_only: whether cells count as empty (TEDS-S).
    """
    from lxml import etree, html

    if not predicted or not right:
        return 0.0
    parser = html.HTMLParser(remove_comments=True, encoding="utf-8")
    try:
        found = [html.fromstring(text, parser=parser).xpath("body/table") for text in (predicted, right)]
        if not found[0] or not found[1]:
            return 0.0
        tables = [tables[0] for tables in found]
        nodes = max(len(table.xpath(".//*")) for table in tables)
        first, second = (_cells(table, structure_only) for table in tables)
    except (etree.LxmlError, ValueError, OverflowError):  # ValueError: of spans, and of characters that XML excludes
        return 0.0
    if first == second:  # large tables take seconds, and right ones are common
        return float(nodes > 0)
    return 1.0 - tree_distance(first, second, CellCosts()) / nodes if nodes else 0.0


def _cells(element: Any, structure_only: bool) -> Cell:
    """The tree of an element."""
    if element.tag == "td":
        spans = (int(element.attrib.get("colspan", "1")), int(element.attrib.get("rowspan", "1")))
        return Cell("td", spans, () if structure_only else _tokens(element)[1:-1])
    return Cell(str(element.tag), children=[_cells(child, structure_only) for child in element])


def _tokens(element: Any) -> list[str]:
    """The characters and tags of an element."""
    tokens = [f"<{element.tag}>", *(element.text or "")]
    for child in element:
        tokens += _tokens(child)
    if element.tag != "unk":
        tokens.append(f"</{element.tag}>")
    if element.tag != "td":
        tokens += element.tail or ""
    return tokens
