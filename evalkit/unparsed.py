"""Why nearly no answer of a split could be parsed: a score of 0 that says nothing about the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evalkit.jobs import Job, Record

SHARE = 0.9
"""From this share of unparsed answers on, they are explained."""
LEAST = 2
LONGEST = 60

LETTERS = {
    "several options": "most name several options",
    "no such option": "most name no option of their question",
    "empty": "most are empty",
}


def reason(job: Job, records: Sequence[Record]) -> str:
    """The likely reason why nearly none of the answers could be parsed, with an example; empty if more could."""
    unparsed = [record for record in records if not record.prediction.parsed]
    if len(unparsed) < max(LEAST, SHARE * len(records)):
        return ""
    causes = Counter(_cause(job, record) for record in unparsed)
    cause = causes.most_common(1)[0][0]
    first = next(record.response.text.strip() for record in unparsed if _cause(job, record) == cause)
    example = " ".join(first.split())
    example = example if len(example) <= LONGEST else f"{example[: LONGEST - 1]}…"
    return f"{cause}; the first is “{example}”" if example and "reasoning" not in cause else cause


def _cause(job: Job, record: Record) -> str:
    text = record.response.text
    if not text.strip():
        return "most are empty"
    if record.response.finish == "length":
        return "most were cut off by the token limit (--max-new-tokens)"
    parts = record.parts
    if not parts.complete or not parts.answer.strip():
        return "most are reasoning without an answer"
    if job.task.kind == "grounding":
        return "no box was found in them (does --family name the model's family?)"
    kind = record.sample.kind or job.task.kind
    if kind == "detection":
        return "they have no complete list of boxes in JSON"
    if kind == "pointing":
        return "no point was found in them (does --family name the model's family?)"
    if kind == "temporal_grounding":
        return "they state no start and end time"
    if kind == "choice":
        options = [option if isinstance(option, str) else None for option in record.sample.options]
        return LETTERS.get(job.prompt_spec.letter(parts.answer, options).source, "they state no option")
    if kind == "yes_no":
        return "they say neither yes nor no"
    return "they have no text"
