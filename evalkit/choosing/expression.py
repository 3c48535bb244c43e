"""The language of ``--where``: comparisons of a sample's columns, as in Python, and nothing else.

An expression is parsed by Python's own parser, but never evaluated by Python: only the nodes below are known, and every
other one is refused.  There are no regular expressions and no arithmetic, so that an expression of a received run
folder takes time proportional to its length.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evalkit.errors import UserError

Row = Callable[[str], Any]
"""Returns a sample's value of the column with a name; None where the sample has none."""
Test = Callable[[Row], Any]

LONGEST = 2000
DEEPEST = 40
META = "meta"
"""``meta["question type"]`` is the column whose name is no identifier."""
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda one, many: one in many, ast.NotIn: lambda one, many: one not in many,
}  # fmt: skip
ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
MEMBERSHIP = (ast.In, ast.NotIn)
LANGUAGE = (
    'compare columns with ==, !=, <, <=, >, >=, in and not in, and join with and, or and not: category == "OCR" and '
    "level >= 3"
)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _number(value: Any) -> float | None:
    """A text as a number; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None


FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "startswith": (
        2,
        lambda value, start: isinstance(value, str) and isinstance(start, str) and value.startswith(start),
    ),
    "endswith": (2, lambda value, end: isinstance(value, str) and isinstance(end, str) and value.endswith(end)),
    "lower": (1, lambda value: value.lower() if isinstance(value, str) else value),
    "number": (1, _number),
    "len": (1, lambda value: len(value) if isinstance(value, str | list | tuple) else None),
}
"""The number of arguments of each function, and what it returns."""


def parsed(text: str) -> ast.expr:
    """The expression in ``text``, of which every node is known.

    Raises:
        UserError: it is none; the message says what to write.
    """
    if _UNPRINTABLE.search(text):
        raise UserError("--where: the expression has a line break or another control character; give it on one line.")
    if len(text) > LONGEST:
        raise UserError(f"--where: the expression has {len(text):,} characters, more than {LONGEST:,}; use --ids FILE.")
    if not text.strip():
        raise UserError(f"--where: the expression is empty; {LANGUAGE}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in texts
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"--where {text}: {_syntax_advice(text, error)}.") from error
    _check(tree, text, 0)
    if isinstance(tree, ast.Constant | ast.List | ast.Tuple | ast.Set):
        raise UserError(f"--where {text}: it names no column; {LANGUAGE}.")
    return tree


def _syntax_advice(text: str, error: Exception) -> str:
    if re.search(r"(?<![=!<>])=(?!=)", text):
        return "it is no expression; write == to compare"
    if "&&" in text or "||" in text:
        return "it is no expression; write and, or and not"
    reason = f" ({error.msg})" if isinstance(error, SyntaxError) else ""
    return f"it is no expression{reason}; {LANGUAGE}"


def _check(node: ast.AST, text: str, depth: int) -> None:
    """Raise ``UserError`` for a node that the language does not have."""
    if depth > DEEPEST:
        raise UserError(f"--where: the expression is nested more than {DEEPEST} levels deep; use --ids FILE.")
    children: list[ast.expr]
    match node:
        case ast.BoolOp(values=children):
            pass
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            children = [operand]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
            children = [left, *others]
        case ast.Call(func=ast.Name(id=name), args=children, keywords=[]) if name in FUNCTIONS:
            count = FUNCTIONS[name][0]
            if len(children) != count:
                values = "1 value" if count == 1 else f"{count} values"
                raise UserError(f"--where {text}: {name} needs {values}, and {len(children)} are given.")
        case ast.List(elts=children) | ast.Tuple(elts=children) | ast.Set(elts=children):
            odd = next((child for child in children if not is_literal(child)), None)
            if odd is not None:
                raise UserError(
                    f"--where {text}: {ast.unparse(odd)} in a list is neither a text in quotes nor a number."
                )
            return
        case ast.Name() | ast.Subscript(value=ast.Name(id="meta"), slice=ast.Constant(value=str())):
            return
        case _ if is_literal(node):
            return
        case _:
            raise UserError(f"--where {text}: {_refused(node)}; {LANGUAGE}.")
    for child in children:
        _check(child, text, depth + 1)


def _refused(node: ast.AST) -> str:
    shown = ast.unparse(node)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in FUNCTIONS and len(node.args) < 2:
            inner = ", ".join(ast.unparse(part) for part in (node.func.value, *node.args))
            return f"{shown} is not supported, write {node.func.attr}({inner})"
        return f"{shown} is not supported: the functions are {', '.join(FUNCTIONS)}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
        return f"{shown} is not supported, write and, or and not"
    return f"{shown} is not supported"


def is_literal(node: ast.AST) -> bool:
    """Whether a node is a text, a number, a truth value or None."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and type(node.operand.value) in (int, float)
    return isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None)


