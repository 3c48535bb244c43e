"""The file of a judge's verdicts on a split's answers, a line each, appended as they arrive.

A line is that of a journal (``journal.py``) with more fields: ``judge`` (name and digest of its identity), ``judged``
(the digest of the answer), and ``problem`` if the reply states no verdict.  Its ``id`` is ``SAMPLE#KEY``, and its
``answer`` is the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.jsonl import parse
from evalkit.judging import AskedQuestion
from evalkit.run import ImageDigests
from evalkit.types import Response, Verdict

from .files import to_json
from .journal import Journal, JournalAnswers, Line, read_journal, rewrite_journal, seal
from .manifest import SCHEMA

EXAMPLES = 3


def verdict_line(
    judge: str, asked: AskedQuestion, response: Response, verdict: Verdict, digests: Sequence[str | None]
) -> dict[str, Any]:
    """A line without its checksum."""
    line: dict[str, Any] = {
        "id": asked.request.id,
        "judge": judge,
        "prompt": asked.prompt,
        "judged": asked.answer,
        "text": response.text,
        "answer": verdict.value,
        "finish": response.finish,
        "new_tokens": len(response.tokens),
        "prompt_tokens": response.prompt_tokens,
        "images": [image.name for image in asked.request.images],
        "digests": list(digests),
        "frames": [{"original": size.original, "resized": size.resized} for size in response.image_sizes],
    }
    if verdict.problem:
        line["problem"] = verdict.problem
    if response.error is not None:
        line["error"] = response.error
    return line


class VerdictFile:
    """The verdicts of one judge on the answers to a split, on disk.

    Args:
        journal: appends to ``path``; None to keep nothing new.
        judge: its label; None for whichever judge the file has.
        announce: prints what of the file cannot be used.
    """

    def __init__(
        self, path: Path, journal: Journal | None, judge: str | None, name: str, announce: Callable[[str], None]
    ) -> None:
        self._journal = journal
        self._judge = judge
        self._name = name
        self._announce = announce
        self._answers = read_verdicts(path)
        self._path = path
        self.new = self.resumed = 0

    def kept(self, asked: Sequence[AskedQuestion], digests: ImageDigests) -> Mapping[str, Response]:
        """The replies that are still valid: of this judge, to the same question about the same answer and images."""
        found: dict[str, Response] = {}
        reasons: Counter[str] = Counter()
        for one in asked:
            line = self._answers.lines.get(one.request.id)
            if line is None:
                continue
            why = self._outdated(line, one, digests)
            if why:
                reasons[why] += 1
            else:
                found[one.request.id] = line.response
        for why, count in reasons.items():
            verdicts = "1 verdict" if count == 1 else f"{count:,} verdicts"
            self._announce(f"{self._name}: asking again for {verdicts}: {why}")
        self.resumed += len(found)
        return found

    def _outdated(self, line: Line, asked: AskedQuestion, digests: ImageDigests) -> str:
        """Why a recorded verdict is no answer to a question; empty if it is."""
        content = parse(line.raw)
        judge = str(content.get("judge"))
        if line.response.finish == "error":
            return "the judge failed before"
        if self._judge is not None and _identity(judge) != _identity(self._judge):
            return f"they are by another judge ({judge}; now {self._judge})"
        if content.get("judged") != asked.answer:
            return "the answer changed"
        if line.prompt != asked.prompt:
            return "the judge's prompt changed"
        now = digests.of(asked.request)
        known = all(b is None or n is None or b == n for b, n in zip(line.digests, now, strict=False))
        return "" if known and len(line.digests) == len(now) else "an image changed"

    def add(self, asked: AskedQuestion, response: Response, verdict: Verdict, digests: tuple[str | None, ...]) -> None:
        """Append a line.  Raises ``RunFailed`` if it cannot be written."""
        self.new += 1
        if self._journal is not None:
            body = to_json(verdict_line(str(self._judge), asked, response, verdict, digests))
            self._journal.write(seal(body.encode(errors="replace"), response.seconds))


def read_verdicts(path: Path) -> JournalAnswers:
    """The last verdict on each question; corrupt lines are left out.  Raises ``UserError`` if it cannot be read."""
    return read_journal(path, SCHEMA) if path.is_file() else JournalAnswers({})


def replies_of(path: Path) -> dict[str, dict[str, str]]:
    """The judge's replies by sample and question; ``(PROBLEM)`` before those that state no verdict."""
    found: dict[str, dict[str, str]] = {}
    for line in read_verdicts(path).lines.values():
        sample, _, key = line.response.id.rpartition("#")
        problem = parse(line.raw).get("problem")
        text = str(line.response.error or "") if problem == "error" else line.response.text
        found.setdefault(sample, {})[key] = f"({problem}) {text}".rstrip() if problem else text
    return found


def judges_of(answers: JournalAnswers) -> list[str]:
    """The labels of the judges in a file of verdicts."""
    return list(dict.fromkeys(str(parse(line.raw).get("judge")) for line in answers.lines.values()))


def drop_other_verdicts(path: Path, judge: str, announce: Callable[[str], None], name: str) -> None:
    """Move another judge's verdicts, corrupt lines and failures to ``<file>.rejected``: nothing is thrown away.

    Raises:
        RunFailed: a file cannot be written.
    """
    answers = read_verdicts(path)
    if not path.is_file():
        return
    for number, reason in answers.corrupt[:EXAMPLES]:
        announce(f"{path}: line {number} is corrupt ({reason}); asking for its verdict again")
    others = {
        key: found
        for key, line in answers.lines.items()
        if _identity(found := str(parse(line.raw).get("judge"))) != _identity(judge)
    }
    failed = {key for key, line in answers.lines.items() if line.response.finish == "error"}
    if others:
        verdicts = "1 verdict is" if len(others) == 1 else f"{len(others):,} verdicts are"
        before = ", ".join(dict.fromkeys(others.values()))
        announce(f"{name}: {verdicts} by another judge ({before}); {judge} judges all answers anew")
    rewrite_journal(path, answers, failed | set(others))


def _identity(label: str) -> str:
    return label.rpartition("@")[2]
