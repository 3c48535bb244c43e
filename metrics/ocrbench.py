"""OCRBench's score: of 1,000 questions, those whose answer is contained in the prediction.

Paper: Liu et al., "OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models" (arXiv 2305.07895).  Official
scorer: ``OCRBench/example.py`` of Yuliang-Liu/MultimodalOCR (commit 794c36d6).

A prediction is right if any annotated answer is a part of it, both in lower case, stripped, and with blanks for line
ends; of handwritten formulas (HME100k), with case and without any blanks.  No word boundaries: "1" is in "2013".

- ``ocrbench`` is the script;
- ``ocrbench_lmms_eval`` is lmms-eval's (commit 75571cf): full-width letters and digits are those of ASCII.

Deviations: a prediction that cannot be parsed is wrong.  The score is the share of right answers times 1,000, which on
the complete split is their number; a note says if it is not complete.  Parts are scaled to their own number.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from evalkit.aggregation import Aggregation, Mean, MeanWhere, SumOfMeans
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, computed, referenced

FORMULAS = "Handwritten Mathematical Expression Recognition"
RECOGNITION = tuple(
    f"{kind} Recognition"
    for kind in ("Regular Text", "Irregular Text", "Artistic Text", "Handwriting", "Digit String", "Non-Semantic Text")
)
PARTS = {
    "Text Recognition": (RECOGNITION, 300),
    "Scene Text-centric VQA": (("Scene Text-centric VQA",), 200),
    "Doc-oriented VQA": (("Doc-oriented VQA",), 200),
    "Key Information Extraction": (("Key Information Extraction",), 200),
    FORMULAS: ((FORMULAS,), 100),
}
"""The question types and the number of questions of each part of the score."""
PART_OF = {question_type: part for part, (types, _) in PARTS.items() for question_type in types}
TOTAL = 1_000

_ASCII = {0x3000: " ", **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}}


def contained(prediction: str, answers: Sequence[str], *, formula: bool, full_width: bool = False) -> bool:
    """Whether any of ``answers`` is contained in ``prediction``.

    Args:
        formula: whether it is a handwritten formula.
        full_width: whether full-width characters are those of ASCII (lmms-eval).
    """

    def normalised(text: str) -> str:
        if formula:
            return text.strip().replace("\n", " ").replace(" ", "")
        text = text.translate(_ASCII) if full_width else text
        return text.lower().strip().replace("\n", " ")

    found = normalised(prediction)
    return any(normalised(answer) in found for answer in answers)


class OcrBench(Metric):
    """The score of at most 1,000, its five parts, and accuracies by question type in percent.

    ``references`` are the annotated answers; ``meta["category"]`` is the question type, ``meta["part"]`` the part of
    the score.  Column: ``accuracy``, 0 or 100.
    """

    running_score = False
    right_column = "accuracy"
    aggregation = MappingProxyType({"score": SumOfMeans(((TOTAL / 100, Mean("accuracy")),), float(TOTAL))})
    meta_keys = ("category", "part")

    def __init__(self, name: str, *, full_width: bool = False) -> None:
        self.name = name
        self._full_width = full_width

    @property
    def signature(self) -> str:
        return f"{self.name}|contained|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references and the type of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)
        for sample in samples:
            self._type(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references or type."""
        per_sample = {answered.sample.id: {"accuracy": self._one(answered)} for answered in answers}
        present = {PART_OF[self._type(answered.sample)] for answered in answers}
        declared: dict[str, Aggregation] = {
            **self.aggregation,
            **{
                f"score[{part}]": SumOfMeans(
                    ((count / 100, MeanWhere("accuracy", key="part", value=part)),), float(count)
                )
                for part, (_, count) in PARTS.items()
                if part in present
            },
            "accuracy": Mean(),
        }
        values = computed(declared, per_sample, {answered.sample.id: answered.sample.meta for answered in answers})
        more, of_types = breakdown("category", answers, per_sample)
        partial = 0 < len(answers) != TOTAL
        notes = [f"{len(answers):,} of OCRBench's 1,000 questions were scored; the score is scaled to 1,000."] * partial
        return Scores("score", values | more, per_sample, self.signature, declared | of_types, notes=notes)

    def _one(self, answered: Answered) -> float:
        """0 or 100."""
        prediction = referenced(self.name, answered)
        if prediction is None:
            return 0.0
        formula = self._type(answered.sample) == FORMULAS
        right = contained(prediction, answered.sample.references, formula=formula, full_width=self._full_width)
        return 100.0 * right

    def _type(self, sample: Sample) -> str:
        """The sample's question type."""
        found = sample.meta.get("category")
        if found not in PART_OF or sample.meta.get("part") != PART_OF[found]:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the question type {found!r} and the part "
                f"{sample.meta.get('part')!r}; expected one of {', '.join(PART_OF)} in meta['category'], and its part "
                "of the score in meta['part']"
            )
        return str(found)


METRICS = {
    "ocrbench": OcrBench("ocrbench"),
    "ocrbench_lmms_eval": OcrBench("ocrbench_lmms_eval", full_width=True),
}
