"""A finished run's samples as flat records, which every export writes: one dictionary a sample and run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl_task import SUFFIXES
from evalkit.results.store.scored_run import ScoredRun
from evalkit.task_groups import GROUPS
from evalkit.types import Sample

from .context import known_of
from .view import RunAnswer, SampleView, SplitContext, SplitView, Turns, check_runs, split_of

Record = dict[str, Any]

TEXTS = (
    "run", "model", "task", "split", "id", "cluster", "question", "prompt", "text", "answer", "status", "metric",
    "finish", "error",
)  # fmt: skip
LISTS = ("options", "references", "images", "shots")
BOXES = ("box", "reference_box")
NUMBERS = ("score", "seconds")
COUNTS = ("new_tokens", "prompt_tokens")
ORDER = (
    "run", "model", "task", "split", "id", "cluster", "images", "question", "options", "prompt", "text", "answer",
    "box", "references", "reference_box", "status", "metric", "score",
)  # fmt: skip
"""The columns that stand first; those of ``scores.*``, of the answer's making and of ``meta.*`` follow."""
LAST = ("finish", "error", "new_tokens", "prompt_tokens", "seconds", "shots")


def chosen_splits(runs: Sequence[ScoredRun], names: Sequence[str]) -> list[str]:
    """The splits of the runs that ``names`` mean (all of them where there are none), in the order of the runs.

    A name is a task's (all its splits), a split's (``refcoco/testA``) or a group's (``evalkit.task_groups``).

    Raises:
        UserError: a name is in none of the runs.
    """
    there = check_runs(runs)
    if not names:
        return there
    wanted = set()
    for name in names:
        meant = {split for part in GROUPS.get(name, (name,)) for split in there if split in (part, _named(part, split))}
        if not meant:
            where = " and ".join(str(run.path) for run in runs)
            raise UserError(f"--tasks {name}: not in {where}, which has {', '.join(there)}.")
        wanted |= meant
    return [split for split in there if split in wanted]


def _named(part: str, split: str) -> str:
    """``split`` where ``part`` is the name of its task, or of the file that the task is."""
    task = split.rpartition("/")[0]
    stem = part.rpartition("/")[2]
    own = stem.endswith(SUFFIXES) and stem.rpartition(".")[0] == task
    return split if part == task or own else ""


def records_of(
    run: ScoredRun, names: Sequence[str], *, data: str | None = None, prompts: bool = True
) -> Iterator[tuple[str, list[Record], SplitContext, Sequence[str]]]:
    """(split, its records in the official order, its context, notes), one per split.

    Args:
        names: of the run's splits.
        data: where the questions are now; None for where they were.
        prompts: whether to render what each sample was asked.

    Raises:
        UserError: a file of the run is corrupt.
    """
    for name in names:
        known = known_of([run], name, data)
        if not prompts:
            known = SplitContext(known.kind, known.samples, (), known.reads, known.edits, known.note)
        split = split_of([run], name, known)
        found = [record_of(run, split, shown, 0, known.samples.get(shown.id)) for shown in split.samples]
        yield name, [one for one in found if one is not None], known, split.notes


def record_of(run: ScoredRun, split: SplitView, shown: SampleView, place: int, sample: Sample | None) -> Record | None:
    """One run's side of a sample (the ``place``-th of ``shown``); None where the run has not answered it.

    ``text`` is the raw answer; what was read from it is in ``answer``, or in ``box`` where it is a box.  Boxes are
    (x1, y1, x2, y2) in pixels of the original image.  ``sample`` is None where the data are not there any more.
    """
    answer = shown.answers[place]
    if answer is None:
        return None
    task, _, part = split.name.rpartition("/")
    references = None if sample is None else sample.references
    record: Record = {
        "run": run.name,
        "model": run.model,
        "task": task,
        "split": part,
        "id": shown.id,
        "cluster": shown.cluster,
        "question": None if sample is None else shown.question,
        "options": list(shown.options),
        "references": None if references is None else [plain(r) for r in references if not is_box(r)],
        "reference_box": next((list(map(float, r)) for r in references or () if is_box(r)), None),
        "images": [image.name for image in shown.images],
        "prompt": prompt_text(answer.prompt) or None,
        "text": answer.text,
        "answer": None if answer.prediction is None or is_box(answer.prediction) else plain(answer.prediction),
        "box": list(map(float, answer.prediction)) if is_box(answer.prediction) else None,
        "status": answer.status,
        "metric": split.metric,
        "score": answer.scores.get(split.metric or ""),
        **_made(answer),
        **{f"scores.{name}": value for name, value in answer.scores.items()},
        **{f"meta.{key}": value for key, value in shown.meta.items()},
    }
    return {key: clean(value) for key, value in record.items()}


def _made(answer: RunAnswer) -> Record:
    """How the answer came about."""
    return {
        "finish": answer.finish,
        "error": answer.error,
        "new_tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "seconds": answer.seconds,
        "shots": list(answer.shots),
    }


def is_box(value: Any) -> bool:
    """Whether a reference, or what was read, is a box."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 4
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def plain(value: Any) -> str:
    """A reference as text; what is no text is written as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def prompt_text(turns: Turns) -> str:
    """A prompt as one text: alone where there is one turn, else each behind its role."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role}: {text}" for role, text in turns)


def clean(value: Any) -> Any:
    """``value`` with half surrogate pairs, which no file can hold, as question marks."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if isinstance(value, list | tuple):
        return [clean(one) for one in value]
    return value


# ------------------------------------------------------------------------------------------------------------- columns


def columns_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every column that a record has, in the order in which they are written."""
    seen = dict.fromkeys(key for record in records for key in record)
    scores = [key for key in seen if key.startswith("scores.")]
    meta = [key for key in seen if key.startswith("meta.")]
    return [*ORDER, *scores, *LAST, *meta]


def kind_of_column(name: str, values: Iterable[Any]) -> str:
    """What a column holds: ``text``, ``texts``, ``box``, ``number``, ``count``, ``truth``; ``json`` for a mixture."""
    for kind, names in (
        ("text", TEXTS), ("texts", LISTS), ("box", BOXES), ("number", NUMBERS), ("count", COUNTS),
    ):  # fmt: skip
        if name in names:
            return kind
    if name.startswith("scores."):
        return "number"
    found = {_kind_of(value) for value in values if value is not None}
    if found == {"count", "number"}:
        return "number"
    return found.pop() if len(found) == 1 else "text" if not found else "json"


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int):
        return "count" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "texts"
    return "json"


def as_kind(value: Any, kind: str) -> Any:
    """A value as its column holds it."""
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, default=str)
    if kind == "count" and not -(2**63) <= value < 2**63:
        return None  # a server's number of tokens that it cannot mean
    return float(value) if kind == "number" else value


def kinds_of(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What each column of all the records holds, in the order in which they are written."""
    return {name: kind_of_column(name, (record.get(name) for record in records)) for name in columns_of(records)}
