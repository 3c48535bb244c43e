"""Write ``metrics/ocr/wordnet-3.0.gz`` from the database files of WordNet 3.0 (the folder ``dict``).

    python tools/wordnet.py dict metrics/ocr/wordnet-3.0.gz

The file has WordNet's licence, the synsets that have single words, each with its part of speech (``n``, ``v``, ``a``,
``r``) and those words as WordNet spells them, and the exceptions to the rules of inflection.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


def synsets(folder: Path) -> Iterator[str]:
    """A line per synset: its part of speech and its single words."""
    for part, name in PARTS.items():
        for line in (folder / f"data.{name}").read_text("ascii").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields = line.split(" ")
            words = [fields[4 + 2 * place].partition("(")[0] for place in range(int(fields[3], 16))]
            single = [word for word in words if "_" not in word]
            if single:
                yield " ".join([part, *single])


def exceptions(folder: Path) -> Iterator[str]:
    """A line per inflected form: ``-``, its part of speech, the form and the single words it can be a form of."""
    for part, name in PARTS.items():
        for line in (folder / f"{name}.exc").read_text("ascii").splitlines():
            form, *words = line.split()
            if "_" not in form:
                yield " ".join(["-" + part, form, *(word for word in words if "_" not in word)])


def main(source: str, target: str) -> None:
    folder = Path(source)
    licence = [f"# {line.strip()}".rstrip() for line in (folder / "LICENSE").read_text("ascii").splitlines()]
    lines = [*licence, *synsets(folder), *exceptions(folder)]
    with gzip.GzipFile(target, "wb", compresslevel=9, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode("ascii"))


if __name__ == "__main__":
    main(*sys.argv[1:])
