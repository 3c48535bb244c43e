"""Transcripts, documents, tables and formulas as CC-OCR scores them; all scores are at most 1.

Source: ``ocr_evaluator.py`` and ``doc_parsing_evaluator.py`` in ``Benchmarks/CC-OCR/evaluation/evaluator`` of
AlibabaResearch/AdvancedLiterateMachinery (commit fb6187e); VLMEvalKit (commit e8e78f05) has an earlier version of the
second.
"""

from __future__ import annotations

import re
from collections import Counter

from rapidfuzz.distance import Levenshtein

from .trees import teds

TINY = 1e-9
"""What the script adds to divisors."""

_PREAMBLE = (
    re.compile(r"\\documentclass\{.*?\}"),
    re.compile(r"\\usepackage\[.*?\]\{.*?\}"),
    re.compile(r"\\usepackage\{.*?\}"),
    re.compile(r"\\geometry\{.*?\}"),
    re.compile(r"\\begin\{document\}"),
    re.compile(r"\\end\{document\}"),
    re.compile(r"\\noindent"),
)
"""What is removed from a document, in this order."""
_BEGIN, _END = "<table", "</table>"
_OPENING = re.compile(r"<table[^>\n]*+>")
_BETWEEN_TAGS = re.compile(r">\s+<")
_CONTENT = re.compile(">(.*?)<", re.DOTALL)
_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


def token_f1(predicted: str, right: str, *, words: bool, alphanumeric: bool) -> float:
    """F1 of the words, or else the characters, in lower case, each as often as it occurs.

    Args:
        alphanumeric: whether only the letters and digits of ASCII count.
    """
    first, second = (Counter(_tokens(text, words, alphanumeric)) for text in (predicted, right))
    shared = (first & second).total()
    recall, precision = shared / (second.total() + TINY), shared / (first.total() + TINY)
    return 2 * recall * precision / (recall + precision + TINY)


def _tokens(text: str, words: bool, alphanumeric: bool) -> list[str]:
    text = re.sub(r"\s+", " ", text.strip().replace("###", "").replace("***", ""))
    tokens = [token.lower() for token in (text.split(" ") if words else text.replace(" ", ""))]
    if alphanumeric:
        tokens = [re.sub("[^A-Za-z0-9]+", "", token) for token in tokens]
    return [token for token in tokens if token]


def _similarity(predicted: str, right: str) -> float:
    """1 − the normalised edit distance."""
    longest = max(len(predicted), len(right))
    return 1.0 - Levenshtein.distance(predicted, right) / longest if longest else 0.0


def _compact(text: str) -> str:
    return text.replace(" ", "").replace("\n", "")


def _fenced(text: str, language: str) -> str:
    """The first code block of a language, closed or not; ``text`` if there is none."""
    mark = f"```{language}"
    closed = re.search(f"{mark}(.+?)```", text, re.DOTALL)
    return closed[1] if closed else text.split(mark)[1] if mark in text else text


def document(predicted: str, right: str) -> float:
    """The similarity of LaTeX documents without their preamble, blanks and line ends."""
    return _similarity(_compact(_fenced(_without_preamble(predicted), "latex")), _compact(right))


def document_earlier(predicted: str, right: str) -> float:
    """As ``document``, of the text behind the first fence; the word ``latex`` behind it stays (VLMEvalKit)."""
    parts = _without_preamble(predicted).split("```")
    return _similarity(_compact(parts[1] if len(parts) > 1 else parts[0]), _compact(right))


def _without_preamble(text: str) -> str:
    for pattern in _PREAMBLE:
        text = pattern.sub("", text)
    return text


def table(predicted: str, right: str) -> float:
    """TEDS of the tables, without attributes of ``<table>``, blanks and full-width characters in cells."""
    return teds(_document(_tables(_fenced(predicted, "html"))), _document(_tables(right)))


def _tables(text: str) -> str:
    """The tables in a text, one behind the other."""
    text = text if _END in text else f"{text}{_END}"
    found, place = "", 0
    while (begin := text.find(_BEGIN, place)) >= 0:
        opened = text.find(">", begin + len(_BEGIN))
        end = text.find(_END, opened + 1) if opened >= 0 else -1
        if end < 0:
            break
        place = end + len(_END)
        found += _cleaned(text[begin:place])
    return found.translate(_FULL_WIDTH)


def _cleaned(text: str) -> str:
    text = _BETWEEN_TAGS.sub("><", _OPENING.sub("<table>", text))
    return _CONTENT.sub(lambda match: f">{_compact(match[1])}<", text).replace("\n", "").strip()


def _document(table: str) -> str:
    return f"<html><body>{table}</body></html>"


def table_earlier(predicted: str, right: str) -> float:
    """TEDS of the tables without any blanks, also those before attributes (VLMEvalKit)."""
    parts = _without_preamble(predicted).split("```html")
    predicted = _compact((parts[1] if len(parts) > 1 else parts[0]).replace("```", "")).replace("，", ",")
    return teds(_document(predicted), _document(_compact(right)))


def formula(predicted: str, right: str) -> float:
    """The similarity of formulas in LaTeX without code fences and blanks."""
    predicted = predicted.replace("\n", " ")  # so that a fence and "latex" below it are not one mark
    for mark in ("```latex", "```", "\t", " "):
        predicted = predicted.replace(mark, "")
    return _similarity(predicted, right.replace(" ", ""))


def molecule(predicted: str, right: str) -> float:
    """The similarity of molecules in SMILES without blanks."""
    for mark in ("\n", " ", "<smiles>", "</smiles>"):
        predicted = predicted.replace(mark, "")
    return _similarity(predicted, right.replace(" ", ""))
