"""The part of METEOR's paraphrase table that a set of captions can match.

METEOR loads a table of five million pairs of phrases, which takes most of its start and half a gigabyte.  A pair
matters only if one of its phrases occurs in a caption to be scored, so the others are left out: the scores are the same
(``tests/metrics/test_meteor.py``).

Phrases are compared without spaces and punctuation, since METEOR tokenizes captions once more: it separates
punctuation, but neither changes nor joins words.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 10
"""Words of the longest phrase of the table."""
CHUNK = 1 << 20
"""Bytes of the compressed table that are read at a time, a quarter of what they hold."""
KEY_BITS = 24
THREADS = 2

# METEOR's Normalizer separates all other characters; the ASCII ones are punctuation.
WORD = re.compile("[0-9A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ꙾-ꚗᴀ-ᵿ]+|[^\x00-\x7f]")
_DELETED = bytes(code for code in range(128) if not chr(code).isalnum() and chr(code) != "\n")
_ENTITIES = {"&quot;": '"', "&apos;": "'", "&lt;": "<", "&gt;": ">", "&amp;": "&"}


def write_table(table: Path, captions: Iterable[str], to: Path) -> None:
    """Write the entries of the gzipped ``table`` that can match ``captions``; an entry is three lines.

    Raises:
        OSError: a file cannot be read or written, or the table is truncated.
    """
    phrases = phrases_of(captions)
    wanted = _keys_of(phrases)
    # Decompressing and NumPy leave the interpreter to other threads most of the time.
    with (
        table.open("rb") as file,
        gzip.open(to, "wb", compresslevel=1) as out,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        waiting: deque[Future[bytes]] = deque()
        for entries in _entries(file):
            waiting.append(threads.submit(_matching, entries, phrases, wanted))
            if len(waiting) > THREADS:
                out.write(waiting.popleft().result())
        for matching in waiting:
            out.write(matching.result())


def phrases_of(captions: Iterable[str]) -> set[bytes]:
    """Every phrase of the captions, without spaces and punctuation; each ends with a line feed, as in the table."""
    found = {""}
    for caption in dict.fromkeys(captions):
        plain = caption
        for entity, character in _ENTITIES.items():
            plain = plain.replace(entity, character)
        for text in {caption, plain}:
            words = WORD.findall(text.lower())
            for n in range(1, min(LONGEST, len(words)) + 1):
                found.update(map("".join, zip(*(words[i:] for i in range(n)), strict=False)))
    return {f"{phrase}\n".encode(errors="replace") for phrase in found}


def _keys_of(phrases: set[bytes]) -> NDArray[Any]:
    """Which keys the phrases have, (2 ** KEY_BITS,)."""
    import numpy as np

    joined = b"".join(phrases)
    ends = _line_ends(joined)
    wanted = np.zeros(1 << KEY_BITS, bool)
    wanted[_keys(joined, np.concatenate([[0], ends[:-1] + 1]), ends)] = True
    return wanted


def _entries(file: IO[bytes]) -> Iterator[bytes]:
    """The table of a gzipped file in blocks of complete entries."""
    # Not gzip: it decompresses 8 KB at a time, and waits for the interpreter each time.
    gunzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    rest = b""
    while read := file.read(CHUNK):
        block = rest + gunzip.decompress(read)
        size = len(block)
        for _ in range(block.count(b"\n") % 3 + 1):  # of an entry that is cut off, and of a line that is
            size = block.rfind(b"\n", 0, size)
        rest = block[size + 1 :]
        yield block[: size + 1]
    if not gunzip.eof:
        raise OSError("the table of paraphrases is truncated")


def _matching(entries: bytes, phrases: set[bytes], wanted: NDArray[Any]) -> bytes:
    """The entries that match.

    Hashes select a tenth of the entries, whose phrases are then looked up: creating a Python object for each of the ten
    million phrases would take longer than METEOR needs to load them.
    """
    import numpy as np

    squashed = entries.translate(None, _DELETED)
    # The lines of an entry: its probability, a phrase, its paraphrase.
    ends = _line_ends(squashed)
    begins, middles, stops = (ends[line::3] for line in range(3))
    likely = wanted[_keys(squashed, begins + 1, middles)] | wanted[_keys(squashed, middles + 1, stops)]
    places = np.flatnonzero(likely)
    bounds = (some[places].tolist() for some in (begins, middles, stops))
    starts = np.concatenate([[0], _line_ends(entries)[2::3] + 1])
    return b"".join(
        entries[starts[place] : starts[place + 1]]
        for place, begin, middle, stop in zip(places.tolist(), *bounds, strict=True)
        if squashed[begin + 1 : middle + 1] in phrases or squashed[middle + 1 : stop + 1] in phrases
    )


def _line_ends(text: bytes) -> NDArray[Any]:
    """The positions of the line feeds."""
    import numpy as np

    return np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")).astype(np.int32)


def _keys(text: bytes, starts: NDArray[Any], ends: NDArray[Any]) -> NDArray[Any]:
    """A hash, below 2 ** KEY_BITS, of the first and last characters and the length of each line of ``text``.

    ``ends`` are the positions of the line feeds.
    """
    import numpy as np

    characters = np.frombuffer(text, np.uint8)
    keys = (ends - starts).astype(np.uint32)
    last = np.maximum(ends - 1, starts), np.maximum(ends - 2, starts)
    for places in (starts, np.minimum(starts + 1, ends), np.minimum(starts + 2, ends), *last):
        keys *= np.uint32(131)
        keys += characters[places]
    keys *= np.uint32(2654435761)  # Knuth's multiplicative hash
    return np.asarray(keys >> np.uint32(32 - KEY_BITS))
