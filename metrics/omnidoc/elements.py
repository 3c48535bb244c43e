"""The elements of an annotated page, in the format of ``OmniDocBench.json``.

Quirks of the scorer that are kept: of three parts of a text that are annotated as two relations, the middle one is
there twice; a joined text has no attributes; in v1.5 a formula that is an array of one column is one formula per line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

SCORED = ("text_block", "title", "code_txt", "code_txt_caption", "reference")
"""Categories of texts that are scored."""
IGNORED = (
    "equation_caption", "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm",
    "code_algorithm_caption", "header", "footer", "page_footnote", "page_number",
)  # fmt: skip
"""Categories of texts that are matched, and not scored."""
TEXTS = (*SCORED, *IGNORED)
FORMULA, TABLE = "equation_isolated", "table"
ARRAY = re.compile(r"\\begin\{array\}\{(?P<columns>[^}]*)\}(?P<body>.*?)\\end\{array\}", re.DOTALL)
_NO_COLUMN = tuple(re.compile(pattern) for pattern in (r"\s+|\|", r"@{[^}]*}", r"!{[^}]*}"))


@dataclass(frozen=True)
class Element:
    """An annotated element.

    Attributes:
        content: its text, or LaTeX of a formula, or HTML of a table.
        latex: of a table.
        order: its place in the reading order, from 1; 0 if it has none.
        attributes: such as ``text_background``.
    """

    category: str
    content: str
    order: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    latex: str = ""


@dataclass(frozen=True)
class Page:
    """What is scored of a page; each in reading order.

    Attributes:
        texts: of v1.0, without the formulas; of v1.5, ``mixed`` has both.
    """

    texts: Sequence[Element]
    formulas: Sequence[Element]
    mixed: Sequence[Element]
    tables: Sequence[Element]


def page_of(annotation: Mapping[str, Any]) -> Page:
    """The elements of an annotated page.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not in the official format.
    """
    boxes: dict[str, list[Mapping[str, Any]]] = {}
    for box in _joined(annotation):
        boxes.setdefault(box["category_type"], []).append(box)
    texts = [_element(box, "text") for category in _OFFICIAL_ORDER for box in boxes.get(category, ())]
    formulas = [_element(box, "latex") for box in boxes.get(FORMULA, ())]
    tables = [_element(box, "html") for box in boxes.get(TABLE, ())]
    mixed = [line for element in _in_order([*texts, *formulas]) for line in _lines(element)]
    return Page(_in_order(texts), _in_order(formulas), mixed, _in_order(tables))


_OFFICIAL_ORDER = (
    *SCORED, "equation_caption", "figure_caption", "figure_footnote", "table_caption", "table_footnote",
    "code_algorithm", "code_algorithm_caption", "header", "footer", "page_footnote", "page_number",
)  # fmt: skip
"""The order of elements at the same place in the reading order."""


def _in_order(elements: Sequence[Element]) -> list[Element]:
    return sorted(elements, key=lambda element: element.order)


def _element(box: Mapping[str, Any], content: str) -> Element:
    order, attributes = box.get("order") or 0, box.get("attribute", {})
    if isinstance(order, bool) or not isinstance(order, int | float):
        raise ValueError(f"order is {order!r}, not a number")
    if not isinstance(attributes, Mapping):
        raise ValueError(f"attribute is {attributes!r}, not a dictionary")
    return Element(box["category_type"], str(box[content]), order, attributes, str(box.get("latex", "")))


def _joined(annotation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The boxes of a page, those of a text that is interrupted as one, after the others."""
    groups: list[list[Any]] = []
    for relation in annotation["extra"]["relation"]:
        if relation["relation_type"] != "truncated":
            continue
        pair = [relation["source_anno_id"], relation["target_anno_id"]]
        known = [group for group in groups if pair[0] in group or pair[1] in group]
        for group in known:
            group += pair
        if not known:
            groups.append(pair)
    parts = {part: None for group in groups for part in group}
    boxes: dict[Any, Mapping[str, Any]] = {}
    for box in annotation["layout_dets"]:
        if box["anno_id"] in parts:
            boxes[box["anno_id"]] = box
        else:
            yield box
    for group in groups:
        ordered = sorted((boxes[part] for part in group), key=lambda box: box["order"])
        first = ordered[0]
        yield {
            "category_type": first["category_type"],
            "order": first["order"],
            "text": "".join(box["text"] for box in ordered),
        }


def _lines(element: Element) -> list[Element]:
    """An element; the lines of a formula that is an array of one column."""
    if element.category != FORMULA:
        return [element]
    lines = [line for line, _ in array_lines(element.content)]
    if not lines:
        return [element] if not is_column(element.content) else []
    return [
        replace(element, content=f"\\[{line}\\]", order=round(float(element.order) + number / 10, 1))
        for number, line in enumerate(lines, 1)
    ]


def is_column(latex: str) -> bool:
    """Whether the first array of a formula has one column, aligned left, right or centred."""
    array = ARRAY.search(latex)
    if not array:
        return False
    columns = array["columns"]
    for pattern in _NO_COLUMN:
        columns = pattern.sub("", columns)
    return columns in ("l", "c", "r")


def array_lines(latex: str) -> list[tuple[str, int]]:
    """The lines of the first array of a formula if it has one column, each with its place; empty if not."""
    array = ARRAY.search(latex)
    if not array or not is_column(latex):
        return []
    found: list[tuple[str, int]] = []
    after = 0
    for part in array["body"].split("\\\\"):
        if line := part.strip():
            place = array["body"].find(line, after)
            after = place + len(line)
            found.append((line, array.start("body") + place))
    return found
