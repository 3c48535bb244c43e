"""Flat records of a finished run, as every export writes them: one dictionary per sample and run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.errors import UserError
from evalkit.results.store.scored_run import ScoredRun
from evalkit.task_files import SUFFIXES
from evalkit.task_groups import GROUPS
from evalkit.types import ImageRef, Sample

from .context import context_of
from .join import check_runs, split_of
from .view import RunAnswer, SampleView, SplitView, Turns

Record = dict[str, Any]

TEXTS = (
    "run", "model", "task", "split", "id", "cluster", "question", "prompt", "text", "reasoning", "final", "answer",
    "status", "metric", "finish", "error",
)  # fmt: skip
LISTS = ("options", "references", "images", "videos", "shots")
BOXES = ("box", "reference_box")
NUMBERS = ("score", "seconds")
COUNTS = ("new_tokens", "reasoning_tokens", "prompt_tokens", "repeat")
ORDER = (
    "run", "model", "task", "split", "id", "cluster", "images", "question", "options", "prompt", "text", "reasoning",
    "final", "answer", "box", "references", "reference_box", "status", "metric", "score",
)  # fmt: skip
"""The first columns; ``scores.*``, ``LAST`` and ``meta.*`` follow."""
LAST = ("finish", "error", "new_tokens", "reasoning_tokens", "prompt_tokens", "seconds", "shots")


def chosen_splits(runs: Sequence[ScoredRun], names: Sequence[str]) -> list[str]:
    """The splits of the runs that ``names`` select (without names: all), in the order of the runs.

    A name is a task's (all its splits), a split's (``refcoco/testA``) or a group's (``evalkit.task_groups``).

    Raises:
        UserError: a name is in none of the runs.
    """
    existing = check_runs(runs)
    if not names:
        return existing
    chosen: set[str] = set()
    for name in names:
        found = {split for split in existing for part in GROUPS.get(name, (name,)) if _names(part, split)}
        if not found:
            where = " and ".join(str(run.path) for run in runs)
            raise UserError(f"--tasks {name}: not in {where}, which has {', '.join(existing)}.")
        chosen |= found
    return [split for split in existing if split in chosen]


def _names(name: str, split: str) -> bool:
    """Whether ``name`` is the split, its task, or the file of its custom task."""
    task = split.rpartition("/")[0]
    file = name.rpartition("/")[2]
    return name in (split, task) or (file.lower().endswith(SUFFIXES) and file.rpartition(".")[0] == task)


def records_of(
    run: ScoredRun, names: Sequence[str], *, data: str | None = None, prompts: bool = True
) -> Iterator[tuple[str, list[Record], Mapping[str, Sequence[ImageRef]], Sequence[str]]]:
    """Yield (split, its records in the official order, its images by sample id, notes) per split.

    Args:
        names: splits of the run.
        data: the location of the data; None for where it was during the run.
        prompts: whether to render the prompt of each sample.

    Raises:
        UserError: a file of the run is corrupt.
    """
    for name in names:
        context = context_of([run], name, data)
        if not prompts:
            context = replace(context, render_prompt=())
        split = split_of([run], name, context)
        samples = context.samples
        found = [one for s in split.samples for one in sample_records(run, split, s, 0, samples.get(s.id))]
        images = {shown.id: shown.images for shown in split.samples}
        yield name, found, images, split.notes


def sample_records(
    run: ScoredRun, split: SplitView, shown: SampleView, place: int, sample: Sample | None
) -> Iterator[Record]:
    """The record of each answer of run number ``place`` to a sample; none if the run did not answer it.

    ``text`` is the raw answer, ``reasoning`` and ``final`` are its parts; the prediction is in ``answer``, or in
    ``box`` if it is a box.  Boxes are (x1, y1, x2, y2) in pixels of the original image.  ``sample`` is None if the data
    is no longer available.
    """
    summary = shown.answers[place]
    if summary is None:
        return
    for number, one in enumerate(summary.each, start=1):
        repeat = {"repeat": number} if summary.repeats else {}
        yield _record(run, split, shown, replace(one, prompt=summary.prompt), sample) | repeat


def _record(run: ScoredRun, split: SplitView, shown: SampleView, answer: RunAnswer, sample: Sample | None) -> Record:
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
        **({"videos": [video.name for video in shown.videos]} if shown.videos else {}),
        "prompt": prompt_text(answer.prompt) or None,
        "text": answer.text,
        "reasoning": None if answer.final is None else answer.reasoning,
        "final": answer.text if answer.final is None else answer.final,
        "answer": None if answer.prediction is None or is_box(answer.prediction) else plain(answer.prediction),
        "box": list(map(float, answer.prediction)) if is_box(answer.prediction) else None,
        **({"verdicts": list(answer.verdicts.values())} if answer.verdicts else {}),
        "status": answer.status,
        "metric": split.metric,
        "score": answer.scores.get(split.metric or ""),
        **_generation(answer),
        **{f"scores.{name}": value for name, value in answer.scores.items()},
        **{f"meta.{key}": value for key, value in shown.meta.items()},
    }
    return {key: clean(value) for key, value in record.items()}


def _generation(answer: RunAnswer) -> Record:
    """The columns about how the answer was generated."""
    return {
        "finish": answer.finish,
        "error": answer.error,
        "new_tokens": answer.tokens,
        "reasoning_tokens": answer.reasoning_tokens,
        "prompt_tokens": answer.prompt_tokens,
        "seconds": answer.seconds,
        "shots": list(answer.shots),
    }


def is_box(value: Any) -> bool:
    """Whether a reference or a prediction is a box."""
    return _are_numbers(value, 4)


def is_point(value: Any) -> bool:
    """Whether a prediction is a point."""
    return _are_numbers(value, 2)


def is_span(value: Any, kind: str | None) -> bool:
    """Whether a reference or a prediction is a span of time, given the kind of its sample."""
    return kind == "temporal_grounding" and _are_numbers(value, 2) and all(map(math.isfinite, value))


def is_labelled_box(value: Any) -> bool:
    """Whether a reference, or a part of a prediction, is a labelled box."""
    return isinstance(value, Mapping) and "label" in value and is_box(value.get("box"))


def are_labelled_boxes(value: Any) -> bool:
    """Whether a prediction is a list of labelled boxes; also of none."""
    return isinstance(value, list | tuple) and all(map(is_labelled_box, value))


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def plain(value: Any) -> str:
    """A reference as text; JSON for other values."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def prompt_text(turns: Turns) -> str:
    """A prompt as one text; with several messages, each after its role."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role}: {text}" for role, text in turns)


def clean(value: Any) -> Any:
    """``value`` with lone surrogates, which UTF-8 cannot encode, as question marks."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if isinstance(value, list | tuple):
        return [clean(one) for one in value]
    return value


# ------------------------------------------------------------------------------------------------------------- columns


def columns_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """All columns of the records, in output order."""
    seen = dict.fromkeys(key for record in records for key in record)
    scores = [key for key in seen if key.startswith("scores.")]
    meta = [key for key in seen if key.startswith("meta.")]
    repeat = ["repeat"] if "repeat" in seen else []
    videos = ["videos"] if "videos" in seen else []
    return [*ORDER, *videos, *scores, *LAST, *repeat, *meta]


def kind_of_column(name: str, values: Iterable[Any]) -> str:
    """A column's type: ``text``, ``texts``, ``box``, ``number``, ``count``, ``truth``; ``json`` for mixed types."""
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
    """A value converted to its column's type."""
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, default=str)
    if kind == "count" and not -(2**63) <= value < 2**63:
        return None  # a server's number of tokens that it cannot mean
    return float(value) if kind == "number" else value


def kinds_of(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The type of each column, in output order."""
    return {name: kind_of_column(name, (record.get(name) for record in records)) for name in columns_of(records)}
