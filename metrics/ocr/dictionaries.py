"""Dictionaries that models write, as OCRBench v2 reads and compares them.

Source: ``OCRBench_v2/eval_scripts/TEDS_metric.py`` of Yuliang-Liu/MultimodalOCR (commit 794c36d6).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .boxes import UNPARSED

_OPENING = re.compile(r"```(?:python|json)?\n", re.IGNORECASE)
_CLOSING = "\n```"
_KEY = re.compile(r"[\w\s]+")
_VALUE = re.compile(r"[\"']?\s*[:=]\s*[\"']?([^\n,\"'{}]+)[\"']?")
_ASSIGNMENT = re.compile(r"\s*\w+\s*=\s*")
_COMMENT = re.compile("#.*")


def texts_of(answer: str) -> dict[str, str]:
    """The keys and values that an answer gives, as texts; empty if it gives none.

    It is JSON or a Python dictionary, in a code block or not; else whatever looks like ``key: value`` or
    ``key = value``.
    """
    content = next(_blocks(answer), answer.strip())
    try:
        found = _literal(content)
    except UNPARSED:
        found = {key.strip(): value.strip() for key, value in _pairs(content)}
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        return {}
    try:
        return {key.strip(): str(value).strip() for key, value in found.items()}
    except UNPARSED:  # a number with too many digits, or too deep
        return {}


def _blocks(answer: str) -> Iterator[str]:
    """The contents of the code blocks in an answer."""
    place = 0
    while opening := _OPENING.search(answer, place):
        end = answer.find(_CLOSING, opening.end())
        if end < 0:
            return
        yield answer[opening.end() : end]
        place = end + len(_CLOSING)


def _literal(content: str) -> Any:
    """The value that ``content`` is in JSON, or else in Python."""
    try:
        return json.loads(content)
    except UNPARSED:
        return ast.literal_eval(content)


def _pairs(content: str) -> Iterator[tuple[str, str]]:
    """Words that are followed by a colon or ``=``, and what is behind it, up to a comma, quote, brace or line end."""
    place = 0
    while key := _KEY.search(content, place):
        value = _VALUE.match(content, key.end())
        place = value.end() if value else key.end()
        if value:
            yield key[0], value[1]


def chart_of(answer: str) -> dict[Any, Any]:
    """The Python dictionary in an answer: in its longest code block if it has one; empty if there is none."""
    content = max(_blocks(answer), key=len, default=answer.strip())
    content = _COMMENT.sub("", _without_name(content))
    end = content.rfind("}")
    try:
        found = ast.literal_eval(content[: end + 1] if end >= 0 else content)
    except UNPARSED:
        return {}
    return found if isinstance(found, dict) else {}


def _without_name(content: str) -> str:
    """``content`` without ``name =`` before it."""
    content = content.strip()
    match = _ASSIGNMENT.match(content)
    return content[match.end() :] if match else content


def table_of(chart: Mapping[Any, Any]) -> str:
    """A chart's dictionary as a table in HTML, a row per key; values are spelled with a blank after each character."""
    rows = "".join(f"  <tr><td>{key}</td><td>{' '.join(str(value))}</td></tr>\n" for key, value in chart.items())
    return f"<html><body><table>\n{rows}</table></body></html>"


def annotated(text: str) -> dict[str, list[Any]]:
    """The annotated values of each key, from JSON or Python.  Raises ``ValueError`` if it is no dictionary."""
    try:
        found = _literal(text.strip('"'))
        found = ast.literal_eval(found) if isinstance(found, str) else found
    except UNPARSED as error:
        raise ValueError("it is no dictionary") from error
    if not isinstance(found, dict):
        raise ValueError("it is no dictionary")
    return {key: value if isinstance(value, list) else [value] for key, value in found.items()}


def f1(found: Mapping[str, str], right: Mapping[str, Sequence[Any]]) -> float:
    """The share of the keys of both whose values are equal without case and blanks, in [0, 1].

    A key is right if its value is any of the annotated ones.  The script tries every combination of these and takes
    the best, which is the same; a key that has no annotated value leaves nothing to compare with, which is 0.
    """
    if not right or not all(right.values()):
        return 0.0
    keys = {
        key for key in found.keys() | right.keys() if key in found or not any(value is None for value in right[key])
    }
    equal = sum(
        _normalised(found[key]) in {_normalised(str(value)) for value in right[key] if value is not None}
        for key in found.keys() & right.keys()
    )
    return equal / len(keys) if keys else 0.0


def _normalised(value: str) -> str:
    return value.lower().strip().replace("\n", " ").replace(" ", "")
