"""Pages of text as OCRBench v2 scores them: BLEU, METEOR, an F-measure of words and an edit distance.

Source: ``OCRBench_v2/eval_scripts/page_ocr_metric.py`` of Yuliang-Liu/MultimodalOCR (commit 794c36d6), which calls NLTK
and jieba; so does this, except for the edit distance (rapidfuzz) and WordNet (``wordnet.py``).
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from .wordnet import wordnet

_CHINESE = re.compile("[\u4e00-\u9fa5]")


def similarity(predicted: str, right: str) -> float:
    """The mean of BLEU, METEOR, the F-measure and 1 − the normalised edit distance, in [0, 1].

    Where one of the texts has a Chinese character, words are jieba's; otherwise they are between blanks.  BLEU is not
    smoothed, so that it is 0 up to rounding where no four words are right in a row.
    """
    from nltk.translate.bleu_score import sentence_bleu
    from nltk.translate.meteor_score import meteor_score
    from rapidfuzz.distance import Levenshtein

    chinese = _CHINESE.search(right) or _CHINESE.search(predicted)
    reference, hypothesis = (_chinese_words(text) if chinese else text.split() for text in (right, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK's, on n-grams without a match
        bleu = float(sentence_bleu([reference], hypothesis))
    meteor = float(meteor_score([reference], hypothesis, wordnet=wordnet()))
    distance = float(Levenshtein.distance(predicted, right) / max(len(predicted), len(right), 1))
    return (bleu + meteor + _f_measure(set(reference), set(hypothesis)) + 1 - distance) / 4


def _f_measure(right: set[str], found: set[str]) -> float:
    """The harmonic mean of precision and recall of a set of words; 0 if one is empty."""
    shared = len(right & found)
    return 1.0 / (0.5 / (shared / len(found)) + 0.5 / (shared / len(right))) if shared else 0.0


def _chinese_words(text: str) -> Sequence[str]:
    """The words of a text, as jieba segments it."""
    words: list[str] = _segmenter().lcut(text)
    return words


@cache
def _segmenter() -> Any:
    """jieba's segmenter, with its dictionary loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its regular expressions
        import jieba

    jieba.setLogLevel("ERROR")
    segmenter = jieba.Tokenizer()
    with tempfile.TemporaryDirectory() as folder:  # it would load a cache of anyone's from the common one
        segmenter.tmp_dir = folder
        segmenter.initialize()
    return segmenter
