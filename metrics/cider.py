"""Captioning: CIDEr, beside BLEU-1 to 4, METEOR and ROUGE-L.

Papers: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", 2015 (arXiv 1411.5726); Chen et al.,
"Microsoft COCO Captions: Data Collection and Evaluation Server", 2015 (arXiv 1504.00325).  Official scorer:
tylin/coco-caption (commit 3a9afb26) in its Python 3 version, pycocoevalcap 1.2 (salaniz/pycocoevalcap, commit
ad63453c).  Its classes ``Cider``, ``Bleu`` and ``Rouge`` are run as they are; its two Java programs are started by
``text.ptb`` and ``text.meteor``, which name their deviations (defects only).  References and hypotheses always go
through the PTB tokenizer: raw strings change CIDEr by tens of points.

Behaviour of the official scorer that is reproduced:

- ``Cider`` is what papers call CIDEr-D.  Its idf comes from the references of the samples that are scored: a part of a
  split is not comparable with the whole, so their number stands in the signature.  With one image CIDEr is 0.
- *BLEU and METEOR of the corpus are not the means of the samples'*: they are computed from summed statistics.
- BLEU takes the reference length closest to the hypothesis's, and adds epsilons where others have zeros.
- ROUGE-L of an empty caption against a reference without words is 1; all else about an empty caption is 0.
- the last word of a caption may be tokenized differently depending on the next caption (see ``text.ptb``), so that the
  order of samples can matter: in 3 of 221 captions constructed to be odd, hardly ever in real ones.

Deviations:

- An answer that cannot be parsed is the empty caption.
- If no reference contains a word, CIDEr is 0; upstream crashes.
- Line separators inside captions (see ``text.ptb``).

nocaps: where samples carry ``meta["domain"]`` there is also a ``cider[domain]``, the mean over the domain's images with
the idf of the *whole* split.  So does the official server, as far as can be told from outside, for it is not public:
its values of the domains, weighted by their 648, 2,938 and 914 images, give its overall value up to rounding in all
three results of nocaps-org/updown-baseline (78.1, 57.7, 31.3 → 55.3).  With an idf for each part they would not: the
golden corpus of 300 images, cut into three, then averages 283.5 instead of 285.4.  Papers that run the scorer on one
file per domain (EVCap's script, for one) do that, and their domains compare with a run of the domain alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Mean, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples
from .text.java import PACKAGE, install_hint
from .text.meteor import meteor_of_sums, running_meteor
from .text.ptb import VERSION as PTB_VERSION
from .text.ptb import tokenize

BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
BLEU_SUMS = 2 * len(BLEU) + 2
COLUMNS = ("cider", *BLEU, "meteor", "rouge_l")

if TYPE_CHECKING:
    from numpy.typing import NDArray

Column = tuple[float, Sequence[float]]
"""A metric's value of the corpus, and of each sample, in the scale of the official scorer (CIDEr to 10, else to 1)."""


