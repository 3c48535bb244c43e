"""Journals: every answer of a task split, a line each, appended as they arrive; written, read back, and mended.

A line is a JSON object.  Its last two fields are not compared between runs: ``sum``, the CRC-32 of the
line without them, and ``seconds``, the answer's share of its batch's time.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from evalkit.collection import collection_paused
from evalkit.errors import RunFailed, UserError
from evalkit.jobs import Record
from evalkit.jsonl import parse
from evalkit.repeats import answer_key
from evalkit.types import ImageSize, Prediction, Response

from .files import open_regular, to_json, write_atomically, write_failed
from .seen import read_seen, read_size, seen_record

SYNC_EVERY_SECONDS = 1.0
FIRST_WITH_SUMS = 2  # the run folder's schema
TAIL = re.compile(rb'([0-9a-f]{8})", "seconds": (\d+\.\d+)\}')
BEFORE_TAIL = b', "sum": "'  # cannot occur in a text: quotes inside JSON strings are escaped


# --------------------------------------------------------------------------------------------------------------- write


def record_line(record: Record) -> dict[str, Any]:
    """A journal line: the raw answer, the prediction, and how the answer was generated."""
    response = record.response
    line: dict[str, Any] = {
        "id": record.sample.id,
        "prompt": record.prompt_digest,
        "text": response.text,
        "answer": record.prediction.value,
        "finish": response.finish,
        "new_tokens": response.new_tokens,
        "prompt_tokens": response.prompt_tokens,
        "images": [image.name for image in record.images],
        "digests": list(record.digests),
        "frames": [{"original": f.original, "resized": f.resized} for f in response.image_sizes],
    }
    parts = record.parts
    if parts.rule != "none" and response.finish != "error":
        line |= {"reasoning": parts.rule, "reasoning_tokens": response.reasoning_tokens, "final": parts.answer.strip()}
    if record.videos:
        line["videos"] = [video.name for video in record.videos]
        line["video_inputs"] = [seen_record(seen) for seen in response.video_inputs]
    if record.shots:
        line["shots"] = list(record.shots)
    if record.repeat > 1:
        line["repeat"] = record.repeat
    if response.error is not None:
        line["error"] = response.error
    return line


def encode(record: Record) -> bytes:
    """A journal line with its checksum, and the line break."""
    # Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark.
    return seal(to_json(record_line(record)).encode(errors="replace"), record.response.seconds)


def seal(body: bytes, seconds: float) -> bytes:
    """A line of a JSON object: with its checksum, the seconds, and the line break."""
    tail = f'{zlib.crc32(body):08x}", "seconds": {seconds:.6f}}}\n'
    return body[:-1] + BEFORE_TAIL + tail.encode()


class Journal:
    """Appends answers; every line is flushed to the system, and synced to disk at least every second and at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_regular(path, os.O_RDWR | os.O_APPEND)
        self._size = os.fstat(self._file).st_size
        self._synced = time.monotonic()

    def append(self, record: Record) -> None:
        """Write one line.

        Raises:
            RunFailed: it cannot be written (half a line is ignored when read back), or the file was removed.
        """
        self.write(encode(record))

    def copy(self, line: Line, prediction: Prediction) -> None:
        """Write another journal's line with a new prediction.  Raises ``RunFailed`` as ``append`` does."""
        content = {key: value for key, value in parse(line.raw).items() if key not in ("sum", "seconds")}
        body = to_json({**content, "answer": prediction.value})
        self.write(seal(body.encode(errors="replace"), line.response.seconds))

    def write(self, rest: bytes) -> None:
        """Write a line that ``seal`` made.  Raises ``RunFailed`` as ``append`` does."""
        self._size += len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if time.monotonic() - self._synced > SYNC_EVERY_SECONDS:
                self.sync()
        except OSError as error:
            raise write_failed(self._path, error) from error

    def sync(self) -> None:
        """Flush to disk.  Raises ``OSError``; or ``RunFailed`` if the file was removed, replaced or truncated."""
        os.fsync(self._file)
        self._synced = time.monotonic()
        ours = os.fstat(self._file)
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            self._restore(ours.st_size)
        else:
            if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or ours.st_size < self._size:
                raise RunFailed(
                    f"{self._path} was replaced or truncated while the run was writing it: answers are missing. Run "
                    "the same command to answer them again."
                )

    def _restore(self, size: int) -> NoReturn:
        """Write a journal that was removed again: the open file still has its content."""
        content = b""
        while len(content) < size and (piece := os.pread(self._file, size - len(content), len(content))):
            content += piece
        write_atomically(self._path, content)
        raise RunFailed(
            f"{self._path} was removed while the run was writing it. The answers so far were written again; run the "
            "same command to resume."
        )

    def close(self) -> None:
        try:
            self.sync()
        except OSError as error:
            raise write_failed(self._path, error) from error
        finally:
            os.close(self._file)


@contextmanager
def appending(path: Path) -> Iterator[Journal]:
    """A journal to append to, synced and closed at the end.  Raises ``RunFailed`` when it cannot be written."""
    try:
        journal = Journal(path)
    except OSError as error:
        raise write_failed(path, error) from error
    try:
        yield journal
    except RunFailed:
        os.close(journal._file)  # it cannot be written any more
        raise
    except BaseException:
        journal.close()
        raise
    journal.close()


