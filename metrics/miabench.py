"""MIA-Bench: how well answers follow each component of an instruction, as a judge that sees the image says.

Paper: Qian et al., "MIA-Bench: Towards Better Instruction Following Evaluation of Multimodal LLMs", ICLR 2025 (arXiv
2407.01509).  Scorer: ``vlmeval/dataset/miabench.py`` of open-compass/VLMEvalKit (commit e8e78f0), which follows the
official notebook; its judge is gpt-4o.  The judge gets the instruction, its components with their weights, the answer
and the image, and writes ``score of component 1: x/2, …, total score: z/10``.

Values: ``score``, the mean total in percent, and ``score[…]`` by type of component, each component counted once.

Reading, as the scorer: the reply up to its first full stop, at commas; after each colon and one character, two whole
numbers, of which the first is divided by the second; the last is the total.  A reply with another number, such as
``1.5/2``, is dropped by the scorer and left out here.  Deviation: so is one that has more or fewer scores than the
instruction has components, or a score above its weight.  An answer that could not be parsed gets 0 without a question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scale, Scores, Verdict

from ._judging import LONGEST, user
from ._scoring import check_text_samples, computed, means

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "scores"
ORDINALS = ("first", "second", "third", "fourth", "fifth")
_FRACTION = re.compile(r"[^:]*:.(\d{1,4})/(\d{1,4})\s*", re.DOTALL)


def fractions(count: int) -> Callable[[str], tuple[float, ...] | None]:
    """Reads the scores of ``count`` components and the total, each from 0 to 1."""

    def read(reply: str) -> tuple[float, ...] | None:
        pieces = reply[:LONGEST].split(".", 1)[0].split(",")
        found = [_FRACTION.fullmatch(piece) for piece in pieces]
        if len(found) != count + 1 or not all(match and int(match[2]) for match in found):
            return None
        return tuple(int(match[1]) / int(match[2]) for match in found if match)

    return read


PROMPTS = tuple(
    JudgePrompt(
        "miabench-1",
        f"VLMEvalKit e8e78f0: its prompt for {count} component{'s' if count > 1 else ''}, then the image",
        fractions(count),
        Scale(0, 1),
        scores=count + 1,
        max_new_tokens=2000,
        leading=True,
    )
    for count in range(1, len(ORDINALS) + 1)
)


def instruction_prompt(instruction: str, components: Sequence[str], weights: Sequence[int], answer: str) -> str:
    """VLMEvalKit's prompt."""
    count = len(components)
    listed = ", and ".join(
        f"{'The' if n == 0 else 'the'} {ORDINALS[n]} component is{':' if n == 0 else ''} '{component}'"
        for n, component in enumerate(components)
    )
    if count == 1:
        worth = f"The first component is worth: {weights[0]} scores. "
    else:
        comma = "," if count > 2 else ""
        names = f"{', '.join(ORDINALS[: count - 1])}{comma} and {ORDINALS[count - 1]}"
        numbers = f"{', '.join(map(str, weights[:-1]))}{comma} and {weights[-1]}"
        worth = f"The {names} component is each worth {numbers} scores.{' ' if count == 2 else ''}"
    return (
        f"Here is an instruction for a multimodal LLM: '{instruction}'. You need to grade if the response from the "
        f"model follows each component of the instruction. {listed}. The response is: '{answer}'. You need to score "
        "the response and be strict. The total score ranges from 0 to 10, depending on if the response follows the "
        f"instruction. {worth}List scores of each component, and the total score in one sentence in this format: score "
        "of component 1: x/2, score of component 2: y/8, total score: z/10. Then explain your reasons."
    )


class MiaBench(JudgedMetric):
    """The mean total in percent, and means by type of component.

    ``meta`` has lists of the same length: ``components``, ``component_weight`` and ``component_type``.
    """

    meta_keys = ("components", "component_weight", "component_type")
    name = "miabench"
    signature = "miabench|v1"
    leaves_out_unjudged = True
    prompts = PROMPTS

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the components of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, [], kind)
        for sample in samples:
            lists = [sample.meta.get(key) for key in ("components", "component_weight", "component_type")]
            sizes = {len(found) if isinstance(found, list | tuple) else 0 for found in lists}
            if len(sizes) != 1 or not 1 <= sizes.pop() <= len(ORDINALS):
                raise UserError(
                    f"{self.name}: sample {sample.id!r} has no one to five components, each with a weight and a type, "
                    "in meta; this metric scores MIA-Bench only"
                )
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """One question, with the image."""
        sample, answer = answered.sample, answered.prediction.value
        if not isinstance(answer, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        components = sample.meta["components"]
        text = instruction_prompt(sample.text, components, sample.meta["component_weight"], answer)
        return [JudgeQuestion(KEY, PROMPTS[len(components) - 1], user(text, *sample.images))]

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The mean over the judged answers; see ``JudgedMetric``."""
        types = sorted({name for judged in answers for name in judged.answered.sample.meta["component_type"]})
        per_sample: dict[str, dict[str, float]] = {}
        statistics: dict[str, list[float]] = {}
        for judged in answers:
            sample = judged.answered.sample
            own = sample.meta["component_type"]
            value = judged.verdicts[KEY].value if judged.verdicts else (0.0,) * (len(own) + 1)
            assert isinstance(value, tuple)
            *components, total = value
            per_sample[sample.id] = {
                "score": 100.0 * total,
                "parse_rate": 100.0 * judged.answered.prediction.parsed,
            }
            pairs = list(zip(own, components, strict=True))
            statistics[sample.id] = [
                number
                for name in types
                for number in (
                    sum(score for of, score in pairs if of == name),
                    float(sum(of == name for of, _ in pairs)),
                )
            ]

        def by_type(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
            import numpy as np

            sums = sums.astype(np.float64)
            found = {}
            for n, name in enumerate(types):
                scored, count = sums[:, 2 * n], sums[:, 2 * n + 1]
                found[f"score[{name}]"] = np.divide(100.0 * scored, count, out=np.zeros_like(scored), where=count > 0)
            return found

        of_types = OfSums(statistics, by_type)
        declared: dict[str, Aggregation] = {f"score[{name}]": of_types for name in types}
        values = means(per_sample, ("score", "parse_rate"))
        values |= computed(declared, per_sample, {})
        return Scores("score", values, per_sample, self.signature, declared)


METRIC = MiaBench()
