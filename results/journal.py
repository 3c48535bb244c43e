"""Journals read back: every answer of a task split with what it takes to read and score it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import parse
from evalkit.types import Frame, Response


@dataclass(frozen=True)
class Line:
    """An answer read back from a journal; the generated tokens are not kept there."""

    prompt: str
    response: Response


@dataclass(frozen=True)
class Answers:
    """A journal read back.

    Attributes:
        lines: by sample id; where a sample was answered again, the last answer.
        torn: the last line had been cut off in mid-write, and was left out.
    """

    lines: Mapping[str, Line]
    torn: bool


def read_journal(path: Path) -> Answers:
    """The answers in a journal.

    Raises:
        UserError: the file is missing, or a line other than a torn last one is damaged.
    """
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"the journal {path} cannot be read ({error.strerror}).") from error
    lines: dict[str, Line] = {}
    torn = False
    for number, raw in enumerate([*whole, rest], start=1):
        if not raw.strip():
            continue
        try:
            line = _journal_line(parse(raw))
        except (ValueError, KeyError, TypeError) as error:
            torn = number > len(whole)  # only what follows the last line break can be half a line
            if not torn:
                reason = f"it has no {error}" if isinstance(error, KeyError) else error
                raise UserError(
                    f"{path}, line {number} is damaged ({reason}); restore it, or run the evaluation again."
                ) from error
        else:
            lines[line.response.id] = line
    return Answers(lines, torn)


def _journal_line(content: Any) -> Line:
    """What ``record_line`` wrote.  Raises ``KeyError``, ``TypeError`` or ``ValueError`` if it is something else."""
    if not isinstance(content, dict):
        raise TypeError("no JSON object")
    texts = {key: content[key] for key in ("id", "text", "prompt", "finish")}
    wrong = [key for key, value in texts.items() if not isinstance(value, str)]
    if wrong or texts["finish"] not in ("stop", "length", "error"):
        raise ValueError(f"{(wrong or ['finish'])[0]} is not what evalkit writes")
    frames = tuple(Frame(_size(frame["original"]), _size(frame["resized"])) for frame in content["frames"])
    return Line(
        texts["prompt"],
        Response(
            id=texts["id"], text=texts["text"], finish=content["finish"], prompt_tokens=content["prompt_tokens"],
            frames=frames, error=content.get("error"),
        ),
    )  # fmt: skip


def _size(value: Any) -> tuple[int, int]:
    width, height = value
    if type(width) is not int or type(height) is not int or min(width, height) < 1:
        raise ValueError(f"{value!r} is no picture's size")
    return width, height
