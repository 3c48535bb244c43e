"""Several answers to each sample (``--repeats``): keys, pass@k, majority votes, and scores over all of them.

Every repeat is scored like a run of its own; ``combine`` makes one score of them.  Repeats are numbered from 1, and the
first is the answer of a run without repeats: it has the same request id, and so the same random stream.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import PERCENT, Aggregation, Corpus, Mean, Meta, OfSums, OfWeights
from evalkit.types import Kind, Prediction, Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPREAD = "repeat_sd"
"""The name of the standard deviation of the repeats' scores."""
VOTED: frozenset[Kind] = frozenset(("choice", "yes_no", "vqa", "document"))
"""The kinds whose answers can be equal, so that a majority can be found."""
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")


def answer_key(sample: str, repeat: int) -> str:
    """The key of an answer, and the id of its request: ``12`` for the first answer to sample 12, then ``12#2``."""
    return sample if repeat == 1 else f"{sample}#{repeat}"


def pass_sizes(repeats: int) -> list[int]:
    """The k of pass@k: 1, 2, 4, … below ``repeats``, and ``repeats``."""
    return [*(2**power for power in range(repeats.bit_length()) if 2**power < repeats), repeats]


def pass_at(k: int, repeats: int, right: int) -> float:
    """The unbiased estimate of the probability that at least one of ``k`` answers is right.

    1 − C(n − c, k) / C(n, k) for c right answers among n (Chen et al. 2021, arXiv 2107.03374, equation 1).

    Raises:
        ValueError: unless 1 ≤ k ≤ n and 0 ≤ c ≤ n.
    """
    if not 1 <= k <= repeats or not 0 <= right <= repeats:
        raise ValueError(f"pass@{k} of {right} right answers among {repeats}")
    return 1.0 - math.comb(repeats - right, k) / math.comb(repeats, k)


def majority_name(repeats: int) -> str:
    """The name of the score of majority votes: ``maj@8``."""
    return f"maj@{repeats}"


def pass_name(k: int) -> str:
    """The name of pass@k: ``pass@4``."""
    return f"pass@{k}"


# --------------------------------------------------------------------------------------------------------------- votes


