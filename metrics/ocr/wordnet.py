"""Synonyms of English words from WordNet 3.0, as NLTK's METEOR looks them up (``nltk.corpus.wordnet``).

``wordnet-3.0.gz`` has what that needs of the database, and its licence; ``tools/wordnet.py`` wrote it.

Deviation: multi-word entries (``new_york``) are left out; NLTK finds them by a token with underscores, and by
``comics`` and ``bases-on-balls``.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("wordnet-3.0.gz")

ENDINGS: Mapping[str, Sequence[tuple[str, str]]] = {
    "n": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ),
    "v": (
        ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""),
    ),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip
"""Endings of inflected forms and what they become, by part of speech: WordNet's rules of detachment (morphy)."""


@dataclass(frozen=True)
class Lemma:
    """A word of a synset, in the interface of NLTK's."""

    spelling: str

    def name(self) -> str:
        return self.spelling


@dataclass(frozen=True)
class Synset:
    """Words with one meaning, in the interface of NLTK's."""

    words: Sequence[str]

    def lemmas(self) -> list[Lemma]:
        return list(map(Lemma, self.words))


class WordNet:
    """WordNet's synsets of single words.

    Attributes:
        entries: of each part of speech, the words of each synset, by word in lower case.
        exceptions: of each part of speech, the words that an inflected form can be a form of.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.entries: dict[str, dict[str, list[list[str]]]] = {part: {} for part in ENDINGS}
        self.exceptions: dict[str, dict[str, list[str]]] = {part: {} for part in ENDINGS}
        for line in lines:
            if line.startswith("#"):
                continue
            part, *words = line.split()
            if part.startswith("-"):
                self.exceptions[part[1:]][words[0]] = words[1:]
                continue
            for word in {word.lower() for word in words}:
                self.entries[part].setdefault(word, []).append(words)

    def synsets(self, word: str) -> list[Synset]:
        """The synsets that have ``word`` or what it can be a form of."""
        word = word.lower()
        found: list[list[str]] = []
        for part, endings in ENDINGS.items():
            bases = self.exceptions[part].get(word)
            if bases is None:
                bases = [word[: -len(ending)] + base for ending, base in endings if word.endswith(ending)]
            for form in dict.fromkeys([word, *bases]):
                found += self.entries[part].get(form, ())
        return list(map(Synset, found))


@cache
def wordnet() -> WordNet:
    """The database."""
    with gzip.open(FILE, "rt", encoding="ascii") as file:
        return WordNet(iter(file))