# ---------------------------------------------------------------------------------------------------------------- read


@dataclass(frozen=True)
class Line:
    """An answer read back from a journal; the generated tokens are not kept there.

    ``digests`` are those of its images and videos (None: unknown), ``answer`` is the prediction of that time, ``raw``
    the line itself, ``repeat`` its number among the answers to its sample.
    """

    prompt: str
    response: Response
    digests: tuple[str | None, ...]
    answer: Any
    raw: bytes
    repeat: int = 1


@dataclass(frozen=True)
class JournalAnswers:
    """A journal read back.

    Attributes:
        lines: by ``answer_key``; where a sample was answered again, the last answer.
        truncated: whether the last line was cut off while it was written, and left out.
        corrupt: (line number from 1, problem) of the lines that were left out.
        rejected: the truncated and the corrupt lines, unchanged.
    """

    lines: Mapping[str, Line]
    truncated: bool = False
    corrupt: tuple[tuple[int, str], ...] = ()
    rejected: tuple[bytes, ...] = ()

    @property
    def repeats(self) -> int:
        """The highest number of an answer to a sample; 0 without answers."""
        return max((line.repeat for line in self.lines.values()), default=0)


@collection_paused()
def read_journal(path: Path, schema: int) -> JournalAnswers:
    """The answers in a journal of a run folder of ``schema``.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        *terminated, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"the journal {path} cannot be read ({error.strerror}).") from error
    lines: dict[str, Line] = {}
    corrupt: list[tuple[int, str]] = []
    rejected: list[bytes] = []
    truncated = False
    for number, raw in enumerate([*terminated, rest], start=1):
        if not raw.strip():
            continue
        try:
            line = _read_line(raw, schema)
        except (ValueError, KeyError, TypeError) as error:
            rejected.append(raw)
            if number > len(terminated):  # only what follows the last line break can be half a line
                truncated = True
            else:
                corrupt.append((number, f"it has no {error}" if isinstance(error, KeyError) else str(error)))
        else:
            lines[answer_key(line.response.id, line.repeat)] = line
    return JournalAnswers(lines, truncated, tuple(corrupt), tuple(rejected))


def _read_line(raw: bytes, schema: int) -> Line:
    """What ``encode`` wrote.  Raises ``KeyError``, ``TypeError`` or ``ValueError`` if it is something else."""
    seconds = 0.0
    body = raw
    if schema >= FIRST_WITH_SUMS:
        head, _, tail = raw.rpartition(BEFORE_TAIL)
        body = head + b"}"
        match = TAIL.fullmatch(tail)
        if match is None or int(match[1], 16) != zlib.crc32(body):
            raise ValueError("its checksum is wrong")
        seconds = float(match[2])
    content = parse(body)
    if not isinstance(content, dict):
        raise TypeError("no JSON object")
    texts = {key: content[key] for key in ("id", "text", "prompt", "finish")}
    wrong = [key for key, value in texts.items() if not isinstance(value, str)]
    if wrong or texts["finish"] not in ("stop", "length", "error"):
        raise ValueError(f"{(wrong or ['finish'])[0]} is not what evalkit writes")
    tokens, error = content["prompt_tokens"], content.get("error")
    if type(tokens) is not int or not isinstance(error, str | None):
        raise ValueError("prompt_tokens or error is not what evalkit writes")
    repeat = content.get("repeat", 1)
    if type(repeat) is not int or repeat < 1:
        raise ValueError("repeat is not what evalkit writes")
    digests = tuple(content.get("digests", ()))
    if not all(isinstance(digest, str | None) for digest in digests):
        raise ValueError("digests is not what evalkit writes")
    image_sizes = tuple(
        ImageSize(read_size(sizes["original"]), read_size(sizes["resized"])) for sizes in content["frames"]
    )
    response = Response(
        id=texts["id"], text=texts["text"], finish=content["finish"], prompt_tokens=tokens, image_sizes=image_sizes,
        error=error, seconds=seconds, counted=_count(content.get("new_tokens")) or 0,
        reasoning_tokens=_count(content.get("reasoning_tokens")),
        video_inputs=tuple(map(read_seen, content.get("video_inputs", ()))),
    )  # fmt: skip
    return Line(texts["prompt"], response, digests, content.get("answer"), raw, repeat)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


# -------------------------------------------------------------------------------------------------------- rewrite


def rewrite_journal(path: Path, answers: JournalAnswers, drop: Collection[str]) -> None:
    """Rewrite a journal without corrupt lines and without the answers whose keys are in ``drop``.

    The lines left out go to ``<journal>.rejected``: nothing is thrown away.  A journal in which every line is good is
    not touched.

    Raises:
        RunFailed: a file cannot be written.
    """
    complete = path.read_bytes().count(b"\n")
    left_out = [*answers.rejected, *(answers.lines[key].raw for key in drop if key in answers.lines)]
    kept = [line.raw for key, line in answers.lines.items() if key not in drop]
    if not left_out and len(kept) == complete:
        return
    if left_out:
        rejected = path.with_name(f"{path.name}.rejected")
        try:
            with os.fdopen(open_regular(rejected, os.O_WRONLY | os.O_APPEND), "ab") as file:
                file.writelines(raw + b"\n" for raw in left_out)
        except OSError as error:
            raise write_failed(rejected, error) from error
    write_atomically(path, b"".join(raw + b"\n" for raw in kept))
