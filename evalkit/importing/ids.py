"""Which sample each answer of another harness belongs to.

A harness records the sample's place in the split, or fields of the data set among which the official id is.  A number
that happens to be an id of ours may mean another sample, so a choice is checked by the questions, where they are
recorded: that of the sample must occur in the prompt, or end with it, as where a hint stands before the question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evalkit.errors import UserError
from evalkit.types import Sample

from .foreign import POSITION, ForeignAnswer

FIRST = ("id", "question_id", "questionId", "pid", "index", "idx")
"""Fields that win where several do equally well."""
LEAST_AGREEING = 0.9
"""The share of answers whose question must be the sample's."""
QUESTION = "question"
EXAMPLES = 3
_GAPS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Joined:
    """The ids of the answers' samples.

    Attributes:
        ids: of each answer; the recorded value where it is of no sample.
        by: the field that has them, ``POSITION``, or ``QUESTION`` if they were found by the questions.
        checked: the number of answers whose question was compared with the sample's.
        agreeing: the number of those that have it.
    """

    ids: Sequence[str]
    by: str
    checked: int
    agreeing: int


def plain(text: str) -> str:
    """A text in lower case with its words only."""
    return _GAPS.sub(" ", text.casefold()).strip()


def join(answers: Sequence[ForeignAnswer], samples: Sequence[Sample], field: str | None, source: str) -> Joined:
    """Join answers to samples.

    Args:
        field: the field with the ids, or ``POSITION``; None to find it.

    Raises:
        UserError: nothing fits, or the questions are different ones.
    """
    by_id = {sample.id: sample for sample in samples}
    prompts = [plain(answer.prompt) for answer in answers]
    questions = {sample.id: plain(sample.text) for sample in samples}

    def of_field(name: str) -> Joined:
        return _checked(name, lambda answer: answer.fields.get(name, ""))

    def of_position() -> Joined:
        def found(answer: ForeignAnswer) -> str:
            place = answer.position
            return samples[place].id if place is not None and 0 <= place < len(samples) else f"number {place}"

        return _checked(POSITION, found)

    def _checked(name: str, id_of: Callable[[ForeignAnswer], str]) -> Joined:
        ids = [id_of(answer) for answer in answers]
        known = [(questions[one], prompt) for one, prompt in zip(ids, prompts, strict=True) if one in by_id]
        compared = [(question, prompt) for question, prompt in known if question and prompt]
        return Joined(ids, name, len(compared), sum(map(_agree, compared)))

    if field is not None:
        if field != POSITION and not any(field in answer.fields for answer in answers):
            names = ", ".join(list(_names(answers))[:12]) or "none"
            raise UserError(f"{source}: --id {field}: no sample has this field; they have {names}, {POSITION}.")
        return of_position() if field == POSITION else of_field(field)

    tried = [of_field(name) for name in _names(answers)]
    if any(answer.position is not None for answer in answers):
        tried.append(of_position())
    hits = {found.by: sum(one in by_id for one in found.ids) for found in tried}
    order = {name: place for place, name in enumerate(FIRST)}
    tried = [found for found in tried if hits[found.by] and _distinct(found, answers)]
    best = max(tried, key=lambda f: (f.agreeing, hits[f.by], -order.get(f.by, len(FIRST))), default=None)
    if best is None or (best.by == POSITION and not best.checked) or _disagrees(best):
        asked = _by_question(answers, prompts, questions)
        if asked is not None:
            return asked
    if best is None:
        raise UserError(
            f"{source}: none of its samples is in this split by id or by question; is it the right task? (--id names "
            "the field that has the ids)"
        )
    if best.by == POSITION and not best.checked:
        raise UserError(
            f"{source}: it records the places of its samples only, and no questions by which they can be checked; "
            f"--id {POSITION} takes them to be in the order of the split."
        )
    if _disagrees(best):
        raise UserError(
            f"{source}: by the field {best.by!r}, {best.checked - best.agreeing:,} of {best.checked:,} samples have "
            "another question than those of this split; is it the right task? (--id names the field that has the ids)"
        )
    return best


def _agree(compared: tuple[str, str]) -> bool:
    question, prompt = compared
    return question in prompt or question.endswith(f" {prompt}")


def _disagrees(found: Joined) -> bool:
    return found.agreeing < LEAST_AGREEING * found.checked


def _distinct(found: Joined, answers: Sequence[ForeignAnswer]) -> bool:
    """Whether each sample has its answers once."""
    keys = [(one, answer.repeat) for one, answer in zip(found.ids, answers, strict=True)]
    return len(set(keys)) == len(keys)


def _names(answers: Sequence[ForeignAnswer]) -> Mapping[str, int]:
    """The fields that most answers have."""
    count = Counter(name for answer in answers for name in answer.fields)
    return {name: number for name, number in count.items() if number >= LEAST_AGREEING * len(answers)}


def _by_question(
    answers: Sequence[ForeignAnswer], prompts: Sequence[str], questions: Mapping[str, str]
) -> Joined | None:
    """The samples whose question is a line of the prompt, if no other sample has it, and nearly all are found."""
    number = Counter(questions.values())
    by_text = {text: one for one, text in questions.items() if text and number[text] == 1}
    ids: list[str] = []
    for answer, prompt in zip(answers, prompts, strict=True):
        lines = {plain(line) for line in answer.prompt.splitlines()} | {prompt}
        found = {by_text[line] for line in lines if line in by_text}
        ids.append(found.pop() if len(found) == 1 else f"unknown ({answer.place})")
    there = sum(one in questions for one in ids)
    joined = Joined(ids, QUESTION, there, there)
    return joined if there >= LEAST_AGREEING * len(answers) and there and _distinct(joined, answers) else None
