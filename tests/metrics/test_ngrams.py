"""BLEU, CIDEr-D and ROUGE-L against pycocoevalcap's own classes: equal to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.metrics.text.ngrams import bleu, bleu_statistics, cider, counts_of, document_frequency, lcs_length, rouge_l

# Few words, so that captions share n-grams; some repeat within a caption.
captions = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "the", "on", "é", "'", "...", "2"]), max_size=14).map(
    " ".join
)
corpora = st.lists(st.tuples(st.lists(captions, min_size=1, max_size=5), captions), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(corpora)
def test_equal_to_pycocoevalcap_to_last_bit(corpus: list[tuple[list[str], str]]) -> None:
    upstream = pytest.importorskip("pycocoevalcap.bleu.bleu")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references, hypotheses = [refs for refs, _ in corpus], [caption for _, caption in corpus]
    theirs = dict(enumerate(references)), {place: [caption] for place, caption in enumerate(hypotheses)}
    counted, own = [[counts_of(caption) for caption in refs] for refs in references], [*map(counts_of, hypotheses)]
    statistics = [bleu_statistics(refs, caption) for refs, caption in zip(counted, own, strict=True)]

    expected, each = upstream.Bleu(4).compute_score(*theirs, verbose=0)
    assert [column.corpus for column in bleu(statistics)] == expected
    assert [list(column.each) for column in bleu(statistics)] == each

    corpus_score, each = Rouge().compute_score(*theirs)
    assert (rouge_l(references, hypotheses).corpus, rouge_l(references, hypotheses).each) == (corpus_score, [*each])

    found = cider(counted, own, document_frequency(counted))
    if any(caption.split() for refs in references for caption in refs):
        corpus_score, each = Cider().compute_score(*theirs)
        assert (found.corpus, found.each) == (corpus_score, [*each])
    else:
        assert (found.corpus, found.each) == (0.0, [0.0] * len(hypotheses)), "where upstream fails"


def _lcs(a: Sequence[str], b: Sequence[str]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return _lcs(a[:-1], b[:-1]) + 1
    return max(_lcs(a[:-1], b), _lcs(a, b[:-1]))


@given(st.text("abc", max_size=7), st.text("abcd", max_size=7))
def test_longest_common_subsequence(a: str, b: str) -> None:
    places = {token: sum(1 << i for i, other in enumerate(a) if other == token) for token in set(a)}
    assert lcs_length(places, len(a), list(b)) == _lcs(a, b)
