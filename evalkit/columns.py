"""Which columns of a table hold what of a sample: the table ``columns`` of a described task.

A field, such as ``image`` or ``answers``, is taken from the column of the same name unless ``columns`` says otherwise:

    [columns]
    id = "question_id"                                    # another column
    image = ["left", "right"]                             # several columns, one image each
    question = { text = "{question} Answer in {unit}." }  # a text with columns in it
    options = { value = ["yes", "no"] }                   # the same for all samples
    answers = { column = "gold", split = "|" }            # several texts in one cell
    options = { column = "choices", lettered = true }     # each begins with its letter: "A. red"
    answer = { column = "label", first = 0 }              # the number of an option, counted from 0
    box = { column = "bbox", format = "xywh" }            # a corner, width and height
    boxes = { column = "bboxes", labels = "names" }       # the boxes and their labels in two columns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl_sample import REFERENCES
from evalkit.stated import Stated, plain_value
from evalkit.types import Kind
from evalkit.values import shown

COMMON = ("id", "image", "video", "video_start", "video_end", "question", "messages", "hint", "cluster")
LISTS = ("answers", "captions", "options", "categories")
"""Fields that are lists of texts."""
OTHER_NAMES: Mapping[str, Sequence[str]] = {
    "id": ("index", "question_id"), "answers": ("answer",), "captions": ("caption",), "image": ("image_path",),
}  # fmt: skip
"""Columns in which a field is looked for if there is none of its name, and ``columns`` does not say."""
MODIFIERS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(LISTS, ("split",)),
    "options": ("split", "lettered"),
    "answer": ("first",),
    "box": ("format",),
    "boxes": ("format", "labels"),
    "image": ("folder",),
    "video": ("folder",),
}
"""What a table can say of a field beside where it comes from."""
FORMATS = ("xyxy", "xywh")
EXAMPLE = '"column", ["column 1", "column 2"], { text = "… {column} …" } or { value = … }'


@dataclass(frozen=True)
class Column:
    """Where a field's value comes from.

    Attributes:
        field: of the sample.
        names: the columns; several are a list of their values.
        several: whether the value is a list with an entry of each column.
        text: a text with the names of columns in braces; empty if there is none.
        value: the same for all samples; None if it is not.
        split: what separates the texts in a cell; empty if a cell is one text, or a list.
        lettered: whether options begin with their letters, which are not part of them.
        first: the number of the first option; None if options are not numbered.
        format: of boxes: two corners, or a corner, width and height.
        labels: the column of the labels of boxes; empty if they are with the boxes.
        folder: of image and video files.
        where: its place in the file, for messages.
    """

    field: str
    names: tuple[str, ...] = ()
    several: bool = False
    text: str = ""
    value: Any = None
    split: str = ""
    lettered: bool = False
    first: int | None = None
    format: str = "xyxy"
    labels: str = ""
    folder: str = ""
    where: str = ""

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that it needs."""
        return (*self.names, *columns_in(self.text), *((self.labels,) if self.labels else ()))


def columns_in(text: str) -> tuple[str, ...]:
    """The names in braces in a text."""
    return tuple(name for _, name, _, _ in Formatter().parse(text) if name is not None)


def fields_of(kind: Kind) -> tuple[str, ...]:
    """The fields that samples of a kind can have."""
    return (*COMMON, *REFERENCES[kind])


def columns_of(kind: Kind) -> list[str]:
    """The columns that fields are taken from if a description does not say."""
    return [name for field in fields_of(kind) for name in (field, *OTHER_NAMES.get(field, ()))]


def read_columns(stated: Stated, kind: Kind | None) -> dict[str, Column]:
    """The columns of each field that ``stated`` names.

    Args:
        kind: of the task; None if it is not known yet.

    Raises:
        UserError: an unknown field, or a value that is none of those in the module's documentation.
    """
    if kind is not None:
        for field in stated.values:
            if field not in fields_of(kind) and any(field in of_kind for of_kind in REFERENCES.values()):
                names = " and ".join(REFERENCES[kind])
                stated.refuse(field, f"is for another kind of task: one of the kind {kind} has {names}")
    every = dict.fromkeys(field for of_kind in REFERENCES for field in fields_of(of_kind))
    stated.check_keys(fields_of(kind) if kind is not None else tuple(every))
    return {field: _column(stated, field) for field in stated.values}


