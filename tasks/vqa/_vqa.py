"""What the question-answering tasks share: files in VQA's own format, answers however written, texts to submit.

The format is that of GT-Vision-Lab/VQA (visualqa.org), which OK-VQA took over: a questions file
``{"questions": [{"question_id", "image_id", "question"}]}`` and an annotations file
``{"annotations": [{"question_id", "answers": [{"answer", …}], "answer_type", "question_type"}]}``, joined by question.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data import OfficialData, shown
from evalkit.errors import UserError
from evalkit.tasks._files import id_in, integer_in, list_in, official_format, required, text_in
from evalkit.types import Answered, Sample


def answers_of(cell: Any) -> tuple[str, ...]:
    """The annotators' answers in a JSON entry or a data set's cell; none where it is None.

    A cell is a list of structs, a struct of lists or a list of texts, depending on how its parquet was written.
    Raises ``ValueError`` for anything else: a single text is not a list of its letters.
    """
    if cell is None:
        return ()
    entries = cell["answer"] if isinstance(cell, Mapping) else cell
    if not isinstance(entries, list | tuple):
        raise ValueError(f"answers is {shown(cell)}, not a list")
    return tuple(entry if isinstance(entry, str) else entry["answer"] for entry in entries)


def answers_on_hub(row: Mapping[str, Any], name: str, *, task: str) -> tuple[str, ...]:
    """The answers in the hub's row ``name``.  Raises ``UserError`` where it has none."""
    with official_format(task, name, "a list of answers"):
        return required(answers_of(row["answers"]), "answers", name, task=task)


def vqa_samples(
    data: OfficialData, split: str, *, task: str, questions: Sequence[str], annotations: Sequence[str], images: str
) -> Iterator[Sample]:
    """The questions of a split in the order of its questions file, on the COCO images ``images`` (``val2014``).

    ``questions`` and ``annotations`` are the places to look for the files, the official one first; without
    ``annotations`` the samples have no references.

    Raises:
        UserError: a file is missing, corrupt or in another format, or a question has no answers in ``annotations``.
    """
    asked = data.json(*questions, task=task)
    answered = data.json(*annotations, task=task) if annotations else {"annotations": []}
    find_image = data.coco_images(images, task)
    names = [Path(places[0]).name for places in (questions, annotations) if places]
    where = f"the files of split {split} under {data.root}"
    with official_format(task, where, f"the official {' and '.join(names)}"):
        by_id: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        for entry in list_in(answered, "annotations"):
            found = (answers_of(entry["answers"]), _types(entry))
            question_id = id_in(entry, "question_id")
            if by_id.setdefault(question_id, found) != found:
                raise ValueError(f"two different annotations of question {question_id}")
        # A submission has integers for ids; other ids are refused before anything is generated.
        read_id = id_in if annotations else integer_in
        rows = [
            (str(read_id(q, "question_id")), integer_in(q, "image_id"), text_in(q, "question"))
            for q in list_in(asked, "questions")
        ]
    for question_id, image_id, question in rows:
        answers: tuple[str, ...] = ()
        meta: dict[str, str] = {}
        if annotations:
            if question_id not in by_id:
                raise UserError(f"{task}: question {question_id} of {names[0]} has no entry in {names[1]}.")
            answers, meta = by_id[question_id]
            answers = required(answers, "answers", f"question {question_id} in {names[1]}", task=task)
        yield Sample(
            id=question_id,
            images=(find_image[image_id],),
            text=question,
            references=answers,
            cluster=str(image_id),
            meta=meta,
        )


def _types(annotation: Mapping[str, Any]) -> dict[str, str]:
    return {key: text_in(annotation, key) for key in ("answer_type", "question_type")}


def vqa_results(answers: Sequence[Answered], *, task: str) -> str:
    """VQA's results format, ``[{"question_id": 262148000, "answer": "yes"}, …]``."""
    entries = [{"question_id": number_of(a.sample.id, task), "answer": submitted(a, task=task)} for a in answers]
    return json.dumps(entries, ensure_ascii=False)


def number_of(sample_id: str, task: str) -> int:
    """An id as the integer that the official scorers look for.  Raises ``UserError`` if it is not one."""
    try:
        return int(sample_id)
    except ValueError:
        raise UserError(
            f"{task}: the official results file has integers for ids, and there is a sample {sample_id!r}."
        ) from None


def submitted(answered: Answered, *, task: str) -> str:
    """The text that a submission holds for a sample: servers want every question, so an unparsed answer is empty.

    Raises ``UserError`` for an answer that was parsed as a box.
    """
    value = answered.prediction.value
    if value is not None and not isinstance(value, str):
        raise UserError(
            f"{task}: the answer to sample {answered.sample.id!r} was parsed as a box, {value!r}; "
            "a submission holds texts."
        )
    return value or ""
