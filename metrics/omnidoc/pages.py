"""What is compared on a page: pairs of texts, of formulas and of tables, and the reading order.

Quirk that is kept: where an element has nothing to compare, such as a text of punctuation, the place, the attributes
and (of predicted ones) the category of those behind it are taken from the element before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rapidfuzz.distance import Levenshtein

from . import markdown
from .elements import FORMULA, IGNORED, SCORED, Element, Page, array_lines, is_column
from .markdown import Block
from .matching import NEAR, Pair, distances, quick_match, simple_match
from .normal_forms import cell_texts, formula_form, latex_text, letters, table_form, text_form


@dataclass(frozen=True)
class Comparison:
    """An annotated element and what was predicted for it; either can be empty.

    Attributes:
        attributes: of the annotated elements.
    """

    right: str
    found: str
    attributes: Sequence[Mapping[str, Any]] = ()

    @property
    def length(self) -> int:
        """Of the longer one."""
        return max(len(self.right), len(self.found))

    @property
    def edits(self) -> int:
        return int(Levenshtein.distance(self.right, self.found))


@dataclass(frozen=True)
class Order:
    """The places of the annotated texts in order, and in the order of what was predicted for them."""

    right: Sequence[float]
    found: Sequence[float]

    @property
    def length(self) -> int:
        return max(len(self.right), len(self.found))

    @property
    def edits(self) -> int:
        return int(Levenshtein.distance(self.right, self.found))


@dataclass(frozen=True)
class ComparedPage:
    """What is compared on a page.

    Attributes:
        order: None if the page has no texts whose order is annotated.
        latex: whether the predicted tables are mostly in LaTeX.
    """

    texts: Sequence[Comparison]
    formulas: Sequence[Comparison]
    tables: Sequence[Comparison]
    order: Order | None
    latex: bool


@dataclass(frozen=True)
class Line:
    """An element to be matched: ``form`` is what is compared, ``place`` its place in the page."""

    content: str
    form: str
    category: str
    place: float
    attributes: Mapping[str, Any] = field(default_factory=dict)


def compare(page: Page, predicted: str, *, current: bool, vlmevalkit: bool = False) -> ComparedPage:
    """What is compared on a page.

    Args:
        predicted: the page as Markdown; may be empty.
        current: whether the rules are those of v1.5, or of v1.0.
        vlmevalkit: whether they are those of VLMEvalKit's copy of v1.0: predicted tables in LaTeX are left out, and
            line breaks are as predicted, which the official scorer reads from a file.
    """
    if not vlmevalkit:
        predicted = predicted.replace("\r\n", "\n").replace("\r", "\n")
    blocks = markdown.blocks_of(predicted, current=current)
    listed = [block for block in blocks if not (vlmevalkit and block.kind == markdown.LATEX_TABLE)]
    tables, unmatched, latex = _tables(page.tables, listed, current)
    texts: list[Comparison] = []
    formulas: list[Comparison] = []
    if current:
        lines, every = _mixed_pairs(page, [*_no_tables(blocks), *unmatched])
        pairs = [pair for pair in every if _category(pair, lines[0]) in SCORED]
        for pair in every:
            if _category(pair, lines[0]) == FORMULA:
                _add_formula(pair, lines, texts, formulas)
    else:
        lines, every = _text_pairs(page, blocks)
        pairs = [pair for pair in every if _category(pair, lines[0]) not in IGNORED]
        formulas = _formulas(page, blocks)
    texts += _comparisons(pairs, lines)
    return ComparedPage(texts, formulas, tables, _order(pairs, lines), latex)


Lines = tuple[list[Line], list[Line]]
"""Annotated and predicted ones."""


def _right_lines(elements: Sequence[Element], current: bool) -> list[Line]:
    forms = [
        formula_form(element.content, current=current) if element.category == FORMULA else text_form(element.content)
        for element in elements
    ]
    kept = [(element, form) for element, form in zip(elements, forms, strict=True) if element.content and form]
    return [
        Line(element.content, form, element.category, elements[place].order, elements[place].attributes)
        for place, (element, form) in enumerate(kept)
    ]


def _found_lines(blocks: Sequence[Block], current: bool) -> list[Line]:
    forms = [
        formula_form(block.content, current=current) if block.kind == markdown.FORMULA else text_form(block.content)
        for block in blocks
    ]
    kept = [(block.content, form) for block, form in zip(blocks, forms, strict=True) if block.content and form]
    return [
        Line(content, form, blocks[place].category, blocks[place].start) for place, (content, form) in enumerate(kept)
    ]


def _forms(lines: Iterable[Line]) -> list[str]:
    return [line.form for line in lines]


def _matched(lines: Lines, current: bool) -> list[Pair]:
    return quick_match(_forms(lines[0]), _forms(lines[1]), current=current)


# ------------------------------------------------------------------------------------ v1.5: texts and formulas together


def _no_tables(blocks: Sequence[Block]) -> list[Block]:
    """The blocks that are no tables: those of the kind that comes first, then those of the other."""
    kinds = dict.fromkeys(block.kind for block in blocks)
    return [
        block
        for kind in kinds
        if kind not in (markdown.HTML_TABLE, markdown.LATEX_TABLE)
        for block in blocks
        if block.kind == kind
    ]


def _mixed_pairs(page: Page, blocks: Sequence[Block]) -> tuple[Lines, list[Pair]]:
    """The lines of a page and their pairs; lines that are near ignored texts are in no pair."""
    ordered = sorted(blocks, key=lambda block: (block.detail == markdown.INLINE, block.start))
    right = _right_lines(page.mixed, True)
    found = _found_lines([line for block in ordered for line in _array_lines(block)], True)
    if not right or not found or len(right) == len(found) == 1:
        return (right, found), _matched((right, found), True)
    ignored = [line.form for line in right if line.category in IGNORED]
    near = (distances(ignored, _forms(found)) < NEAR).any(axis=0) if ignored else [False] * len(found)
    lines = (
        [line for line in right if line.category not in IGNORED],
        [line for line, taken in zip(found, near, strict=True) if not taken],
    )
    return lines, _matched(lines, True)


def _array_lines(block: Block) -> list[Block]:
    """A block; the lines of a formula that is an array of one column."""
    if block.kind != markdown.FORMULA or not is_column(block.content):
        return [block]
    return [
        replace(block, content=f"\\[{line}\\]", start=block.start + place) for line, place in array_lines(block.content)
    ]


def _add_formula(pair: Pair, lines: Lines, texts: list[Comparison], formulas: list[Comparison]) -> None:
    """Add an annotated formula to ``formulas``, or to ``texts`` if what was predicted for it is no formula."""
    rows, columns = pair
    right, found = [lines[0][row] for row in rows], [lines[1][column] for column in columns]
    attributes = [line.attributes for line in right]
    if not found or found[0].category in (markdown.INLINE, markdown.FORMULA):
        formulas.append(Comparison("".join(_forms(right)), "".join(_forms(found)), attributes))
        return
    latex = right[0].content
    if len(right) > 1:
        parts = " \\\\ ".join("{" + line.content.strip("$").strip("\n") + "}" for line in right)
        latex = f"\\begin{{array}}{{l}} {parts} \\end{{array}}"
    with suppress(Exception):  # whatever the parser raises; the scorer stops
        latex = latex_text(latex)
    texts.append(Comparison(letters(latex) or latex, "".join(_forms(found)), attributes))


# --------------------------------------------------------------------------------------- v1.0: texts and formulas apart


def _text_pairs(page: Page, blocks: Sequence[Block]) -> tuple[Lines, list[Pair]]:
    found = [block for block in blocks if block.kind == markdown.TEXT]
    lines = _right_lines(page.texts, False), _found_lines(found, False)
    if lines[0]:
        return lines, _matched(lines, False)
    extra: list[Pair] = [([], (number,)) for number in range(len(lines[1]))]
    return lines, extra if page.texts else []


def _formulas(page: Page, blocks: Sequence[Block]) -> list[Comparison]:
    found = [block for block in blocks if block.kind == markdown.FORMULA]
    lines = _right_lines(page.formulas, False), _found_lines(found, False)
    pairs = _matched(lines, False) if lines[0] else []
    return _comparisons([pair for pair in pairs if pair[0]], lines)


# ----------------------------------------------------------------------------------------------------- both versions


def _category(pair: Pair, right: Sequence[Line]) -> str:
    """The most frequent category of the annotated elements, if possible one that is scored; empty without any."""
    categories = [right[row].category for row in pair[0]]
    scored = [category for category in categories if category not in IGNORED]
    return Counter(scored or categories).most_common(1)[0][0] if categories else ""


def _comparisons(pairs: Sequence[Pair], lines: Lines) -> list[Comparison]:
    return [
        Comparison(
            "".join(lines[0][row].form for row in rows),
            "".join(lines[1][column].form for column in columns),
            [lines[0][row].attributes for row in rows],
        )
        for rows, columns in pairs
    ]


def _order(pairs: Sequence[Pair], lines: Lines) -> Order | None:
    """The reading order of the texts; a text without a place does not count."""
    places = [[lines[0][row].place for row in rows if lines[0][row].place] for rows, _ in pairs]
    predicted = [(lines[1][columns[0]].place, own) for own, (_, columns) in zip(places, pairs, strict=True) if columns]
    right = sorted(place for own in places for place in own)
    found = [place for _, own in sorted(predicted, key=lambda one: one[0]) for place in own]
    return Order(right, found) if right or found else None


def _tables(
    elements: Sequence[Element], blocks: Sequence[Block], current: bool
) -> tuple[list[Comparison], list[Block], bool]:
    """The annotated tables with the predicted ones, the texts in the others, and whether those are in LaTeX."""
    in_latex = [block for block in blocks if block.kind == markdown.LATEX_TABLE]
    in_html = [block for block in blocks if block.kind == markdown.HTML_TABLE]
    latex = len(in_latex) > len(in_html)
    found = in_latex if latex else in_html
    right = [element for element in elements if element.content and (element.latex or not latex)]
    compared = [element.latex if latex else element.content for element in right]
    matched = simple_match(compared, [block.content for block in found])
    form = partial(_table_form, latex=latex, current=current)
    tables = [
        Comparison(
            table_form(element.content) or element.content,
            form(found[matched[row]].content) if row in matched else "",
            [elements[row].attributes],
        )
        for row, element in enumerate(right)
    ]
    if latex or not matched:
        return tables, [], latex
    others = [block for column, block in enumerate(found) if column not in matched.values()]
    cells = [replace(one, kind=markdown.TEXT, content=text) for one in others for text in cell_texts(one.content)]
    return tables, cells, latex


def _table_form(content: str, *, latex: bool, current: bool) -> str:
    """What is compared of a predicted table: of one in LaTeX nothing in v1.5, and itself in v1.0 without LaTeXML."""
    if latex:
        return "" if current else content
    return table_form(content) or content
