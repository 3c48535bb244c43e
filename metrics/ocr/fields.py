"""Key information as CC-OCR scores it: fields that are equal, and edit distances of trees of fields.

Source: ``Benchmarks/CC-OCR/evaluation/evaluator/kie_evaluator.py`` of AlibabaResearch/AdvancedLiterateMachinery (commit
fb6187e), which follows Donut's (arXiv 2111.15664).  VLMEvalKit (commit e8e78f05) has a copy.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rapidfuzz.distance import Levenshtein

from .boxes import UNPARSED
from .trees import Costs, Node, tree_distance

LEAF = "<leaf>"
"""Marks the nodes that are values."""
DEEPEST = 50
"""Levels of a JSON value."""

_FENCE = re.compile("```json(.*?)```", re.DOTALL)
_FULL_WIDTH = {0x3000: " ", 0x3001: ",", **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}}
_SPACES = (
    (re.compile(r"\s+"), " "),  # not in the script: long runs take long in what follows, which gives the same without
    (re.compile(r"(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])"), ""),
    (re.compile(r"(?<=[\u4e00-\u9fff])\s+(?=[a-zA-Z0-9])"), ""),
    (re.compile(r"(?<=[a-zA-Z0-9])\s+(?=[\u4e00-\u9fff])"), ""),
    (re.compile(r"(?<![0-9])\s*([,.!?:;])\s*"), r"\1 "),
    (re.compile(r"(?<=[0-9])(?=[a-zA-Z])"), " "),
    (re.compile(r"(?<=[a-zA-Z])(?=[0-9])"), " "),
    (re.compile(r"\s+"), " "),
)
"""What texts are normalised by, in this order: blanks around Chinese, behind marks, between letters and digits."""


def fields_of(answer: str) -> Any:
    """The JSON value in an answer, in a block of JSON or alone; an empty dictionary if there is none.

    One that is nested too deeply to be compared is none.
    """
    if "```json" in answer:
        fenced = _FENCE.search(answer)
        answer = fenced[1] if fenced else ""
    try:
        found = json.loads(answer.strip().replace("\n", ""))
    except UNPARSED:
        return {}
    return {} if found is None or _depth(found) > DEEPEST else found


def _depth(value: Any) -> int:
    """How deeply a JSON value is nested, up to ``DEEPEST`` + 1."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def normalised(value: Any) -> Any:
    """``value`` with its texts normalised: those of dictionaries, but not those in lists."""
    if isinstance(value, dict):
        return {key: normalised(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [normalised(inner) if isinstance(inner, dict) else inner for inner in value]
    if not isinstance(value, str):
        return value
    text = value.translate(_FULL_WIDTH)
    for pattern, replacement in _SPACES:
        text = pattern.sub(replacement, text)
    return text


def _listed(value: Any) -> Any:
    """``value`` with every value a list of texts or dictionaries, without empty ones, and keys in a fixed order."""
    if isinstance(value, dict):
        found = {}
        for key in sorted(value, key=lambda key: (len(key), key)):
            inner = _listed(value[key])
            if inner:
                found[key] = inner if isinstance(inner, list) else [inner]
        return found
    if not isinstance(value, list):
        return [str(value).strip()]
    if all(isinstance(item, dict) for item in value):
        return [inner for item in value if (inner := _listed(item))]
    return [text for item in value if type(item) in (str, int, float) and (text := str(item).strip())]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values with the path of their keys."""
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            yield from _flat(inner, f"{key}.{inner_key}" if key else inner_key)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner, key)
    else:
        yield key, value


def field_counts(found: Any, right: Any) -> tuple[int, int]:
    """The number of fields that are equal, and of those that are in one only."""
    first, second = (Counter(_flat(_listed(normalised(value)))) for value in (found, right))
    equal = (first & second).total()
    return equal, first.total() + second.total() - 2 * equal


class _FieldCosts(Costs):
    """The costs between fields: those of values are their lengths and edit distances, those of others 1."""

    def delete(self, node: Node) -> float:
        return len(node.label.replace(LEAF, "")) if LEAF in node.label else 1.0

    insert = delete

    def rename(self, first: Node, second: Node) -> float:
        leaves = [LEAF in node.label for node in (first, second)]
        if all(leaves):
            return float(Levenshtein.distance(first.label.replace(LEAF, ""), second.label.replace(LEAF, "")))
        if any(leaves):
            return 1.0 + self.delete(first if leaves[0] else second)
        return float(first.label != second.label)


def tree_accuracy(found: Any, right: Any) -> float:
    """1 − the edit distance of the trees of fields / that of the right tree from an empty one; at least 0."""
    first, second = (_tree(_listed(normalised(value)), "<root>") for value in (found, right))
    costs = _FieldCosts()
    whole = tree_distance(Node("<root>"), second, costs)
    return max(0.0, 1.0 - tree_distance(first, second, costs) / whole) if whole else 0.0


def _tree(value: Any, name: str) -> Node:
    if isinstance(value, dict):
        return Node(name, [_tree(inner, key) for key, inner in value.items()])
    if all(isinstance(item, dict) for item in value):
        return Node(name, [_tree(item, "<subtree>") for item in value])
    return Node(name, [Node(f"{LEAF}{item}") for item in value])
