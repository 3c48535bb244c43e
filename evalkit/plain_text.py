"""Texts from models, data and servers, for output that interprets control characters."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """``text`` without terminal control characters: a replacement character stands for each but line breaks.

    Lone surrogates, and characters that change the writing direction, are replaced too.
    """
    if text.isprintable() or text == "\n":
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if c != "\n" and _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Cs"):
        return True
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
