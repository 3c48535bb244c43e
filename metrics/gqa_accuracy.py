"""GQA accuracy: the share of answers equal to the annotated one.

Paper: Hudson and Manning, "GQA: A New Dataset for Real-World Visual Reasoning and Compositional Question Answering",
2019 (arXiv 1902.09506).  Official scorer: ``eval.py`` of gqadataset.org, followed in the mirror
SHI-Labs/VCoder ``playground/data/eval/gqa/data/eval/eval.py`` (commit 4e85acef).

Variants differ in how they process the prediction:

- ``official``: not at all.  The script compares strings: a capital, a full stop or a trailing space is wrong.
- ``llava``: every ``.`` at the end removed, then lower case; LLaVA's ``scripts/convert_gqa_for_eval.py`` (commit
  c121f043), run before the official script.  Most published results use this, so it is the headline ``accuracy``.
- ``qwen-vl``: the clean-up in Qwen-VL's ``eval_mm/evaluate_vqa.py`` (commit aa00ed04), see ``qwen_vl_cleaned``; then
  both sides are compared in lower case without outer spaces.

The others are reported next to the headline as ``accuracy_official`` and ``accuracy_qwen-vl``.

Only what the official script prints as "Accuracy" is computed; its consistency, validity, plausibility, grounding and
distribution scores need the scene graphs and the unbalanced questions.

Deviations:

- The official script counts only questions marked ``isBalanced``; here every sample counts, so the task must yield
  the balanced questions only.  (Qwen-VL counts every question of its file, which has only those.)
- If the answer cannot be parsed, the question is wrong, even if the annotated answer is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import check_text_samples, means, referenced

Variant = Literal["official", "llava", "qwen-vl"]

COLUMNS: dict[str, Variant] = {"accuracy": "llava", "accuracy_official": "official", "accuracy_qwen-vl": "qwen-vl"}


def qwen_vl_cleaned(text: str) -> str:
    """``text`` as Qwen-VL's evaluation cleans it, quirks included.

    Keeps the text before the first ``.``, ``,`` or ``!``, in lower case.  Then for each of "is ", "are ", "a ",
    "an ", "the " that occurs, in this order, the text between its first and second occurrence.  The leads are
    looked for inside words too: ``banana split`` -> ``split``, ``square table`` -> ``table``.  Last, " of" and what
    follows is removed, also inside a word: ``coffee offer`` -> ``coffee``.
    """
    text = text.strip()
    for mark in ".,!":
        text = text.partition(mark)[0]
    text = text.lower()
    for lead in ("is ", "are ", "a ", "an ", "the "):
        if lead in text:
            text = text.split(lead)[1]
    return text.partition(" of")[0].strip()


def correct(prediction: str, reference: str, variant: Variant) -> bool:
    """Whether ``prediction`` is ``reference``, compared as in ``variant``."""
    if variant == "official":
        return prediction == reference
    if variant == "llava":
        return prediction.rstrip(".").lower() == reference
    return qwen_vl_cleaned(prediction).lower() == reference.strip().lower()


class GQAAccuracy(Metric):
    """GQA accuracy in percent, in all variants.

    ``references`` is the annotated answer; where there are several, any of them counts.
    """

    name = "gqa_accuracy"
    running_score = True
    right_column = "accuracy"
    signature = "gqa_accuracy|variant:llava|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, COLUMNS)
        return Scores(headline="accuracy", values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        sample, prediction = answered.sample, referenced(self.name, answered)
        if prediction is None:
            return dict.fromkeys(COLUMNS, 0.0)
        return {
            column: 100.0 * any(correct(prediction, reference, variant) for reference in sample.references)
            for column, variant in COLUMNS.items()
        }


METRIC = GQAAccuracy()
