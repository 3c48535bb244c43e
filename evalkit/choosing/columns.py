"""The columns of a split that ``--where`` can name: its samples' metadata, and what every sample has."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from evalkit.errors import UserError
from evalkit.types import Sample
from evalkit.values import shown

from .expression import MEMBERSHIP, ORDERED, column_of, columns_in, is_literal, literal

OF_EVERY_SAMPLE: Mapping[str, Callable[[Sample], Any]] = {
    "id": lambda sample: sample.id,
    "cluster": lambda sample: sample.cluster,
    "question": lambda sample: sample.text,
    "images": lambda sample: len(sample.all_images),
    "videos": lambda sample: len(sample.videos),
    "options": lambda sample: len(sample.options),
}
"""Columns that every split has; metadata of the same name comes first."""
EXAMPLES = 8
LONG = 200
OF_TEXTS = ("startswith", "endswith")
TYPES = ("texts", "numbers", "truth values", "lists")


class Columns:
    """The columns of a split.

    Args:
        fixed: columns of which all samples have the same value, ``task`` and ``split``.
    """

    def __init__(self, samples: Sequence[Sample], fixed: Mapping[str, str]) -> None:
        self._samples = samples
        self.fixed = fixed

    @cached_property
    def of_metadata(self) -> Mapping[str, frozenset[str]]:
        """The columns of the samples' metadata with the types of their values; a column of other values is none."""
        found: dict[str, set[str]] = {}
        hidden = set()
        for sample in self._samples:
            for key, value in sample.meta.items():
                types = found.setdefault(key, set())
                if value is not None:
                    name = type_of(value)
                    types.add(name)
                    if not name:
                        hidden.add(key)
        return {key: frozenset(types) for key, types in found.items() if key not in hidden}

    @property
    def names(self) -> list[str]:
        """All columns, those of the metadata first."""
        return list(dict.fromkeys((*self.of_metadata, *OF_EVERY_SAMPLE, *self.fixed)))

    def types(self, name: str) -> frozenset[str]:
        """The types of a column's values, of ``TYPES``."""
        if name in self.of_metadata:
            return self.of_metadata[name]
        return frozenset(("numbers" if name in ("images", "videos", "options") else "texts",))

    def value(self, sample: Sample, name: str) -> Any:
        """A sample's value; None if it has none."""
        if name in self.of_metadata:
            return sample.meta.get(name)
        own = OF_EVERY_SAMPLE.get(name)
        return self.fixed.get(name) if own is None else own(sample)

    def values(self, name: str) -> Counter[str]:
        """How many samples have each value of a column, as it is written in an expression; ``None`` for none."""
        found: Counter[str] = Counter()
        for sample in self._samples:
            value = self.value(sample, name)
            found.update(map(shown, value) if isinstance(value, list | tuple) else [shown(value)])
        return found

    def examples(self, name: str, *, short: bool = False) -> str:
        """The most frequent values of a column, for messages; ``short`` for a table."""
        values = self.values(name)
        most = 3 if short and sum(map(len, values)) > LONG else EXAMPLES
        some = [value for value, _ in values.most_common(most)]
        return ", ".join(some) + (", …" if len(values) > most else "")

    # ---------------------------------------------------------------------------------------------------- checks

    def check(self, tree: ast.expr, text: str, place: str) -> None:
        """Check that an expression fits the columns.

        Args:
            text: the expression as it was given; ``place`` is the split, both for messages.

        Raises:
            UserError: a column does not exist, or is compared with a value of a type that none of its values has.
        """
        known = set(self.names)
        unknown = next((name for name in columns_in(tree) if name not in known), None)
        if unknown is not None:
            raise UserError(f"{place}: --where {text}: there is no column {unknown!r}{self._advice(unknown, tree)}")
        for column, wanted, advice in _compared(tree):
            types = self.types(column)
            if wanted and types and not types & wanted:
                raise UserError(
                    f"{place}: --where {text}: the column {column!r} has {' and '.join(sorted(types))} "
                    f"({self.examples(column)}): {advice}."
                )

    def _advice(self, unknown: str, tree: ast.expr) -> str:
        """What to write in place of an unknown column."""
        near = get_close_matches(unknown.lower(), [name.lower() for name in self.names], n=3, cutoff=0.6)
        similar = [name for name in self.names if name.lower() in near]
        quoted = any(
            column_of(side) == unknown and set(columns_in(other)) & set(self.names)
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare)
            for _, side, other, _ in _sides(node)
        )
        if quoted:
            return f'; put a text in quotes: "{unknown}" (and the expression in single quotes, for the shell).'
        hint = f": did you mean {' or '.join(similar)}?" if similar else "."
        return f"{hint} The columns are {', '.join(map(written, self.names))}."


def written(name: str) -> str:
    """A column as an expression names it."""
    return name if name.isidentifier() else f"meta[{name!r}]"


def type_of(value: Any) -> str:
    """One of ``TYPES``; empty for a value that cannot be compared."""
    if isinstance(value, bool):
        return "truth values"
    if isinstance(value, str):
        return "texts"
    if isinstance(value, int | float):
        return "numbers"
    return "lists" if isinstance(value, list | tuple) and all(map(type_of, value)) else ""


def _sides(node: ast.Compare) -> Iterator[tuple[ast.cmpop, ast.expr, ast.expr, bool]]:
    """(operator, operand, the other operand, whether the first is on the left), both ways, of each comparison."""
    operands = [node.left, *node.comparators]
    for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
        yield op, left, right, True
        yield op, right, left, False


def _compared(tree: ast.expr) -> Iterator[tuple[str, frozenset[str], str]]:
    """(column, the types that its values may have, advice if none has) where it is compared with literals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for op, side, other, is_left in _sides(node):
                if (name := column_of(side)) is not None and (value := _value(other)) is not None:
                    yield name, *_wanted(op, value, is_left, ast.unparse(other), ast.unparse(side))
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OF_TEXTS):
            continue
        if (name := column_of(node.args[0])) is not None:
            yield name, frozenset(("texts",)), f"{node.func.id} is for texts"


def _value(node: ast.expr) -> Any:
    """The value of a literal or of a list of literals; None for anything else."""
    return literal(node) if is_literal(node) or isinstance(node, ast.List | ast.Tuple | ast.Set) else None


def _wanted(op: ast.cmpop, value: Any, is_left: bool, written: str, column: str) -> tuple[frozenset[str], str]:
    """The types with which a value can be compared, and advice for a column of others."""
    several = value if isinstance(value, list) else [value]
    types = {type_of(one) for one in several if one is not None}
    if isinstance(op, MEMBERSHIP) and not is_left:
        return frozenset(("lists", *(("texts",) if types == {"texts"} else ()))), f"write {column} == {written}"
    if isinstance(op, MEMBERSHIP) and isinstance(value, str):
        return frozenset(("texts",)), f"write {column} == {written}, or {written} in {column} for a column of lists"
    if types & {"numbers", "truth values"} and not isinstance(op, ORDERED):
        types |= {"numbers", "truth values"}  # 0 and 1
    if types == {"texts"}:
        return frozenset(types), f"for a column of lists, write {written} in {column}; numbers have no quotes"
    return frozenset(types), f"put a text in quotes, or write number({column}) for numbers that are texts"