def _column(stated: Stated, field: str) -> Column:
    value, where = stated.values[field], stated.where(field)
    if isinstance(value, str | list):
        names = stated.names(field, EXAMPLE)
        if not names:
            stated.wrong(field, EXAMPLE)
        return Column(field, names, isinstance(value, list), where=where)
    table = stated.table(field, EXAMPLE)
    modifiers = MODIFIERS.get(field, ())
    sources = ("column", "columns", "text", "value")
    table.check_keys((*sources, *modifiers))
    given = [source for source in sources if source in table]
    if len(given) != 1 and not (not given and "folder" in table):
        stated.wrong(field, f"one of {', '.join(sources[:-1])} and value")
    source = given[0] if given else ""
    found = Column(
        field,
        names=table.names(source, "a column") if source in ("column", "columns") else (),
        several=source == "columns",
        text=_template(table) if source == "text" else "",
        value=_constant(table),
        split=_split(table),
        lettered=table.flag("lettered", default=False),
        first=_first(table),
        format=table.one_of("format", FORMATS, FORMATS[0]),
        labels=table.text("labels", "a column", default=""),
        folder=table.text("folder", "a folder", default=""),
        where=where,
    )
    if source in ("column", "columns") and not found.names:
        table.wrong(source, "a column")
    return found


def _constant(table: Stated) -> Any:
    try:
        return plain_value(table.values.get("value"))
    except ValueError as error:
        table.refuse("value", f"has {error}")


def _split(table: Stated) -> str:
    value = table.values.get("split", "")
    if "split" in table and (not isinstance(value, str) or not value):
        table.wrong("split", "what separates the texts, such as |")
    return str(value)


def _first(table: Stated) -> int | None:
    value = table.values.get("first")
    if value is not None and (type(value) is not int or value not in (0, 1)):
        table.wrong("first", "0 or 1, the number of the first option")
    return value


def _template(table: Stated) -> str:
    """The text, in which braces hold names of columns."""
    text = table.text("text", "a text with columns in braces, such as {question}")
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        table.refuse("text", f"is {shown(text)}: {error}; braces that are no columns are doubled")
    for _, name, spec, conversion in parts:
        if name is not None and (not name or spec or conversion):
            table.refuse("text", f"is {shown(text)}; braces hold the name of a column, and others are doubled")
    return text


def located(columns: Mapping[str, Column], kind: Kind, there: Sequence[str], source: str) -> dict[str, Column]:
    """``columns`` with the columns of the fields that they do not name, in a table with the columns ``there``.

    Args:
        source: the table's name, for messages.

    Raises:
        UserError: a column does not exist.
    """
    for column in columns.values():
        for name in column.used:
            if name not in there:
                has = shown(", ".join(there))
                raise UserError(
                    f"{column.where}: columns.{column.field} names the column {shown(name)}, and {source} has none of "
                    f"that name (it has {has})."
                )
    found: dict[str, Column] = {}
    for field in fields_of(kind):
        stated = columns.get(field)
        if stated is not None and (stated.used or stated.value is not None):
            found[field] = stated
            continue
        named = [name for name in (field, *OTHER_NAMES.get(field, ())) if name in there]
        if named:
            found[field] = replace(stated or Column(field), names=(named[0],))
    _check_needed(found, kind, f"{source} has no column of that name (it has {shown(', '.join(there))})")
    return found


def _check_needed(found: Mapping[str, Column], kind: Kind, missing: str) -> None:
    """Refuse a table without the fields that every sample of the kind has."""
    asked = () if kind in ("caption", "detection") or "messages" in found else ("question",)
    for field in (*asked, *REFERENCES[kind]):
        if field not in found:
            raise UserError(f'a task of the kind {kind} needs {field}, and {missing}; name it: columns.{field} = "…".')
    if not {"image", "video", "messages"} & set(found):
        raise UserError(
            f'there is neither image nor video: {missing}; name it: columns.image = "…", or say that there is none: '
            "columns.image = { value = [] }."
        )
