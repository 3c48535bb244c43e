"""The fenced code blocks of a page, how they are run, and how their output is compared.

- ``bash``: run, in order, in one folder for the page; every command must succeed.
- ``console``: run line by line where a line begins with ``$ ``. The block shows the complete output, which
  ``docs/examples.py --update`` writes. A command may fail.
- ``python``: run as a program in the same folder.
- ``toml``, ``json``, ``jsonl``: parsed.

A block after ``<!-- not run: REASON -->`` or ``<!-- part of: PATH -->`` is not run: its options are checked and its
Python is compiled. After ``<!-- file: NAME -->`` a block of any language is written to the page's
folder under that name.
"""

from __future__ import annotations

import difflib
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
    """A fenced block.

    Attributes:
        start: Where the block's text begins in the page, in characters.
        indent: The spaces before each of its lines in the page.
        reason: Why it is not run; empty if it is.
        file: The file name it is written to; empty if none.
    """

    page: str
    line: int
    start: int
    indent: str
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


@dataclass(frozen=True)
class Step:
    """A command of a console block: its lines as typed, and the output shown below them."""

    typed: str
    output: str

    @property
    def command(self) -> str:
        """The command on one line."""
        return re.sub(r" *\\\n\s*", " ", self.typed)


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        mark = MARK.search(text[: fence.start()])
        marks = {} if mark is None else {"file" if mark["mark"] == "file" else "reason": mark["what"]}
        line = text.count("\n", 0, fence.start()) + 1
        indent = fence["indent"]
        body = "".join(row.removeprefix(indent) for row in fence["text"].splitlines(keepends=True))
        found.append(Block(path.name, line, fence.start("text"), indent, fence["language"], body, **marks))
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block."""
    found = []
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        typed, _, output = part.partition("\n")
        while typed.endswith("\\"):
            more, _, output = output.partition("\n")
            typed = f"{typed}\n{more}"
        found.append(Step(typed, output.strip("\n")))
    return found


def console(found: list[Step]) -> str:
    """The text of a console block with these steps; an empty line follows output of several lines."""
    text = ""
    for step in found:
        text += f"$ {step.typed}\n" + (f"{step.output}\n" if step.output else "")
        text += "\n" if "\n" in step.output and step is not found[-1] else ""
    return text


# Applied in order. The first group hides what differs between two runs on one machine, both what differs anywhere.
VOLATILE = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\b[0-9a-f]{8,}\b", "HASH"),
    (r"\d[\d,.]*(?: ?(?:ms|s|min|h)\b| (?:samples|tokens)/s| [kMG]i?B\b)", "TIME"),
    (r"(?:TIME )+TIME", "TIME"),
)
NUMBERS = (
    (r"\[\d+\.\d, \d+\.\d\]|± \d+\.\d+", "±"),  # an interval is written one way or the other
    (r"\d[\d,.]*", "#"),
    (r"[─━]+", "─"),
)


def _masked(text: str, patterns: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def same(shown: str, printed: str) -> bool:
    """Whether two outputs are equal except for times, sizes and hashes."""
    return _masked(shown, VOLATILE) == _masked(printed, VOLATILE)


def difference(shown: str, printed: str) -> str:
    """How the printed output differs from the one shown on the page, as a diff.

    Numbers, times, hashes and line breaks are ignored; empty if nothing else differs.
    """
    here, there = (_masked(text, VOLATILE + NUMBERS) for text in (shown, printed))
    if here.split() == there.split():
        return ""
    return "\n".join(difflib.unified_diff(here.splitlines(), there.splitlines(), "shown", "printed", lineterm=""))


def calls(block: Block) -> Iterator[list[str]]:
    """The arguments of each ``evalkit`` command in a block."""
    script = "\n".join(step.command for step in steps(block)) if block.language == "console" else block.text
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
