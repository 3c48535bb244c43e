"""BLEU, CIDEr-D and ROUGE-L of tokenized captions.

Source: the classes ``Bleu``, ``Cider`` and ``Rouge`` of pycocoevalcap 1.2 (salaniz/pycocoevalcap, commit ad63453c).
The results are exactly theirs, since every sum has the same terms in the same order; n-grams are counted once
for BLEU and CIDEr, and only those that two captions share are compared.

Captions are tokens joined by single spaces.  Everything takes ``references`` and ``hypotheses`` of the same length, at
least one: ``references[i]`` are those of ``hypotheses[i]``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ORDER = 4
"""The longest n-grams."""
SIGMA = 6.0
"""Of CIDEr-D's Gaussian length penalty, in tokens."""
BETA = 1.2
"""Weight of recall in ROUGE-L."""
TINY, SMALL = 1e-15, 1e-9
"""BLEU's epsilons, added to numerators and denominators."""

NGram = tuple[str, ...]


class CorpusScores(NamedTuple):
    """A metric's value of the corpus, and of each caption (CIDEr to 10, the others to 1)."""

    corpus: float
    each: Sequence[float]


class Counts(NamedTuple):
    """The number of a caption's tokens, and its n-grams of each order with their counts, in order of appearance."""

    length: int
    by_order: tuple[Mapping[NGram, int], ...]


def counts_of(caption: str) -> Counts:
    """The n-grams of a caption."""
    words = caption.split()
    return Counts(len(words), tuple(Counter(zip(*(words[i:] for i in range(n)), strict=False)) for n in range(1, 5)))


# --------------------------------------------------------------------------------------------------------------- BLEU

BleuStatistics = tuple[int, ...]
"""Matched n-grams (n from 1 to 4), given n-grams, length, length of the nearest reference: ten numbers."""


def bleu_statistics(references: Sequence[Counts], hypothesis: Counts) -> BleuStatistics:
    """The statistics BLEU is computed from; those of a corpus are sums."""
    matched = []
    for order, given in enumerate(hypothesis.by_order):
        most = [reference.by_order[order] for reference in references]
        matched.append(sum(min(count, max(one.get(ngram, 0) for one in most)) for ngram, count in given.items()))
    length = hypothesis.length
    guessed = [max(0, length - n + 1) for n in range(1, ORDER + 1)]
    nearest = min((abs(reference.length - length), reference.length) for reference in references)[1]
    return (*matched, *guessed, length, nearest)


def bleu(statistics: Sequence[BleuStatistics]) -> list[CorpusScores]:
    """BLEU-1 to 4 of the corpus (from the summed statistics) and of each caption."""
    total = [sum(column) for column in zip(*statistics, strict=True)]
    corpus = _bleu_of(total)
    each = [_bleu_of(one) for one in statistics]
    return [CorpusScores(corpus[k], [scores[k] for scores in each]) for k in range(ORDER)]


def _bleu_of(statistics: Sequence[int]) -> list[float]:
    matched, guessed, (length, nearest) = statistics[:ORDER], statistics[ORDER : 2 * ORDER], statistics[2 * ORDER :]
    product, scores = 1.0, []
    for k in range(ORDER):
        product *= (float(matched[k]) + TINY) / (float(guessed[k]) + SMALL)
        scores.append(product ** (1.0 / (k + 1)))
    ratio = (length + TINY) / (nearest + SMALL)
    if ratio < 1:
        scores = [score * math.exp(1 - 1 / ratio) for score in scores]
    return scores


# -------------------------------------------------------------------------------------------------------------- CIDEr


class _Weighted(NamedTuple):
    """A caption's tf-idf weights of each order, their norms, and its length (in 2-grams, as upstream counts it)."""

    weights: Sequence[Mapping[NGram, float]]
    norms: Sequence[float]
    length: int


def document_frequency(references: Sequence[Sequence[Counts]]) -> Counter[NGram]:
    """For every n-gram, the number of images with a reference that has it."""
    frequency: Counter[NGram] = Counter()
    for captions in references:
        frequency.update({ngram for caption in captions for grams in caption.by_order for ngram in grams})
    return frequency


def cider(
    references: Sequence[Sequence[Counts]], hypotheses: Sequence[Counts], frequency: Counter[NGram]
) -> CorpusScores:
    """CIDEr-D with the given document frequencies."""
    import numpy as np

    if not frequency:  # no reference has a word; upstream fails
        return CorpusScores(0.0, [0.0] * len(hypotheses))
    size = float(np.log(float(len(references))))
    idfs = {count: size - float(np.log(float(count))) for count in set(frequency.values())}
    idf = {ngram: idfs[count] for ngram, count in frequency.items()}.get
    penalties: dict[int, float] = {}

    def weighted(counts: Counts) -> _Weighted:
        # An n-gram that is in no reference is treated as if it were in one.
        vectors = [{ngram: count * idf(ngram, size) for ngram, count in grams.items()} for grams in counts.by_order]
        norms = [math.sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors]
        return _Weighted(vectors, norms, sum(counts.by_order[1].values()))

    rows = []
    for captions, hypothesis in zip(references, hypotheses, strict=True):
        own, row = weighted(hypothesis), [0.0] * ORDER
        for caption in captions:
            other = weighted(caption)
            distance = own.length - other.length
            if distance not in penalties:
                penalties[distance] = math.e ** (-(float(distance) ** 2) / (2 * SIGMA**2))
            for order in range(ORDER):
                row[order] += _cosine(own, other, order) * penalties[distance]
        rows.append(row)
    each = np.mean(np.array(rows), axis=1) / np.array([len(captions) for captions in references]) * 10.0
    return CorpusScores(float(np.mean(each)), each.tolist())


def _cosine(own: _Weighted, other: _Weighted, order: int) -> float:
    """The clipped cosine similarity of the n-grams of one order."""
    theirs, value = other.weights[order], 0.0
    for ngram, weight in own.weights[order].items():
        if ngram in theirs:
            value += min(weight, theirs[ngram]) * theirs[ngram]
    norm, other_norm = own.norms[order], other.norms[order]
    return value / (norm * other_norm) if norm != 0 and other_norm != 0 else value


# ------------------------------------------------------------------------------------------------------------- ROUGE-L


def rouge_l(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> CorpusScores:
    """ROUGE-L: the F-measure of the best precision and the best recall by longest common subsequence."""
    import numpy as np

    each = [_rouge_l(captions, hypothesis) for captions, hypothesis in zip(references, hypotheses, strict=True)]
    return CorpusScores(float(np.mean(np.array(each))), each)


def _rouge_l(references: Sequence[str], hypothesis: str) -> float:
    tokens = hypothesis.split(" ")  # an empty caption has one empty token, as upstream
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        others = reference.split(" ")
        common = lcs_length(places, len(tokens), others)
        precision = max(precision, common / len(tokens))
        recall = max(recall, common / len(others))
    if not precision or not recall:
        return 0.0
    return ((1 + BETA**2) * precision * recall) / (recall + BETA**2 * precision)


def lcs_length(places: Mapping[str, int], length: int, tokens: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bit-vectors (Hyyrö 2004).

    Args:
        places: of a text's tokens, as bits.
        length: of that text.
        tokens: of the other text.
    """
    row = mask = (1 << length) - 1
    for token in tokens:
        matches = row & places.get(token, 0)
        row = (row + matches) | (row - matches)
    return length - (row & mask).bit_count()
