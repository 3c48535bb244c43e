"""The options of a question and what was read from an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from .text import normalized

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Reading:
    """What was read from an answer.

    Attributes:
        letter: the option's letter, upper case; None if the answer states no option, or more than one.
        source: the part of the rule that read it (``tag``, ``stated`` …), or why there is no letter.
    """

    letter: str | None
    source: str


@dataclass(frozen=True)
class Options:
    """The options of a question, in order.

    Attributes:
        texts: their texts, None for an image; empty if the options are not known.  An empty text is no option, and its
            letter none.
    """

    texts: tuple[str | None, ...] = ()

    @property
    def letters(self) -> str:
        """The letters of the options, ``ABCD`` of four; all 26 if the options are not known."""
        return "".join(self.by_letter) if self.texts else LETTERS

    @cached_property
    def by_letter(self) -> dict[str, str | None]:
        """The options' texts by letter, None for an image; empty if the options are not known."""
        return {letter: text for letter, text in zip(LETTERS, self.texts, strict=False) if text != ""}

    def text(self, letter: str) -> str:
        """The normalised text of an option; empty if it is an image or not known."""
        place = LETTERS.index(letter)
        return self._normalized[place] if place < len(self.texts) else ""

    def of_text(self, text: str) -> str | None:
        """The letter of the only option with this text; None if there is none, or more than one.

        Texts are compared in their normalised form, except that a text of one letter must have the same case.
        """
        wanted = normalized(text)
        found = [LETTERS[place] for place, own in enumerate(self._normalized) if own and own == wanted]
        if len(found) != 1:
            return None
        exact = len(wanted) > 1 or not wanted.isalpha() or (self.texts[LETTERS.index(found[0])] or "").strip() in text
        return found[0] if exact else None

    @cached_property
    def unique(self) -> dict[str, str]:
        """Normalised text to letter, for the options whose text is not a Latin letter, and not another option's too."""
        return {
            own: LETTERS[place]
            for place, own in enumerate(self._normalized)
            if own and self._normalized.count(own) == 1 and not re.fullmatch("[a-z]", own)
        }

    @cached_property
    def about_letters(self) -> bool:
        """Whether an option's text has a letter as a word: then a letter in an answer can be that one ("point B")."""
        return any(re.search(r"\b[A-Za-z]\b(?!')", text or "") for text in self._texts_without_articles)

    @property
    def _texts_without_articles(self) -> tuple[str, ...]:
        return tuple(re.sub(r"^an?\s|\sa\s", " ", text or "", flags=re.I) for text in self.texts)

    @cached_property
    def _normalized(self) -> tuple[str, ...]:
        return _normalized(self.texts)


@lru_cache(maxsize=4096)
def _normalized(texts: Sequence[str | None]) -> tuple[str, ...]:
    return tuple("" if text is None else normalized(text) for text in texts)
