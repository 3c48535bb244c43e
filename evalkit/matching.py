"""Answers from files, joined to a split's samples by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalkit.errors import UserError
from evalkit.predictions import EXAMPLES, REPEAT, PredictionLine
from evalkit.repeats import answer_key


@dataclass(frozen=True)
class Matched:
    """A split's answers.

    Attributes:
        texts: by ``answer_key``.
        missing: the ids of samples without an answer.
        unused: the ids of answers to samples outside the split.
        repeats: the number of answers to each sample.
    """

    texts: Mapping[str, str]
    missing: Sequence[str] = ()
    unused: Sequence[str] = ()
    repeats: int = 1


def match(
    sample_ids: Sequence[str],
    predictions: Sequence[PredictionLine],
    *,
    source: str,
    split: str,
    missing_allowed: bool = False,
    advice: str = "--allow-missing counts them as wrong, and --skip-missing scores the others only.",
) -> Matched:
    """Join answers to the samples of a split by id.

    Answers to samples outside the split are left out, if there are others.

    Args:
        source, split: what messages call the file and the split.
        missing_allowed: whether samples may lack an answer.
        advice: what a message says of missing answers.

    Raises:
        UserError: two answers have the same id (and ``repeat``), samples have different numbers of answers, no id is in
            the split, or, unless allowed, samples lack an answer.
    """
    known = set(sample_ids)
    given: dict[str, list[PredictionLine]] = {}
    repeated: dict[str, str] = {}
    for prediction in predictions:
        others = given.setdefault(prediction.id, [])
        same = next((other for other in others if other.repeat == prediction.repeat), None)
        if same is not None:
            repeated[prediction.id] = f"{prediction.id} in {same.place} and {prediction.place}"
        others.append(prediction)
    unused = [name for name in given if name not in known]
    missing = [name for name in sample_ids if name not in given]
    other_split = bool(unused) and len(unused) == len(given)
    if repeated or other_split or (missing and not missing_allowed):
        faults = (
            (missing, "sample without an answer", "samples without an answer"),
            (unused, "answer to an unknown sample", "answers to unknown samples"),
            (list(repeated.values()), "id given more than once", "ids given more than once"),
        )
        counted = "; ".join(_counted(names, one, several) for names, one, several in faults if names)
        if other_split:
            advice = "none of the ids is in this split; is it the right one?"
        elif repeated:
            advice = f"give each sample one answer, or number its answers in the field {REPEAT}."
        raise UserError(f"{source} does not fit {split} ({len(sample_ids):,} samples): {counted}; {advice}")
    used = {name: answers for name, answers in given.items() if name in known}
    repeats = max(map(len, used.values()), default=1)
    if fewer := [f"{name}: {len(answers)}" for name, answers in used.items() if len(answers) < repeats]:
        raise UserError(
            f"{source} does not fit {split}: some samples have {repeats} answers, and "
            f"{_counted(fewer, 'sample has fewer', 'samples have fewer')}; give each as many."
        )
    texts = {
        answer_key(name, repeat): line.text
        for name, answers in used.items()
        for repeat, line in enumerate(sorted(answers, key=lambda line: line.repeat or 0), start=1)
    }
    if len(texts) < repeats * len(used):
        raise UserError(f"{split}: an id is that of another sample followed by #2; give one answer to each sample.")
    return Matched(texts, missing, unused, repeats)


def _counted(names: Sequence[str], one: str, several: str) -> str:
    """``59 samples without an answer (12, 13, 14, …)``."""
    examples = ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")
    return f"{len(names):,} {one if len(names) == 1 else several} ({examples})"