def literal(node: ast.expr) -> Any:
    """The value of a literal, or of a list of literals."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [ast.literal_eval(one) for one in node.elts]  # no set: a column's list is looked up in it
    return ast.literal_eval(node)


def column_of(node: ast.AST) -> str | None:
    """The name of the column that a node is; None if it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return None


def columns_in(node: ast.AST) -> Iterator[str]:
    """The columns of an expression in its order; one that is named twice, twice."""
    name = column_of(node)
    if name is not None:
        yield name
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from columns_in(child)


def without(node: ast.expr, known: Mapping[str, str]) -> ast.expr | bool:
    """The expression for a split whose columns ``known`` have one value; True or False if these alone decide it."""
    match node:
        case ast.BoolOp(op=op, values=values):
            decides = isinstance(op, ast.Or)
            rest: list[ast.expr] = []
            for value in values:
                found = without(value, known)
                if found is decides:
                    return decides
                if not isinstance(found, bool):
                    rest.append(found)
            if not rest:
                return not decides
            return rest[0] if len(rest) == 1 else ast.BoolOp(op=op, values=rest)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            found = without(operand, known)
            return not found if isinstance(found, bool) else ast.UnaryOp(op=ast.Not(), operand=found)
        case ast.Compare() | ast.Call() if set(columns_in(node)) <= known.keys():
            return bool(compiled(node)(lambda name: known[name]))
    return node


def compiled(node: ast.expr) -> Test:
    """A function that computes the value of a node that ``parsed`` has checked."""
    name = column_of(node)
    if name is not None:
        return lambda row: row(name)
    match node:
        case ast.BoolOp(op=op, values=values):
            tests = [compiled(value) for value in values]
            every = all if isinstance(op, ast.And) else any
            return lambda row: every(test(row) for test in tests)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = compiled(operand)
            return lambda row: not inner(row)
        case ast.Compare():
            return _comparison(node)
        case ast.Call(func=ast.Name(id=called), args=args):
            function = FUNCTIONS[called][1]
            given = [compiled(argument) for argument in args]
            return lambda row: function(*(one(row) for one in given))
    value = literal(node)
    return lambda row: value


def _comparison(node: ast.Compare) -> Test:
    operands = [compiled(one) for one in (node.left, *node.comparators)]
    pairs = list(zip(node.ops, operands, operands[1:], strict=False))

    def test(row: Row) -> bool:
        return all(_compare(op, left(row), right(row)) for op, left, right in pairs)

    return test


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    """Values that cannot be compared are different, and neither is larger."""
    if isinstance(op, MEMBERSHIP) and not _may_contain(right, left):
        return isinstance(op, ast.NotIn)
    both_texts = isinstance(left, str) and isinstance(right, str)
    if isinstance(op, ORDERED) and not both_texts and not (_is_number(left) and _is_number(right)):
        return False
    return bool(COMPARISONS[type(op)](left, right))


def _may_contain(many: Any, one: Any) -> bool:
    return isinstance(many, list | tuple) or (isinstance(many, str) and isinstance(one, str))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
