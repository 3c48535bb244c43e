"""The formats of custom task files, and where such a file is now."""

from __future__ import annotations

from pathlib import Path

from evalkit.errors import UserError
from evalkit.file_task import FileTask
from evalkit.jsonl_task import read_jsonl_task
from evalkit.paths import user_path
from evalkit.toml_task import read_toml_task
from evalkit.tsv_task import read_tsv_task

SUFFIXES = (".jsonl", ".json", ".tsv", ".toml")
OTHER_SUFFIXES = (".csv", ".xlsx", ".parquet", ".arrow", ".txt", ".yaml", ".yml", ".pkl", ".p", ".zip")
"""Names of files that people have, which are no custom tasks; no benchmark's name ends in one."""
TABLES = (".csv", ".parquet")
"""Those of them that a described task can have its rows in."""


def read_task_file(path: Path, kind: str | None = None) -> FileTask:
    """The task in ``path``; ``kind`` is the value of ``--kind``.

    Raises:
        UserError: the file is missing, or not as its format says (``evalkit.jsonl_task``, ``evalkit.tsv_task``,
            ``evalkit.toml_task``).
    """
    suffix = path.suffix.lower()
    read = read_tsv_task if suffix == ".tsv" else read_toml_task if suffix == ".toml" else read_jsonl_task
    return read(path, kind)


def is_task_file(name: str) -> bool:
    """Whether a name in ``--tasks`` is a custom task file.

    Raises:
        UserError: it is a file in another format.
    """
    if name.lower().endswith(OTHER_SUFFIXES):
        if name.lower().endswith(TABLES):
            raise UserError(
                f"--tasks {name}: say what its columns are in a file mine.toml, and give that: "
                f'kind = "vqa", rows = "{Path(name).name}", columns = {{ image = …, question = …, answers = … }}.'
            )
        raise UserError(
            f"--tasks {name}: custom tasks are JSON, one object per line (.jsonl) or a list of them (.json), such as "
            f'{{"id": "1", "image": "images/1.jpg", "question": …, "answers": […]}}, or tab-separated (.tsv) with the '
            "columns index, image, question, answer; convert the file."
        )
    return name.lower().endswith(SUFFIXES)


def relocated(reference: str, data: str | None) -> str:
    """``reference`` (of a ``Job``); a custom task file where ``--data`` says that it is now.

    Args:
        data: the folder that holds the file, or the file itself; None for where it was.

    Raises:
        UserError: the file is in neither place.
    """
    if not is_task_file(reference):
        return reference
    name = Path(reference).name
    if data is not None:
        given = user_path(data, "--data")
        here = given if given.name == name else given / name
        if here.is_file():
            return str(here)
    if not Path(reference).is_file():
        where = reference if data is None else f"{reference} or {data}"
        raise UserError(f"there is no file {where}; give the folder that has {name} now with --data.")
    return reference


def data_of_tasks(data: str | None, before: str) -> str:
    """The data of the other tasks, where ``--data`` may name a custom task file; ``before`` is where they were."""
    return before if data is None or data.lower().endswith(SUFFIXES) else data
