"""METEOR 1.5 of tokenized captions.

Paper: Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language", 2014.
Reference: ``meteor/meteor.py`` of pycocoevalcap 1.2 (salaniz/pycocoevalcap, commit ad63453c).  The Java program is the
one that package carries, a build changed by its authors to add up a corpus's statistics, with the same options; it is
asked line by line over its standard input.

Deviation: ``|||``, which separates the fields of a line, is taken out of references as out of hypotheses; upstream lets
it split one reference into two.  (Captions that went through the PTB tokenizer never hold one.)
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

from ._java import OPTIONS, archive, failed, java

ARCHIVE = "meteor/meteor-1.5.jar"
MEMORY = "-Xmx1g"  # upstream allows 2 GB; with the table of paraphrases loaded it holds about half a gigabyte


class Meteor:
    """A running METEOR, asked through its standard input and output."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def score(self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> tuple[float, list[float]]:
        """METEOR of the corpus, and of each hypothesis against its references, all in [0, 1].

        Captions are tokens joined by single spaces, without line breaks.  The corpus's value comes from the summed
        statistics of its captions and is not the mean of theirs.
        """
        statistics = []
        for candidates, hypothesis in zip(references, hypotheses, strict=True):
            self._write("SCORE", *map(_field, candidates), _field(hypothesis))
            statistics.append(self._read())
        self._write("EVAL", *statistics)
        each = [float(self._read()) for _ in statistics]
        return float(self._read()), each

    def _write(self, *fields: str) -> None:
        self._stdin.write(" ||| ".join(fields) + "\n")
        self._stdin.flush()

    def _read(self) -> str:
        line = self._stdout.readline()
        if not line:
            raise EOFError("METEOR closed its output")
        return line.strip()


def _field(caption: str) -> str:
    return caption.replace("|||", "").replace("  ", " ")


@contextlib.contextmanager
def running_meteor() -> Iterator[Meteor]:
    """A METEOR that ends with the block; it needs some seconds to be ready, in which the caller is not held up.

    Raises ``UserError`` when Java or METEOR is missing, or ends before the block does.
    """
    path, pipe = archive(ARCHIVE), subprocess.PIPE
    command = [str(java()), MEMORY, *OPTIONS, "-jar", str(path), "-", "-", "-stdio", "-l", "en", "-norm"]
    with (
        tempfile.TemporaryFile() as stderr,  # a pipe that nobody reads would fill up and stop it
        subprocess.Popen(command, cwd=path.parent, stdin=pipe, stdout=pipe, stderr=stderr, encoding="utf-8") as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Meteor(process.stdin, process.stdout)
        except (EOFError, BrokenPipeError) as error:
            status = process.wait()
            stderr.seek(0)
            raise failed("METEOR", status, stderr.read()) from error
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # of what was not written any more
                process.stdin.close()