def normalised(text: str) -> str:
    """What two texts share if they count as the same answer in a vote.

    Compatibility characters (NFKC), case, white space, quotes around the text and a full stop at its end do not count;
    numbers are compared by value (``1,000.0`` is ``1000``).
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    plain = plain.strip("\"'`“”‘’ ").removesuffix(".").strip()
    if not _NUMBER.fullmatch(plain):
        return plain
    return f"{Decimal(plain.replace(',', '')).normalize() + 0:f}"


def vote(predictions: Sequence[Prediction]) -> Prediction:
    """The prediction that most answers agree on, as the first of them has it.

    Answers that could not be parsed do not vote.  Of equally many votes, the answer that was given first wins.
    """
    votes: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if isinstance(prediction.value, str):
            votes.setdefault(normalised(prediction.value), []).append(prediction)
    return max(votes.values(), key=len)[0] if votes else Prediction(None)  # of equals, max returns the first


# -------------------------------------------------------------------------------------------------------------- scores


def combine(repeats: Sequence[Scores], meta: Meta, *, right: str = "", voted: Scores | None = None) -> Scores:
    """The scores over all repeats of the same samples.

    Each value is the mean of the repeats' values, and so is each per-sample score.  Added are ``repeat_sd``, ``pass@k``
    and ``maj@N``.

    Args:
        meta: of the samples, by id.
        right: the column of per-sample scores that is 0 (wrong) or 100 (right); empty for metrics without one.
        voted: the scores of the majority votes, if there are any.
    """
    first, count = repeats[0], len(repeats)
    values = {
        name: fmean(scores.values[name] for scores in repeats)
        for name in first.values
        if all(name in scores.values for scores in repeats)
    }
    per_sample = {sample: _mean_row([scores.per_sample[sample] for scores in repeats]) for sample in first.per_sample}
    join = _Joined()
    aggregation: dict[str, Aggregation] = {
        name: _combined([scores.aggregation_of(name) for scores in repeats], join) for name in values
    }
    found = replace(first, values=values, per_sample=per_sample, aggregation=aggregation)
    found = replace(found, notes=list(dict.fromkeys(note for scores in repeats for note in scores.notes)))
    if right and per_sample:
        found = _with_passes(found, repeats, right, meta)
    if voted is not None:
        found = _with_votes(found, voted, majority_name(count))
    spread = stdev(scores.values[first.headline] for scores in repeats)
    declared = {**found.aggregation, SPREAD: Corpus("it is the standard deviation of the repeats' scores", None)}
    found = replace(found, values={**found.values, SPREAD: spread}, aggregation=declared)
    return replace(found, aggregation={name: _checked(found, name, meta) for name in found.values})


def _mean_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = [column for column in rows[0] if all(column in row for row in rows)]
    return {column: fmean(row[column] for row in rows) for column in shared}


def _combined(declared: Sequence[Aggregation], join: _Joined) -> Aggregation:
    """How the mean of the repeats' values comes from the samples.

    Means are linear: what gives each repeat's value of its samples' scores gives the mean value of the mean scores.
    """
    sums = tuple(one for one in declared if isinstance(one, OfSums))
    weights = tuple(one for one in declared if isinstance(one, OfWeights))
    if len(sums) == len(declared):
        return join.sums(sums)
    if len(weights) == len(declared):
        return join.weights(weights)
    if all(one == declared[0] for one in declared):
        return declared[0]
    return Corpus("it is computed in another way in each repeat", declared[0].maximum)


class _Joined:
    """Joins the repeats' declarations of functions; values that share a declaration share the joined one."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Any] = {}

    def sums(self, repeats: tuple[OfSums, ...]) -> OfSums:
        """The repeats' summed statistics, (columns,) each, side by side, (repeats × columns,)."""
        key = tuple(map(id, repeats))
        if key not in self._known:
            samples = repeats[0].statistics
            statistics = {sample: [x for one in repeats for x in one.statistics[sample]] for sample in samples}

            def values(totals: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
                width = totals.shape[1] // len(repeats)
                return _means([one.values(totals[:, i * width : (i + 1) * width]) for i, one in enumerate(repeats)])

            self._known[key] = OfSums(statistics, values, repeats[0].maximum)
        found: OfSums = self._known[key]
        return found

    def weights(self, repeats: tuple[OfWeights, ...]) -> OfWeights:
        """The repeats' functions of the same weights."""
        key = tuple(map(id, repeats))
        if key not in self._known:

            def values(copies: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
                return _means([one.values(copies) for one in repeats])

            self._known[key] = OfWeights(repeats[0].strata, values, repeats[0].maximum)
        found: OfWeights = self._known[key]
        return found


def _means(repeats: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The means over the repeats of values, (draws,) each, by name."""
    import numpy as np

    return {name: np.mean([found[name] for found in repeats], axis=0) for name in repeats[0]}


def _with_passes(found: Scores, repeats: Sequence[Scores], right: str, meta: Meta) -> Scores:
    """The scores with pass@k, aggregated like the headline if that is a mean of ``right``."""
    count = len(repeats)
    headline = found.aggregation_of(found.headline)
    like = headline if isinstance(headline, Mean) and (headline.column or found.headline) == right else Mean()
    per_sample = {sample: dict(row) for sample, row in found.per_sample.items()}
    declared, values = dict(found.aggregation), dict(found.values)
    for sample, row in per_sample.items():
        correct = sum(scores.per_sample[sample][right] > 0 for scores in repeats)
        row |= {pass_name(k): PERCENT * pass_at(k, count, correct) for k in pass_sizes(count)}
    for name in map(pass_name, pass_sizes(count)):
        declared[name] = replace(like, column=name, maximum=PERCENT)
        value = declared[name].compute(name, per_sample, meta)
        values[name] = math.nan if value is None else value
    return replace(found, values=values, per_sample=per_sample, aggregation=declared)


def _with_votes(found: Scores, voted: Scores, name: str) -> Scores:
    """The scores with that of the majority votes."""
    headline = voted.headline
    declared = voted.aggregation_of(headline)
    per_sample = found.per_sample
    own: Aggregation = Corpus("it is a weighted sum of means", declared.maximum)
    if isinstance(declared, Mean):
        column = declared.column or headline
        per_sample = {
            sample: {**row, **({name: voted.per_sample[sample][column]} if column in voted.per_sample[sample] else {})}
            for sample, row in per_sample.items()
        }
        own = replace(declared, column=name)
    elif isinstance(declared, OfSums):
        sums = declared.values
        own = OfSums(declared.statistics, lambda totals: {name: sums(totals)[headline]}, declared.maximum)
    values = {**found.values, name: voted.values[headline]}
    return replace(found, values=values, per_sample=per_sample, aggregation={**found.aggregation, name: own})


def _checked(found: Scores, name: str, meta: Meta) -> Aggregation:
    """How ``name`` comes from the samples; as a value of all samples together if the declaration does not give it."""
    declared = found.aggregation_of(name)
    try:
        agrees = declared.agrees(name, found.values[name], found.per_sample, meta)
    except KeyError:
        agrees = False
    return declared if agrees else Corpus("its means over the repeats do not give it", declared.maximum)
