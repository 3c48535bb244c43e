"""The fenced blocks of a page, and whether a block is run.

- ``bash``: run, in order, in one folder for the page; every command must succeed.
- ``console``: run line by line where a line begins with ``$ ``; what follows must be in the output, numbers aside, a
  line ``…`` standing for anything; a command may fail.
- ``python``: run as a program in the same folder.
- ``toml``, ``json``, ``jsonl``: parsed.

A block after ``<!-- not run: REASON -->``, or ``<!-- part of: PATH -->``, is not run: its options are looked at, its
Python is compiled.  After ``<!-- file: NAME -->`` a block of any sort is written to the page's folder under that name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
MARK = re.compile(r"<!-- (?P<mark>not run|file|part of): (?P<what>[^>]+?) -->\s*\Z")
RUN = ("bash", "console", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block.  ``reason``: why it is not run; ``file``: the name it is written under."""

    page: str
    line: int
    language: str
    text: str
    reason: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}, line {self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in RUN and not self.reason and not self.file


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        mark = MARK.search(text[: fence.start()])
        given = {} if mark is None else {"file" if mark["mark"] == "file" else "reason": mark["what"]}
        line = text.count("\n", 0, fence.start()) + 1
        body = "".join(row.removeprefix(fence["indent"]) for row in fence["text"].splitlines(keepends=True))
        found.append(Block(path.name, line, fence["language"], body, **given))
    return found


def steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the pieces of output that are shown."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command = f"{command[:-1]} {more.strip()}"
        yield command, [piece for piece in re.split(r"^ *…$", shown, flags=re.M) if piece.strip()]


def plain(text: str) -> str:
    """Text as it is compared: numbers, intervals, line breaks and rules aside."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\[\d+\.\d, \d+\.\d\]|± \d+\.\d+", "±", text)  # an interval, either way
    text = re.sub(r"\d[\d,.]*", "#", text)
    return " ".join(re.sub(r"[─━]+", "─", text).split())


def calls(block: Block) -> Iterator[list[str]]:
    """The arguments of each ``evalkit`` command in a block."""
    script = "\n".join(command for command, _ in steps(block)) if block.language == "console" else block.text
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        words.whitespace_split = True
        command: list[str] | None = None
        for word in words:
            if set(word) <= set("();<>|&"):
                if command is not None:
                    yield command
                command = None
            elif command is not None:
                command.append(word)
            elif word == "evalkit" or word.endswith("/evalkit"):
                command = []
        if command is not None:
            yield command
