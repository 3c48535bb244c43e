"""Tokens of captions, from the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1, as caption metrics use it.

Reference: ``tokenizer/ptbtokenizer.py`` of pycocoevalcap 1.2 (salaniz/pycocoevalcap, commit ad63453c; the same logic as
tylin/coco-caption, commit 3a9afb26).  The Java program is the one in that package, with the same options: lower
case, one caption per line.  Punctuation tokens are dropped afterwards.

Quirks reproduced:

- *brackets stay*: the filter looks for ``-LRB-`` and its like, which lower-casing has made ``-lrb-``.
- *context*: the tokenizer looks ahead across the line break, so that a few tokens (an abbreviation, an emoticon or
  ``'ve`` at the end of a caption) depend on the first letter of the next caption, or on its absence.  So references
  and hypotheses are separate files, as upstream; but one Java process reads both.

Deviations, each on purpose:

- *line separators*: upstream replaces only line feeds.  Carriage return, vertical tab, form feed, U+2028 and U+2029
  inside a caption start another line of output there, so that every later caption is scored against the wrong image
  and the last ones are lost.  Here they are spaces, like the line feed.  (U+0085 breaks no line and stays: upstream's
  tokenizer reads it as "...", which is dropped.)
- *count*: upstream zips lines and captions of unequal numbers; here that is an error.
- A lone surrogate, which has no UTF-8, becomes "?" and so is dropped; upstream crashes.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .java import OPTIONS, archive, environment, failed, java

VERSION = "3.4.1"
"""The release of CoreNLP whose tokenizer this is."""

ARCHIVE = f"tokenizer/stanford-corenlp-{VERSION}.jar"
MEMORY = "-Xmx512m"  # it streams

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""The dropped tokens; the comparison is case-sensitive, see above."""

SEPARATORS = str.maketrans(dict.fromkeys("\n\r\v\f\u2028\u2029", " "))
"""Characters that end a line for the tokenizer."""


def tokenize(*corpora: Sequence[str]) -> list[list[str]]:
    """The captions of each corpus as tokens joined by single spaces, in order; a caption may become empty.

    One Java process for all corpora.  Raises ``UserError`` when Java or the tokenizer is missing or fails,
    ``RuntimeError`` if the numbers of lines and captions differ.
    """
    return [[_drop_punctuation(line) for line in lines] for lines in raw_lines(*corpora)]


def raw_lines(*corpora: Sequence[str]) -> list[list[str]]:
    """The tokenizer's lines before punctuation is dropped; see ``tokenize``."""
    with tempfile.TemporaryDirectory(prefix="evalkit-ptb-") as name:
        folder = Path(name)
        for i, captions in enumerate(corpora):
            # No line feed at the end, as upstream: the tokenizer tells a last line that ends from one that breaks.
            text = "\n".join(caption.translate(SEPARATORS) for caption in captions)
            (folder / f"{i}.in").write_bytes(text.encode("utf-8", "replace"))
        # Names relative to the folder, since the list is split at white space.
        (folder / "files").write_text("".join(f"{i}.in {i}.out\n" for i in range(len(corpora))))
        _run(folder)
        return [read_lines(folder / f"{i}.out", len(captions)) for i, captions in enumerate(corpora)]


def _run(folder: Path) -> None:
    """Tokenize the files that ``files`` in ``folder`` lists as pairs of input and output."""
    program = ["-cp", str(archive(ARCHIVE)), "edu.stanford.nlp.process.PTBTokenizer"]
    options = ["-preserveLines", "-lowerCase", "-ioFileList", "files"]
    done = subprocess.run(
        [str(java()), MEMORY, *OPTIONS, *program, *options],
        cwd=folder,
        env=environment(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise failed("the PTB tokenizer", done.returncode, done.stderr)


def read_lines(path: Path, expected: int) -> list[str]:
    """The lines of an output file, exactly ``expected`` of them."""
    lines = path.read_bytes().decode().split("\n")
    # The tokenizer ends a last line that holds tokens, and does not end one that is empty.
    if len(lines) > 1 and not lines[-1] and lines[-2] and len(lines) == expected + 1:
        lines.pop()
    if len(lines) != max(expected, 1):
        raise RuntimeError(
            f"the PTB tokenizer wrote {len(lines)} lines for {expected} captions, so they cannot be assigned; "
            "a caption contains a character that it takes for a line break; please report this with the captions"
        )
    return lines[:expected]


def _drop_punctuation(line: str) -> str:
    return " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION)
