"""Commands on files that were changed at random: each ends in time, without a traceback, and no score changes silently.

A command may refuse a changed file (exit code 1 or 2, with a sentence).  If it succeeds, its output is the one from
before, or the change belongs to a class of ``accepted``.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest

from ..mutations import Mutation

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

QUICK, SLOW = 300, 5000
"""About as many files are changed in all targets together, by default and with ``--slow``; shares are of the latter."""
LONGEST_SECONDS = 60.0
SHOWN = 3
"""Failures that a failing test shows."""

BOTH = pytest.mark.parametrize("total", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
"""Runs a test with the number of changes by default, and with that of ``--slow``."""


@dataclass(frozen=True)
class Case:
    """One command that has ended.

    Attributes:
        made: the folder with the unchanged files; ``folder`` is the copy that the command ran in.
        content: of the changed file.
    """

    target: Target
    made: Path
    folder: Path
    command: Sequence[str]
    content: bytes
    done: subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Target:
    """A file that is changed, and the commands that read it.

    Attributes:
        commands: they take turns; each may be several commands, one after the other.
        share: how many of 5,000 changes are of this file.
        check: asserts what holds after a command that succeeded.
    """

    file: str
    mutation: Mutation
    commands: Sequence[Sequence[str]]
    share: int
    check: Callable[[Case], object]

    def count(self, total: int) -> int:
        """How many of ``total`` changes are of this file; at least one for each command."""
        return max(len(self.commands), share_of(self.share, total))


def share_of(share: int, total: int) -> int:
    """How many changes of ``total`` a file gets that has ``share`` of 5,000; at least one."""
    return max(1, share * total // SLOW)


class Hang(BaseException):
    """A command did not end in time; no ``except Exception`` takes it for an error of its own."""


@contextmanager
def limited(seconds: float = LONGEST_SECONDS) -> Iterator[None]:
    """Raise ``Hang`` in the main thread after so many seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not finished after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def called(evalkit: Evalkit, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The ended command, which took its time, had no traceback, and said why it failed."""
    with limited():
        done = evalkit(*command, cwd=cwd, **environment)  # what escapes it, as a traceback would, fails the test
    assert done.returncode in (0, 1, 2), f"exit code {done.returncode}: {done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    assert done.returncode == 0 or done.stderr or done.stdout, "no sentence"
    return done


class Failures:
    """Collects failures of a test, which go on, and shows some in the end."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def collecting(self, label: str, folder: Path) -> Iterator[list[subprocess.CompletedProcess[str]]]:
        """Collect what is raised; the caller puts the commands that ended into the list.  Keeps a copy of ``folder``."""
        done: list[subprocess.CompletedProcess[str]] = []
        try:
            yield done
        except (Exception, Hang):
            said = "".join(f"\nexit code {one.returncode}\n{one.stdout[-2000:]}\n{one.stderr[-2000:]}" for one in done)
            kept = folder.with_name(f"failed-{len(self.found)}")
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            self.found.append(f"{label}\n{traceback.format_exc(limit=-12)[-4000:]}{said}\n{kept}")

    def show(self) -> None:
        """Fail if anything was collected."""
        assert not self.found, f"{len(self.found)} failures\n" + "\n\n".join(self.found[:SHOWN])


def fuzz(evalkit: Evalkit, made: Path, folder: Path, name: str, target: Target, total: int) -> int:
    """Change the file of ``target`` again and again in a copy of ``made``; returns how many commands succeeded."""
    whole = (made / target.file).read_bytes()
    random = Random(name)
    failures = Failures()
    succeeded = 0
    for number in range(target.count(total)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        content = target.mutation(whole, random)
        (folder / target.file).write_bytes(content)
        command = target.commands[number % len(target.commands)]
        with failures.collecting(f"{name} {number}: {' '.join(command)}", folder) as ended:
            done = called(evalkit, *command, cwd=folder)
            ended.append(done)
            if done.returncode == 0:
                succeeded += 1
                target.check(Case(target, made, folder, command, content, done))
    failures.show()
    return succeeded


# ---------------------------------------------------------------------------------------------------------- outputs


def scores_of(run: Path) -> dict[str, tuple[Any, ...]]:
    """By task and split, what a run's scores.json says: value, samples, unparsed and failed ones.

    The run's leaderboard has the same.
    """
    rows = json.loads((run / "scores.json").read_text())["results"]
    found = {f"{row['task']}/{row['split']}": (row["value"], row["n"], row["unparsed"], row["errors"]) for row in rows}
    with (run / "leaderboard.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            value, n, *_ = found[f"{row['task']}/{row['split']}"]
            assert (float(row["value"]), int(row["n"])) == (pytest.approx(value), n), "the leaderboard says otherwise"
    return found


def digests_of(run: Path) -> dict[str, str]:
    """By task and split, the recorded digest of the questions and references."""
    rows = json.loads((run / "scores.json").read_text())["results"]
    return {f"{row['task']}/{row['split']}": row["annotations"] for row in rows}
