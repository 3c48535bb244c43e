"""MTVQA's accuracy: the share of questions whose answer is contained in the prediction, by language.

Paper: Tang et al., "MTVQA: Benchmarking Multilingual Text-Centric Visual Question Answering" (arXiv 2405.11985).
Official scorer: ``scripts/acc.py`` of bytedance/MTVQA (commit efc6a78).

- ``mtvqa`` is the script: prediction and answer are stripped and in lower case, and all dots are removed from the
  prediction, but not from the answer, so that an answer with a dot cannot be right; ``macro``, the unweighted mean of
  the languages.
- ``mtvqa_rows`` is VLMEvalKit's (commit e8e78f05) and lmms-eval's (75571cf): dots are removed from the answer, too;
  ``micro``, the mean over all questions.

On one file of answers the two differ by two to three points.  Each metric has both values.

Deviation: a prediction that cannot be parsed is wrong, even if the answer is empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.aggregation import Aggregation, Mean, MeanOfGroups
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, computed, referenced


def contained(prediction: str, answer: str, *, dots: bool) -> bool:
    """Whether ``answer`` is contained in ``prediction`` without its dots; ``dots``: those of the answer are kept."""
    answer = answer.strip().lower()
    return (answer if dots else answer.replace(".", "")) in prediction.strip().lower().replace(".", "")


class Mtvqa(Metric):
    """Accuracy in percent: the mean over languages, over questions, and of each language.

    ``references`` is one answer, ``meta["category"]`` the language.  Column: ``accuracy``, 0 or 100.
    """

    meta_keys = ("category",)
    right_column = "accuracy"

    def __init__(self, name: str, headline: str, *, dots: bool) -> None:
        self.name = name
        self.running_score = headline == "micro"
        self._headline = headline
        self._dots = dots
        self.aggregation = {"macro": MeanOfGroups("accuracy", key="category"), "micro": Mean("accuracy")}

    @property
    def signature(self) -> str:
        return f"{self.name}|dots:{'kept' if self._dots else 'removed'}|headline:{self._headline}|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references and the language of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        for sample in samples:
            if not isinstance(sample.meta.get("category"), str):
                raise UserError(f"{self.name}: sample {sample.id!r} has no language in meta['category']")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without its reference."""
        per_sample = {answered.sample.id: {"accuracy": self._one(answered)} for answered in answers}
        declared: dict[str, Aggregation] = dict(self.aggregation)
        values = computed(declared, per_sample, {answered.sample.id: answered.sample.meta for answered in answers})
        more, of_languages = breakdown("category", answers, per_sample)
        return Scores(self._headline, values | more, per_sample, self.signature, declared | of_languages)

    def _one(self, answered: Answered) -> float:
        """0 or 100."""
        prediction = referenced(self.name, answered)
        if prediction is None:
            return 0.0
        return 100.0 * contained(prediction, answered.sample.references[0], dots=self._dots)


METRICS = {
    "mtvqa": Mtvqa("mtvqa", "macro", dots=True),
    "mtvqa_rows": Mtvqa("mtvqa_rows", "micro", dots=False),
}
