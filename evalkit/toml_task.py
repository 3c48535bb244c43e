"""Tasks in TOML: ``--tasks ./mine.toml`` describes a task whose rows are in a table of any of the usual forms.

    kind = "vqa"
    rows = "questions.csv"
    columns = { image = "file", question = "text", answers = "gold" }

``evalkit.description`` has all keys, ``docs/your-tasks.md`` explains them.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

from evalkit.described_task import DescribedTask
from evalkit.description import read_description
from evalkit.errors import UserError
from evalkit.jsonl import BOM, read_bytes
from evalkit.paths import user_path
from evalkit.stated import Stated
from evalkit.toml_lines import KeyPath, TomlLines
from evalkit.types import Kind

LARGEST = 16 << 20
"""Bytes of a TOML file."""
_POSITION = re.compile(r"\s*\(at (?:line (?P<line>\d+), column \d+|end of document)\)\Z")


def read_toml_task(path: Path, kind: str | None = None) -> DescribedTask:
    """The task in ``path``; ``kind`` is the value of ``--kind``.

    Raises:
        UserError: the file is missing, is no valid TOML, or does not describe a task; the message has the line.
    """
    path = user_path(str(path), "--tasks").absolute()
    description = read_description(_stated(path), kind)
    if description.rows is None:
        description.stated.missing("rows", 'where the rows are, such as rows = "questions.csv"')
    if description.kind is None:
        description.stated.missing("kind", f"one of {', '.join(get_args(Kind))}")
    return DescribedTask(path, description, description.kind)


def _stated(path: Path) -> Stated:
    content = read_bytes(path, "--tasks")
    if len(content) > LARGEST:
        raise UserError(f"{path}: it has more than {LARGEST >> 20} MB; put the rows into a file of their own.")
    try:
        text = content.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: it is not a text in UTF-8 ({error.reason}); convert it.") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        position = _POSITION.search(reason)
        where = str(path)
        if position:  # without a number it is the end of the file
            where += f", line {position['line'] or max(1, len(text.splitlines()))}"
        shown = _POSITION.sub("", reason)
        raise UserError(f"{where}: it is not valid TOML: {shown[:1].lower()}{shown[1:]}.") from error
    lines = TomlLines(text)

    def place(key: KeyPath) -> str:
        line = lines.of(key)
        return str(path) if line is None else f"{path}, line {line}"

    return Stated(values, place)
