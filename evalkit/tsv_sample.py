"""The samples of custom TSV files: a row each, checked cell by cell (see ``evalkit.tsv_task``)."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.file_task import image_clusters, with_places
from evalkit.images import EncodedImage, PathImage
from evalkit.tsv import IMAGE_PATH, OPTIONS, TsvFile, TsvRow
from evalkit.tsv_images import TsvImage
from evalkit.tsv_rows import IMAGE, INDEX
from evalkit.types import Kind, Sample
from evalkit.values import shown
from evalkit.yes_no import NO, YES

QUESTION, ANSWER, HINT = "question", "answer", "hint"
RENAMED = {"l2-category": "l2_category"}
CATEGORIES = ("category", "l2_category")
STEP = 1_000_000
"""The rotations of the row ``i`` have the indices ``i + k * STEP``."""
LETTERS = {letter: (letter,) for letter in OPTIONS}
"""What answers are scored against, one object for all questions with the same answer."""
LONGEST_LIST = 1 << 16
"""Longest cell that is parsed as a list, in characters."""

Rotations = Mapping[str, tuple[str, int]]
"""Index → the index of the question's unrotated row, and how often the row's options are rotated."""


def samples_of(file: TsvFile, kind: Kind, rotations: Rotations) -> list[Sample]:
    """The samples in the file's order; ``rotations`` is empty if no question is asked in several orders.

    Raises:
        UserError: a row is not as expected; the message has its line.
    """
    folder = file.path.parent
    images = [row.images_or_files(folder, task=row.where) for row in file.rows]
    names = (tuple([_name(image, folder) for image in own]) for own in images)
    clusters = image_clusters([own or (row.index,) for row, own in zip(file.rows, names, strict=True)])
    used = {INDEX, QUESTION, ANSWER, HINT, IMAGE, IMAGE_PATH, *(OPTIONS if kind == "choice" else ())}
    columns = [column for column in file.columns if column not in used]
    samples = []
    for row, own, cluster in zip(file.rows, images, clusters, strict=True):
        meta = _meta(row, columns)
        if rotations:
            cluster, rotation = rotations[row.index]
            meta |= {"group": cluster, "rotation": rotation}
        samples.append(_sample(row, kind, own, cluster, meta))
    return samples


def rotations_of(file: TsvFile) -> Rotations:
    """The rotation of each row, if questions are asked with their options in several orders; else empty."""
    if not any(_rotation(file, row)[1] for row in file.rows):
        return {}
    return {row.index: _rotation(file, row) for row in file.rows}


def _rotation(file: TsvFile, row: TsvRow) -> tuple[str, int]:
    if row.index.isascii() and row.index.isdecimal() and len(row.index) < 16:
        rotation, index = divmod(int(row.index), STEP)
        first = file.by_index.get(str(index)) if rotation else None
        if first is not None and first[QUESTION] == row[QUESTION]:  # else the indices mean something else
            return first.index, rotation
    return row.index, 0


def _name(image: EncodedImage, folder: Path) -> str:
    """What the file calls an image: its path, or the index of the first row that has it."""
    if isinstance(image, TsvImage):
        return image.index if image.item is None else f"{image.index}[{image.item}]"
    assert isinstance(image, PathImage)
    return str(Path(image.path).relative_to(folder))


def _sample(row: TsvRow, kind: Kind, images: tuple[EncodedImage, ...], cluster: str, meta: dict[str, Any]) -> Sample:
    question, hint = row[QUESTION] or "", row.get(HINT) or ""
    if not question and kind != "caption":
        raise UserError(f"{row.where}: the question is empty; correct the file.")
    options = _options(row) if kind == "choice" else ()
    text = f"{hint}\n{question}" if hint else question
    references = _references(row, kind, options)
    sample = with_places(Sample(row.index, images, text, references, cluster, options, meta), row.where)
    if not hint or sample.content:
        return sample
    # For prompts with a place for the hint; not for a text with images in it, which these texts are without.
    return replace(sample, meta={**meta, HINT: hint, QUESTION: question})


def _options(row: TsvRow) -> tuple[str, ...]:
    options = row.options
    count = sum(1 for option in options if option)
    if count < 2:
        raise UserError(
            f"{row.where}: the question has {count} options in the columns A, B and so on; it needs at least two. "
            "Correct the file, or read it as other questions with --kind vqa."
        )
    return options


def _references(row: TsvRow, kind: Kind, options: Sequence[str]) -> tuple[str, ...]:
    """What the answer is scored against: a letter, yes or no, or texts."""
    answer = row[ANSWER]
    if answer is None:
        raise UserError(f"{row.where}: the answer is empty, so that the question cannot be scored; correct the file.")
    if kind == "choice":
        known = [letter for letter, option in zip(OPTIONS, options, strict=False) if option]
        if answer.strip() not in known:
            raise UserError(
                f"{row.where}: the answer is {shown(answer)}; expected the letter of one of its options "
                f"({', '.join(known)}). Correct the file, or read it as other questions with --kind vqa."
            )
        return LETTERS[answer.strip()]
    if kind == "yes_no":
        found = answer.strip().lower()
        if found not in (YES, NO):
            raise UserError(f"{row.where}: the answer is {shown(answer)}; expected yes or no.")
        return (found,)
    return texts_in_list(answer) or (answer,)


def _meta(row: TsvRow, columns: Sequence[str]) -> dict[str, Any]:
    """The cells in ``columns`` that are not empty; a category that is a list literal names several."""
    found: dict[str, Any] = {}
    for column in columns:
        cell = row[column]
        if cell is not None:
            name = RENAMED.get(column, column)
            found[name] = (list(texts_in_list(cell)) or cell) if name in CATEGORIES else cell
    return found


def texts_in_list(cell: str) -> tuple[str, ...]:
    """The texts in a list literal, ``['a', "b"]``; none if the cell is no list, or one of anything else."""
    if not (cell.startswith("[") and cell.endswith("]") and len(cell) <= LONGEST_LIST):
        return ()
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    return tuple(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else ()
