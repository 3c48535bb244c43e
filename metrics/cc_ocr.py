"""CC-OCR: reading of scenes and languages, parsing of documents, extraction of key information, and their mean.

Paper: Yang et al., "CC-OCR: A Comprehensive and Challenging OCR Benchmark for Evaluating Large Multimodal Models in
Literacy" (arXiv 2412.02210).  Official scorer: ``Benchmarks/CC-OCR/evaluation`` of AlibabaResearch/
AdvancedLiterateMachinery (commit fb6187e).

By track: texts by the F1 of their words or characters (``ocr/transcripts.py``); documents and formulas by their edit
distance, tables by TEDS; key information by fields (``ocr/fields.py``).  A set's score is the mean over its images, a
track's the unweighted mean of its sets, and ``total`` the mean of the tracks.

- ``cc_ocr`` is the script.  Of key information it has two scores; this is ``f1_score``, of the fields of a set
  together, which the paper's table and the example of its documentation have.
- ``cc_ocr_vlmevalkit`` is VLMEvalKit's (commit e8e78f05): of key information the accuracy of trees (``acc``), and an
  earlier version of the rules for documents and tables.

Deviations: a prediction that cannot be parsed is wrong.  So is a table whose spans are no numbers, at which the script
stops.  A score of fewer sets is the mean of those that are there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import check_text_samples, referenced

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKAGES = ("apted", "lxml", "rapidfuzz")
"""What the scorer is made of; the extra ``ocr`` has it."""
SCENES, LANGUAGES, PARSING, KEYS = "multi_scene_ocr", "multi_lan_ocr", "doc_parsing", "kie"
"""The tracks."""
BY_CHARACTER = ("Arabic", "Japanese", "Korean")
"""The sets whose texts are compared by character, beside those with ``zh`` in their names."""
DOCUMENT, TABLE, FORMULA, MOLECULE = "doc", "table", "formula", "molecular"
"""What is parsed."""
COLUMNS = 3
"""Sums of each set: of scores or right fields, of fields that are in one only, and of images."""


class CcOcr(Metric):
    """The mean of the tracks (``total``), and the score of each track and each set, in percent.

    ``references`` is the annotated text, for key information JSON.  ``meta`` has the track (``category``), the ``set``
    and, in document parsing, what is parsed (``op``).  Column: ``score`` of the image.

    Args:
        official: whether the rules are the script's, or VLMEvalKit's.
    """

    running_score = False
    meta_keys = ("category", "set", "op")

    def __init__(self, name: str, *, official: bool) -> None:
        self.name = name
        self.official = official

    @property
    def signature(self) -> str:
        return f"{self.name}|kie:{'f1' if self.official else 'tree'}|mean:sets,tracks|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that the packages are there, and every sample's reference; see ``Metric``.  Raises ``UserError``."""
        missing = [package for package in PACKAGES if find_spec(package) is None]
        if missing:
            raise UserError(
                f"{self.name}: scoring needs {', '.join(missing)}; install the extra: pip install 'evalkit-vlm[ocr]'."
            )
        check_text_samples(self.name, samples, kind, count=1)
        for sample in samples:
            self._check_sample(sample)

    def _check_sample(self, sample: Sample) -> None:
        track, op = sample.meta.get("category"), sample.meta.get("op")
        if track not in (SCENES, LANGUAGES, PARSING, KEYS) or not isinstance(sample.meta.get("set"), str):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the track {track!r} and the set {sample.meta.get('set')!r} in "
                f"meta['category'] and meta['set']; expected {SCENES}, {LANGUAGES}, {PARSING} or {KEYS}, and a name"
            )
        if track == PARSING and op not in _PARSERS:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has {op!r} in meta['op']; expected one of {', '.join(_PARSERS)}"
            )
        if track == KEYS and not _annotated(sample):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the reference {sample.references[0]!r:.80}, which is not a "
                "JSON object with fields; check the annotation file"
            )

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without its reference."""
        sets = sorted({_set(answered.sample) for answered in answers})
        places = {name: COLUMNS * place for place, name in enumerate(sets)}
        per_sample: dict[str, dict[str, float]] = {}
        statistics: dict[str, Sequence[float]] = {}
        for answered in answers:
            first, second, score = self._one(answered)
            row = [0.0] * (COLUMNS * len(sets))
            place = places[_set(answered.sample)]
            row[place : place + COLUMNS] = first, second, 1.0
            statistics[answered.sample.id] = row
            per_sample[answered.sample.id] = {"score": 100.0 * score}
        together = OfSums(statistics, lambda sums: self._values(sums, sets))
        names = ["total", *_tracks(sets), *sets]
        values = dict.fromkeys(names, math.nan)
        if answers:
            import numpy as np

            sums = np.array(list(statistics.values())).sum(axis=0)[None]
            values = {name: float(found[0]) for name, found in self._values(sums, sets).items()}
        declared: dict[str, Aggregation] = dict.fromkeys(values, together)
        return Scores("total", values, per_sample, self.signature, declared)

    def _values(self, sums: NDArray[Any], sets: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """The values by name, each (draws,), from the sums (draws, columns); a draw can lack a set."""
        import numpy as np

        of_sets: dict[str, NDArray[Any]] = {}
        for place, name in enumerate(sets):
            first, second, images = (sums[:, COLUMNS * place + column] for column in range(COLUMNS))
            with np.errstate(invalid="ignore", divide="ignore"):
                fields = self.official and name.startswith(f"score[{KEYS}/")
                found = first / (first + second / 2 + 1e-6) if fields else first / images
            of_sets[name] = np.where(images > 0, 100.0 * found, np.nan)
        tracks = {
            track: _mean([of_sets[name] for name in sets if name.startswith(f"{track[:-1]}/")])
            for track in _tracks(sets)
        }
        return {"total": _mean(list(tracks.values())), **tracks, **of_sets}

    def _one(self, answered: Answered) -> tuple[float, float, float]:
        """The sums that an image adds to its set (right fields and others, or its score and 0), and its score."""
        from .ocr.fields import field_counts, fields_of, tree_accuracy
        from .ocr.transcripts import token_f1

        sample, predicted = answered.sample, referenced(self.name, answered)
        track, right = sample.meta["category"], sample.references[0]
        if track == KEYS:
            found, fields = fields_of(predicted or ""), _annotated(sample)
            if not self.official:
                accuracy = tree_accuracy(found, fields)
                return accuracy, 0.0, accuracy
            equal, different = field_counts(found, fields)
            return equal, different, equal / (equal + different / 2) if equal else 0.0
        score = 0.0
        if predicted and track == PARSING:
            score = _parser(sample.meta["op"], self.official)(predicted, right)
        elif predicted:
            words = sample.meta["set"] not in BY_CHARACTER and "zh" not in sample.meta["set"]
            score = token_f1(predicted, right, words=words, alphanumeric=words and track == SCENES)
        return score, 0.0, score


_PARSERS = (DOCUMENT, TABLE, FORMULA, MOLECULE)


def _parser(op: str, official: bool) -> Callable[[str, str], float]:
    """The rule for what is parsed."""
    from .ocr import transcripts

    document = transcripts.document if official else transcripts.document_earlier
    table = transcripts.table if official else transcripts.table_earlier
    rules = {DOCUMENT: document, TABLE: table, FORMULA: transcripts.formula, MOLECULE: transcripts.molecule}
    return rules[op]


def _annotated(sample: Sample) -> dict[str, Any] | None:
    """The annotated fields; None if the reference is no JSON object with fields."""
    try:
        found = json.loads(sample.references[0])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None


def _set(sample: Sample) -> str:
    """The name of the value of a sample's set."""
    return f"score[{sample.meta['category']}/{sample.meta['set']}]"


def _tracks(sets: Sequence[str]) -> list[str]:
    """The names of the values of the tracks that have ``sets``."""
    return list(dict.fromkeys(f"{name.partition('/')[0]}]" for name in sets))


def _mean(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The mean of (draws,) columns, without those that are NaN; NaN where all are."""
    import numpy as np

    stacked = np.stack(columns)
    there = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        found: NDArray[Any] = np.where(there, stacked, 0.0).sum(axis=0) / there.sum(axis=0)
    return found


METRICS = {
    "cc_ocr": CcOcr("cc_ocr", official=True),
    "cc_ocr_vlmevalkit": CcOcr("cc_ocr_vlmevalkit", official=False),
}
