"""Finds the results of other harnesses in files and folders, by their content, and pairs them with tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError

from . import evalscope, inspect_log, samples_files, vlmevalkit
from .files import content_of, files_below, first_object
from .foreign import ForeignResults

HARNESSES = ("lmms-eval", "vlmevalkit", "lm-eval", "evalscope", "inspect")
"""What ``--from`` names."""
SUPPORTED = (
    "lmms-eval's and lm-evaluation-harness's samples_*.jsonl, VLMEvalKit's tables (.xlsx, .tsv, .json), EvalScope's "
    "predictions and reviews, and Inspect's logs (.json, .eval)"
)
PICKLES = (".pkl", ".pickle", ".p")
EXAMPLES = 6
_NOT_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Reading:
    """How the user wants results to be read: which score of the harness, and which filter of lm-evaluation-harness."""

    metric: str | None = None
    filter: str | None = None


@dataclass(frozen=True)
class Source:
    """A file with the results of a task."""

    path: Path
    task: str
    read: Callable[[Path, Reading], ForeignResults]


def _samples(path: Path, how: Reading) -> ForeignResults:
    return samples_files.read_samples(path, metric=how.metric, chosen_filter=how.filter)


def _table(path: Path, how: Reading) -> ForeignResults:
    return vlmevalkit.read_table(path, metric=how.metric)


def _scope(path: Path, how: Reading) -> ForeignResults:
    return evalscope.read_evalscope(path, metric=how.metric)


def _log(path: Path, how: Reading) -> ForeignResults:
    return inspect_log.read_log(path, metric=how.metric)


def find_sources(paths: Sequence[Path], harness: str | None = None) -> list[Source]:
    """The results in files, and in folders of them.

    Args:
        harness: one of ``HARNESSES`` that must have written them; None for any.

    Raises:
        UserError: a file is of no known kind, or a folder has no results.
    """
    found: list[Source] = []
    for path in paths:
        if path.is_dir():
            found += _in_folder(path, harness)
        else:
            source = source_of(path, harness)
            found.append(source)
    return found


def _in_folder(folder: Path, harness: str | None) -> list[Source]:
    files = files_below(folder)
    found = [source for path in files if (source := _candidate(path, harness)) is not None]
    # VLMEvalKit evaluates a table into others of longer names, and EvalScope writes reviews of predictions.
    tables = {source.path.with_suffix("") for source in found if source.read is _table}
    reviewed = {source.path for source in found if source.read is _scope}
    kept = []
    for source in found:
        path = source.path
        if source.read is _table and any(
            path.parent == other.parent and path.stem.startswith(f"{other.name}_") for other in tables
        ):
            continue
        if source.read is _scope and path.parent.parent.name == evalscope.REVIEWS:
            beside = path.parent.parent.with_name(evalscope.PREDICTIONS) / path.parent.name / path.name
            if beside in reviewed:
                continue
        kept.append(source)
    if not kept:
        pickles = sum(path.suffix in PICKLES for path in files)
        more = f"; its {pickles:,} pickles are not read, since they can execute code" if pickles else ""
        raise UserError(f"{folder}: none of its {len(files):,} files is known{more}; evalkit reads {SUPPORTED}.")
    return kept


def _candidate(path: Path, harness: str | None) -> Source | None:
    """The results in a file of a folder; None if it is of another kind, as most are."""
    if path.suffix not in (".jsonl", ".eval", *vlmevalkit.TABLES):
        return None
    try:
        return source_of(path, harness)
    except UserError:
        return None


def source_of(path: Path, harness: str | None = None) -> Source:
    """The results in a file.

    Raises:
        UserError: it is of no known kind, or of another harness than ``harness``.
    """
    if path.suffix in PICKLES:
        raise UserError(
            f"{path}: pickles are not read, since they can execute code; give the table beside it (VLMEvalKit writes "
            "MODEL_DATASET.xlsx), or write one: pandas.read_pickle(…).to_csv('answers.tsv', sep='\\t', index=False)."
        )
    found, name = _kind_of(path)
    if harness is not None and harness != name:
        raise UserError(f"--from {harness}: {path} is of {name}.")
    return found


def _kind_of(path: Path) -> tuple[Source, str]:
    if path.suffix == ".eval":
        return Source(path, inspect_log.task_of(path), _log), "inspect"
    if path.suffix == ".jsonl":
        row = first_object(path)
        if samples_files.is_samples(row):
            name = "lmms-eval" if "input" in row else "lm-eval"
            return Source(path, samples_files.task_of(path), _samples), name
        if evalscope.is_prediction(row) or evalscope.is_review(row):
            return Source(path, path.stem, _scope), "evalscope"
        keys = ", ".join(map(repr, list(row)[:EXAMPLES]))
        raise UserError(
            f"{path} has lines with {keys[:300] or 'no keys'}, which is no known form; evalkit reads {SUPPORTED} "
            "('evalkit score' reads plain files of answers)."
        )
    if path.suffix in (".xlsx", ".xls", ".tsv", ".csv"):
        if vlmevalkit.is_aggregate(path):
            raise UserError(f"{path} has aggregates only; give the table of predictions, MODEL_DATASET.xlsx or .tsv.")
        return Source(path, path.stem, _table), "vlmevalkit"
    if path.suffix == ".json":
        start = content_of(path).lstrip(b"\xef\xbb\xbf \t\r\n")
        if start.startswith(b"["):
            return Source(path, path.stem, _table), "vlmevalkit"
        if b'"status"' in start and b'"eval"' in start and b'"version"' in start[:1000]:
            return Source(path, inspect_log.task_of(path), _log), "inspect"
        raise UserError(
            f"{path} is of no known form (a results file of aggregates, perhaps; the answers are in samples_*.jsonl); "
            f"evalkit reads {SUPPORTED}."
        )
    kind = f"files ending in {path.suffix[:20]}" if path.suffix else "files without an ending"
    raise UserError(f"{path}: {kind} are not known; evalkit reads {SUPPORTED}.")


def pair(sources: Sequence[Source], splits: Sequence[tuple[str, str]]) -> list[Source]:
    """The source of each split, by the names of their tasks; in order, if they are as many.

    Args:
        splits: (task, split) of each.

    Raises:
        UserError: a split has no source, or several.
    """
    named = [_named(sources, task, split) for task, split in splits]
    if all(len(found) == 1 for found in named):
        return [found[0] for found in named]
    if len(sources) == len(splits) == 1:
        return list(sources)
    listed = ", ".join(f"{one.task} ({one.path})" for one in sources[:EXAMPLES]) + (
        ", …" if len(sources) > EXAMPLES else ""
    )
    for (task, split), found in zip(splits, named, strict=True):
        if len(found) > 1:
            several = ", ".join(str(one.path) for one in found[:EXAMPLES])
            raise UserError(f"{task}/{split} fits {len(found)} results ({several}); give the file of one.")
    if len(sources) == len(splits):
        return list(sources)
    task, split = next(one for one, found in zip(splits, named, strict=True) if not found)
    raise UserError(f"{task}/{split}: none of the results has its name; found {listed}. Give the file, for one task.")


def _named(sources: Sequence[Source], task: str, split: str) -> list[Source]:
    """The sources whose task is called like a split's; else those whose name ends with it."""
    wanted = {_plain(task), _plain(f"{task}{split}")}
    exact = [one for one in sources if _plain(one.task) in wanted]
    if exact:
        return exact
    return [
        one
        for one in sources
        if any(_plain(one.task).endswith(name) or f"_{task}_".lower() in f"_{one.task}_".lower() for name in wanted)
    ]


def _plain(name: str) -> str:
    return _NOT_WORDS.sub("", name.casefold())
