"""What MMMU and MMMU-Pro share: subjects, options in a text, images by number, VLMEvalKit's prompt."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from evalkit.data import shown
from evalkit.images import RowImage
from evalkit.types import ImageRef

IMAGES = 7
IMAGE_COLUMNS = tuple(f"image_{number}" for number in range(1, IMAGES + 1))

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech and Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power",
        "Materials", "Mechanical_Engineering",
    ),
}  # fmt: skip
"""The disciplines and their 30 subjects."""
DOMAIN_OF = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}

_SUBJECT = re.compile(r"[a-z]+_(?P<subject>.+)_\d+")


def subject_of(question_id: str, named: str | None = None) -> str:
    """The subject of a question: from its id (``validation_Art_Theory_3``), else the ``named`` one.

    Raises:
        ValueError: it is none of the 30.
    """
    match = _SUBJECT.fullmatch(question_id)
    subject = match["subject"] if match else (named or "").strip().replace(" ", "_")
    if subject not in DOMAIN_OF:
        raise ValueError(f"{shown(question_id)} is of no subject of MMMU")
    return subject


def listed(value: Any, what: str, *, lists: bool = False) -> tuple[str, ...]:
    """The texts in a list, or in a text that is a list as Python writes it.

    Args:
        lists: whether a list in the list is a text, as Python writes it.

    Raises:
        ValueError: it is neither; ``what`` is its name.
    """
    found = value
    if isinstance(value, str):
        try:
            found = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
    if lists and isinstance(found, list):
        found = [str(one) if isinstance(one, list) else one for one in found]
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{what} is {shown(value)}, not a list of texts")
    return tuple(found)


class NumberedImages:
    """The images in the columns ``image_1`` to ``image_7`` of a data set.

    Args:
        name: the data set and split, for messages.
    """

    def __init__(self, name: str, rows: Any) -> None:
        self._name = name
        self._rows = rows
        self._present = {
            number: rows.data.column(column).is_valid().to_pylist()
            for number, column in enumerate(IMAGE_COLUMNS, 1)
            if column in rows.column_names
        }

    def of(self, index: int) -> dict[int, ImageRef]:
        """The images of a row by number, without the empty cells."""
        return {
            number: RowImage(f"{self._name}[{index}].image_{number}", self._rows, index, f"image_{number}")
            for number, present in self._present.items()
            if present[index]
        }