class CIDEr(Metric):
    """CIDEr and its companions, all times 100 as the field prints them: CIDEr in [0, 1000], the others in percent.

    ``references`` are the captions of an image.  Values and columns: ``cider``, ``bleu_1`` to ``bleu_4``, ``meteor``,
    ``rouge_l``; the means of the columns ``cider`` and ``rouge_l`` are the values, those of the others are not.
    """

    name = "cider"
    headline = "cider"
    # CIDEr is the mean of its per-image scores.  Their idf is held fixed: the interval says how the score varies with
    # the images that are captioned, not with those that the idf was counted on.
    aggregation = MappingProxyType({"cider": Mean(maximum=None), "rouge_l": Mean()})

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, "captions")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.

        Raises ``UserError`` for a sample without references, and when pycocoevalcap or Java is missing.
        """
        references = [_references(answered) for answered in answers]
        hypotheses = [_hypothesis(answered) for answered in answers]
        columns, rows = _columns(references, hypotheses) if answers else (dict.fromkeys(COLUMNS, (math.nan, ())), [])
        per_sample = {
            answered.sample.id: {name: 100 * float(columns[name][1][i]) for name in COLUMNS}
            for i, answered in enumerate(answers)
        }
        values = {name: 100 * float(columns[name][0]) for name in COLUMNS}
        more, declared = breakdown("domain", answers, per_sample, "cider", maximum=None)
        signature = f"{self.name}|ptb:{PTB_VERSION}|refs:{_count(references)}|n:{len(answers)}|idf:references|v1"
        statistics = {answered.sample.id: row for answered, row in zip(answers, rows, strict=True)}
        declared |= dict.fromkeys((*BLEU, "meteor"), OfSums(statistics, corpus_of_sums))
        return Scores(self.headline, values | more, per_sample, signature, {**self.aggregation, **declared})


def _references(answered: Answered) -> list[str]:
    sample = answered.sample
    if not sample.references:
        raise UserError(
            f"cider: sample {sample.id!r} has no captions to score against; "
            "choose a split whose annotations are public, or check the annotation file"
        )
    for reference in sample.references:
        if not isinstance(reference, str):
            raise UserError(
                f"cider: sample {sample.id!r} has the reference {reference!r}, which is not a caption; "
                "check the annotation file"
            )
    return list(sample.references)


def _hypothesis(answered: Answered) -> str:
    value = answered.prediction.value
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(
            f"cider: the answer to sample {answered.sample.id!r} was parsed as a box, {value!r}; "
            "this metric scores text: the task's kind does not match its metric"
        )
    return value


def _count(references: Sequence[Sequence[str]]) -> str:
    """References per image, or ``mixed``; ``none`` where there is no image."""
    counts = {len(captions) for captions in references}
    return "mixed" if len(counts) > 1 else str(counts.pop()) if counts else "none"


def _columns(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str]
) -> tuple[dict[str, Column], list[tuple[float, ...]]]:
    """Every metric of raw captions, at least one sample, and each sample's statistics; ``references[i]`` are those of
    ``hypotheses[i]``."""
    with running_meteor() as meteor:  # loads its tables while the others work
        flat, given = tokenize([caption for captions in references for caption in captions], hypotheses)
        rest = iter(flat)
        expected = [list(islice(rest, len(captions))) for captions in references]
        columns = _python_columns(expected, given)
        scored = meteor.score(expected, given)
    rows = [(*counts, *more) for counts, more in zip(bleu_statistics(expected, given), scored.statistics, strict=True)]
    return columns | {"meteor": (scored.corpus, scored.each)}, rows


def bleu_statistics(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> list[tuple[int, ...]]:
    """BLEU's ten statistics of tokenized captions: matched and given n-grams (n from 1 to 4), length, and the length
    of the nearest reference."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    rows = []
    for captions, hypothesis in zip(references, hypotheses, strict=True):
        (counts,) = BleuScorer(hypothesis, list(captions), n=len(BLEU)).ctest
        given = counts["testlen"]
        nearest = min((abs(length - given), length) for length in counts["reflen"])[1]
        rows.append((*counts["correct"], *counts["guess"], given, nearest))
    return rows


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


def _python_columns(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> dict[str, Column]:
    """The metrics that are no Java programs, of tokenized captions, at least one sample."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise UserError(f"captions are scored with the package {PACKAGE}, but: {error}; {install_hint()}") from error
    expected = {i: list(captions) for i, captions in enumerate(references)}
    given = {i: [caption] for i, caption in enumerate(hypotheses)}
    bleu, bleus = Bleu(len(BLEU)).compute_score(expected, given, verbose=0)
    columns: dict[str, Column] = dict(zip(BLEU, zip(bleu, bleus, strict=True), strict=True))
    # Without a single word there is no document frequency, of which upstream takes the maximum.
    words = any(caption.split() for captions in references for caption in captions)
    columns["cider"] = Cider().compute_score(expected, given) if words else (0.0, [0.0] * len(hypotheses))
    columns["rouge_l"] = Rouge().compute_score(expected, given)
    return columns


METRIC = CIDEr()
