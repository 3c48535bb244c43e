"""MME's score: accuracy plus accuracy+ of each subtask, summed.

Paper: Fu et al., "MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models" (arXiv 2306.13394).
Official scorer: ``calculation.py`` in ``tools/eval_tool.zip`` of BradyFU/Awesome-Multimodal-Large-Language-Models
(branch Evaluation, commit dd295090).

A subtask's score, at most 200, is 100 · accuracy (of questions) + 100 · accuracy+ (of images: both questions right).
``perception`` is the sum of ten subtasks (at most 2,000), ``cognition`` that of four (800), and the headline,
``mme_sum``, that of both (2,800), which reports call MME-sum.

Deviations:

- An image's questions are found by its name; the script takes every two lines, which is the same in official files.
- Where a question is missing (``--limit``, a failed sample), an image counts by its other one, and a note says so;
  subtasks without any question are left out of the sums.
- The script also prints precision and recall of each subtask, which no table has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from evalkit.aggregation import Aggregation, Mean, MeanWhere, SumOfMeans
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import computed
from .yes_no_accuracy import predicted, reference

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
SUBTASKS = (*PERCEPTION, *COGNITION)


def sum_of(subtasks: Sequence[str]) -> SumOfMeans:
    """The sum of the subtasks' scores."""
    terms = [
        (1.0, mean)
        for subtask in subtasks
        for mean in (
            MeanWhere("accuracy", key="category", value=subtask),
            MeanWhere("accuracy_plus", key="category", value=subtask, unit="image"),
        )
    ]
    return SumOfMeans(tuple(terms), 200.0 * len(subtasks))


class Mme(Metric):
    """MME-sum, its two parts, and the score of each subtask.

    ``references`` is ``yes`` or ``no``; ``meta["category"]`` is the subtask and ``meta["image"]`` the image.  Columns:
    ``accuracy``, ``accuracy_plus`` (whether all answers to the image's questions are right) and ``parse_rate``, each 0
    or 100.
    """

    name = "mme"
    meta_keys = ("category", "image")
    right_column = "accuracy"
    signature = "mme|pairs:image|unread:wrong|v1"
    aggregation = MappingProxyType(
        {
            "mme_sum": sum_of(SUBTASKS),
            "perception": sum_of(PERCEPTION),
            "cognition": sum_of(COGNITION),
            "accuracy_plus": Mean("accuracy_plus", unit="image"),
            "score": SumOfMeans((), 200.0),  # the scale of each subtask's
        }
    )

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """As ``Metric.check``, for every sample's subtask and image."""
        super().check(samples, kind)
        for sample in samples:
            self._place(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without its subtask or image."""
        images: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for answered in answers:
            right = predicted(self.name, answered) == reference(self.name, answered)
            images[self._place(answered.sample)].append(right)
        per_sample = {
            answered.sample.id: {
                "accuracy": 100.0 * (answered.prediction.value == answered.sample.references[0]),
                "accuracy_plus": 100.0 * all(images[self._place(answered.sample)]),
                "parse_rate": 100.0 * answered.prediction.parsed,
            }
            for answered in answers
        }
        declared = self._declared({subtask for subtask, _ in images})
        values = computed(declared, per_sample, {answered.sample.id: answered.sample.meta for answered in answers})
        return Scores("mme_sum", values, per_sample, self.signature, declared, notes=_notes(images))

    def _declared(self, present: set[str]) -> dict[str, Aggregation]:
        """The values and how each is computed: sums only of the parts that are there."""
        parts = {"mme_sum": SUBTASKS, "perception": PERCEPTION, "cognition": COGNITION}
        declared: dict[str, Aggregation] = {}
        for name, part in parts.items():
            there = [subtask for subtask in part if subtask in present]
            if there or name == "mme_sum":
                declared[name] = sum_of(there)
        declared |= {f"score[{subtask}]": sum_of([subtask]) for subtask in SUBTASKS if subtask in present}
        declared |= {"accuracy": Mean(), "accuracy_plus": self.aggregation["accuracy_plus"], "parse_rate": Mean()}
        return declared

    def _place(self, sample: Sample) -> tuple[str, str]:
        """The sample's subtask and image."""
        subtask, image = sample.meta.get("category"), sample.meta.get("image")
        if subtask not in SUBTASKS or not isinstance(image, str):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the subtask {subtask!r} and the image {image!r}; expected one "
                f"of {', '.join(SUBTASKS)} in meta['category'], and a name in meta['image']"
            )
        return subtask, image


def _notes(images: Mapping[tuple[str, str], Sequence[bool]]) -> list[str]:
    """Sentences if subtasks are missing, or images have another number of questions than two."""
    present = len({subtask for subtask, _ in images})
    found = []
    if 0 < present < len(SUBTASKS):
        found.append(f"{present} of MME's {len(SUBTASKS)} subtasks are there: the sums are of these only.")
    sizes = Counter(map(len, images.values()))
    odd = sum(count for size, count in sizes.items() if size != 2)
    if odd:
        text = f"{odd:,} of {len(images):,} images do not have two questions (a subset, or failed samples)"
        found.append(f"{text}: their accuracy+ is not MME's.")
    return found


METRIC = Mme()
