"""METEOR 1.5 of tokenized captions.

Paper: Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language", 2014.
Reference: ``meteor/meteor.py`` of pycocoevalcap 1.2 (salaniz/pycocoevalcap, commit ad63453c).  The Java program is the
one in that package, a build that its authors changed to add up a corpus's statistics, with the same options.  It
reads a line per caption from its standard input and loads only the paraphrases that the captions can match
(``text.paraphrases``).

The program prints 23 counts per caption, and computes scores from those of one caption or from the sums of the corpus.
The formula is written out here too, with the paper's parameters for English, so that a resampled corpus needs no Java:
it takes seven sums, and gives what the program prints.  One quirk of the program is kept: a caption that is matched
completely in one chunk adds no chunk to the corpus.

Deviation: ``|||``, which separates the fields of a line, is removed from references too, not only from hypotheses;
upstream it splits a reference into two.  (Captions that went through the PTB tokenizer never contain one.)
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from .java import OPTIONS, archive, environment, failed, java
from .paraphrases import write_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARCHIVE = "meteor/meteor-1.5.jar"
TABLE = "meteor/data/paraphrase-en.gz"
MEMORY = "-Xmx1g"  # upstream allows 2 GB; with every paraphrase it needs about half a gigabyte
PAUSE = 0.01
"""Seconds between two looks at what the program has printed."""

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = (1.0, 0.6, 0.8, 0.6)  # of matches that are exact, by stem, by synonym, by paraphrase

Statistics = tuple[float, float, float, float, float, float, float]
"""The statistics METEOR is computed from, summed for a corpus: weighted matches and weighted length of the hypothesis,
both of the reference, matched words of both, chunks."""


class Scored(NamedTuple):
    """METEOR of a corpus and of each caption (in [0, 1]), and each caption's statistics."""

    corpus: float
    each: list[float]
    statistics: list[Statistics]


class Meteor:
    """A running METEOR: what it reads is written to a pipe at once, and what it prints is read from a file.

    With a pipe in both directions it would wait for this process, which computes the other metrics meanwhile and would
    have to interrupt them for every caption.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self._begun = b""

    def score(self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Scored:
        """METEOR of the corpus, and of each hypothesis against its references.

        Captions are tokens joined by single spaces, without line breaks.  The corpus's value comes from the summed
        statistics of its captions and is not the mean of theirs.
        """
        self._write(
            _line("SCORE", *map(_field, candidates), _field(hypothesis))
            for candidates, hypothesis in zip(references, hypotheses, strict=True)
        )
        counts = list(islice(self._lines(), len(hypotheses)))
        self._write([_line("EVAL", *counts)])
        *each, corpus = map(float, islice(self._lines(), len(counts) + 1))
        return Scored(corpus, each, [statistics_of(line) for line in counts])

    def _write(self, lines: Iterable[str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(lines).encode())
        self._process.stdin.flush()

    def _lines(self) -> Iterator[str]:
        """What it prints next; what is not taken of a block is lost, so that replies must be read completely."""
        while True:
            ended = self._process.poll() is not None  # asked before reading: it may print and end in between
            if read := self._output.read():
                *lines, self._begun = (self._begun + read).split(b"\n")
                yield from (line.decode().strip() for line in lines)
            elif ended:
                raise EOFError("METEOR closed its output")
            else:
                time.sleep(PAUSE)


def _line(*fields: str) -> str:
    return " ||| ".join(fields) + "\n"


def _field(caption: str) -> str:
    return caption.replace("|||", "").replace("  ", " ")


def statistics_of(line: str) -> Statistics:
    """The statistics in the program's line for a caption.

    Its counts, in pairs of hypothesis and reference: words; function words; for each kind of match, content words and
    function words that are matched.  Then chunks, and as a pair again the words that are matched.
    """
    counts = [float(count) for count in line.split()]
    (words, expected, functions, expected_functions), matched = counts[:4], counts[4:20]
    chunks, found, covered = counts[20:]
    complete = found == words and covered == expected and chunks == 1
    return (
        _weighted(matched[0::4], matched[2::4]),
        DELTA * (words - functions) + (1 - DELTA) * functions,
        _weighted(matched[1::4], matched[3::4]),
        DELTA * (expected - expected_functions) + (1 - DELTA) * expected_functions,
        found,
        covered,
        0.0 if complete else chunks,
    )


def _weighted(content: Sequence[float], functions: Sequence[float]) -> float:
    """Matches by kind, for content and function words, as one number."""
    return sum(w * (DELTA * c + (1 - DELTA) * f) for w, c, f in zip(WEIGHTS, content, functions, strict=True))


def meteor_of_sums(sums: NDArray[Any]) -> NDArray[Any]:
    """METEOR in [0, 1], (draws,), of summed ``Statistics``, (draws, 7); 0 if nothing is matched."""
    import numpy as np

    matched, length, expected_matched, expected, found, covered, chunks = sums.T
    # Without matches or tokens some quotients are 0 / 0; the score is 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = matched / length, expected_matched / expected
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        penalty = GAMMA * (chunks / ((found + covered) / 2)) ** BETA
        values = mean * (1 - penalty)
    return np.where((matched > 0) & (expected_matched > 0), values, 0.0)


@contextlib.contextmanager
def meteor(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Iterator[Callable[[], Scored]]:
    """METEOR of tokenized captions (see ``Meteor.score``), computed by its program while the block runs.

    The paraphrases are selected before: beside other work of this process both would wait for each other.

    Returns:
        What waits for the scores.

    Raises:
        UserError: Java or METEOR is missing or fails.
        OSError: there is no space for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="evalkit-meteor-") as folder:
        table = Path(folder) / "paraphrases.gz"
        write_table(archive(TABLE), hypotheses, table)
        with running_meteor(table) as program, ThreadPoolExecutor(1) as thread:
            yield thread.submit(program.score, references, hypotheses).result


@contextlib.contextmanager
def running_meteor(table: Path | None = None, modules: str = "") -> Iterator[Meteor]:
    """A running METEOR that is stopped at the end of the block; it loads its tables in the background.

    Args:
        table: gzipped paraphrases; None for all, which take some seconds to load.
        modules: the kinds of matches to look for (``exact stem``); empty for all.

    Raises:
        UserError: Java or METEOR is missing, or ends before the block does.
    """
    path = archive(ARCHIVE)
    command = [str(java()), MEMORY, *OPTIONS, "-jar", str(path), "-", "-", "-stdio", "-l", "en", "-norm"]
    # Named in any case: METEOR does not find its own table below a folder with a blank in its name.
    command += ["-a", str(table or archive(TABLE)), *(["-m", modules] if modules else [])]
    with (
        tempfile.TemporaryFile() as stderr,  # a pipe that nobody reads would fill up and stop it
        tempfile.NamedTemporaryFile(prefix="evalkit-meteor-") as stdout,
        Path(stdout.name).open("rb") as printed,  # opened again: reading must not move where the program writes
        subprocess.Popen(
            command, cwd=path.parent, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, env=environment()
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield Meteor(process, printed)
        except (EOFError, BrokenPipeError) as error:
            status = process.wait()
            stderr.seek(0)
            raise failed("METEOR", status, stderr.read()) from error
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # there may be unwritten lines
                process.stdin.close()
