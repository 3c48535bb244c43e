"""The lines of a TOML file on which its keys are, for messages: ``tomllib`` keeps no positions.

The file has been parsed before, so that only what moves the scan is looked at: headers, keys, strings and brackets.
Keys inside of an inline table have the line of the key that the table belongs to, or their own in an array of tables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""Where a value is: ``("columns", "image")``, ``("rows", 0, "question")``."""

_HEADER = re.compile(r"\s*(\[\[?)\s*(?P<key>[^\[\]=#]+?|.*\".*)\s*\]")
_KEY = re.compile(
    r"""\s*(?P<key>(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'))*)\s*="""
)
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#|[\[\]{}]')
LONGEST_KEY = 1000
"""Characters of a line that are looked at for its key."""


class TomlLines:
    """Finds the line of a key; ``text`` is valid TOML."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        table: KeyPath = ()
        counts: dict[KeyPath, int] = {}
        closing, depth = "", 0
        for number, line in enumerate(text.split("\n"), start=1):
            if not closing and depth == 0:
                start = line[:LONGEST_KEY]
                if header := _HEADER.match(start):
                    table = self._table(header[1], _names(header["key"]), counts)
                    for length in range(1, len(table) + 1):
                        self._lines.setdefault(table[:length], number)
                    continue
                if key := _KEY.match(start):
                    names = _names(key["key"])
                    for length in range(1, len(names) + 1):
                        self._lines.setdefault((*table, *names[:length]), number)
            closing, depth = _after(line, closing, depth)

    def _table(self, bracket: str, names: tuple[str, ...], counts: dict[KeyPath, int]) -> KeyPath:
        """The path of a header; an array of tables has the number of its table, also where a header goes on in it."""
        path: KeyPath = ()
        for place, name in enumerate(names):
            path = (*path, name)
            if bracket == "[[" and place == len(names) - 1:
                counts[path] = counts.get(path, -1) + 1
            if path in counts:
                path = (*path, counts[path])
        return path

    def of(self, path: KeyPath) -> int | None:
        """The line of ``path``, from 1, or that of the nearest key around it; None if there is none."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


def _names(key: str) -> tuple[str, ...]:
    """The parts of a dotted key."""
    try:
        value: object = tomllib.loads(f"{key} = 0")
    except (ValueError, RecursionError):
        return (key,)
    found = []
    while isinstance(value, Mapping):
        ((name, value),) = value.items()
        found.append(name)
    return tuple(found)


def _after(line: str, closing: str, depth: int) -> tuple[str, int]:
    """The quotes of the string that is open after ``line``, and how many brackets are."""
    at = 0
    while at <= len(line):
        if closing:
            end = line.find(closing, at)
            while closing == '"""' and end > 0 and _is_escaped(line, end):
                end = line.find(closing, end + 1)
            if end < 0:
                return closing, depth
            at, closing = end + 3, ""
            while line[at : at + 1] in ("'", '"') and line[at : at + 1] == line[at - 1]:  # up to two quotes before it
                at += 1
            continue
        token = _TOKEN.search(line, at)
        if token is None or token[0] == "#":
            return "", depth
        at = token.end()
        if token[0] in ('"""', "'''"):
            closing = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth = max(0, depth - 1)
    return closing, depth


def _is_escaped(line: str, place: int) -> bool:
    """Whether the quote at ``place`` follows an odd number of backslashes."""
    before = line[:place]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
