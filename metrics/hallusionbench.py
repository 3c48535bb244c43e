"""HallusionBench's accuracies: of questions, of figures and of question groups, and their mean.

Paper: Guan et al., "HallusionBench: An Advanced Diagnostic Suite for Entangled Language Hallucination and Visual
Illusion in Large Vision-Language Models", CVPR 2024 (arXiv 2310.14566).  Reference scorer: ``Hallusion_rating`` of
open-compass/VLMEvalKit (commit e8e78f05), from which the published numbers come.

- ``aAcc``: questions answered right.
- ``fAcc``: figures of which all questions are (a figure: l2-category, set and figure).
- ``qAcc``: groups of the same question about a set's figures of which all are (l2-category, set and question).
- ``average``, the headline: the mean of the three, which tables call HallusionBench avg.

Deviations: none from the reference scorer.  The benchmark's own asks GPT-4, and leaves text-only figures out of fAcc.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from types import MappingProxyType

from evalkit.aggregation import Aggregation, Mean, MeanWhere, SumOfMeans, labels_of
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import computed
from .yes_no_accuracy import predicted, reference

UNITS = {"aAcc": "", "fAcc": "figure", "qAcc": "question_group"}
"""The entry of ``meta`` that names what counts once, by value."""
CATEGORIES = ("category", "l2-category")


class HallusionBench(Metric):
    """The mean of aAcc, fAcc and qAcc, and each of them, overall and by category.

    ``references`` is ``yes`` or ``no``; ``meta`` has ``figure`` and ``question_group``.  Columns: ``aAcc``, ``fAcc``
    and ``qAcc`` (whether all answers to the sample's figure or question group are right) and ``parse_rate``, each 0 or
    100.
    """

    name = "hallusionbench"
    meta_keys = ("figure", "question_group")
    signature = "hallusionbench|groups:l2-category|unread:wrong|v1"
    aggregation = MappingProxyType(
        {
            "average": SumOfMeans(tuple((1 / 3, Mean(name, unit=unit)) for name, unit in UNITS.items())),
            **{name: Mean(unit=unit) for name, unit in UNITS.items()},
        }
    )

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """As ``Metric.check``, for every sample's groups."""
        super().check(samples, kind)
        for sample in samples:
            self._groups(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without its groups."""
        groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for answered in answers:
            for group in self._groups(answered.sample).items():
                groups[group].append(predicted(self.name, answered) == reference(self.name, answered))
        per_sample = {}
        for answered in answers:
            found = {name: 100.0 * all(groups[name, group]) for name, group in self._groups(answered.sample).items()}
            per_sample[answered.sample.id] = {**found, "parse_rate": 100.0 * answered.prediction.parsed}
        declared: dict[str, Aggregation] = {**self.aggregation, "parse_rate": Mean()}
        for key in CATEGORIES:
            labels = {label for answered in answers for label in labels_of(answered.sample.meta.get(key))}
            declared |= {
                f"{name}[{label}]": MeanWhere(name, key=key, value=label, unit=unit)
                for label in sorted(labels)
                for name, unit in UNITS.items()
            }
        values = computed(declared, per_sample, {answered.sample.id: answered.sample.meta for answered in answers})
        return Scores("average", values, per_sample, self.signature, declared)

    def _groups(self, sample: Sample) -> dict[str, str]:
        """What the sample belongs to, by value; each question is a group by itself."""
        found = {"aAcc": sample.id, "fAcc": sample.meta.get("figure"), "qAcc": sample.meta.get("question_group")}
        if not all(isinstance(group, str) for group in found.values()):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the figure {found['fAcc']!r} and the question group "
                f"{found['qAcc']!r}; expected their names in meta['figure'] and meta['question_group']"
            )
        return {name: str(group) for name, group in found.items()}


METRIC = HallusionBench()
