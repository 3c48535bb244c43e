"""What ``evalkit show`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from evalkit.errors import UserError
from evalkit.results.samples.context import known_of
from evalkit.results.samples.records import chosen_splits, record_of
from evalkit.results.samples.selection import OF_TWO, SORTS, by_id, endless, select
from evalkit.results.samples.text import FORMS, on_terminal
from evalkit.results.samples.view import Known, Shown, SplitShown, split_of, with_prompts
from evalkit.results.store.scored_run import ScoredRun
from evalkit.settings import split_list

FORMATS = (*FORMS, "json")
FEW = 3
"""Samples of each split where nothing is asked for."""


@dataclass(frozen=True)
class Wanted:
    """The options of ``evalkit show``; ``counts`` are by the sort of samples, in the order of showing."""

    tasks: Sequence[str]
    counts: Mapping[str, int]
    ids: Sequence[str]
    search: str
    sort: str | None
    format: str
    data: str | None


def execute(paths: Sequence[Path], wanted: Wanted) -> None:
    """Show the samples.  Raises ``UserError`` for whatever cannot be shown."""
    check(paths, wanted)
    runs = [ScoredRun.open(path) for path in paths]
    names = chosen_splits(runs, split_list(wanted.tasks))
    known = {name: known_of(runs, name, wanted.data) for name in names}
    # Prompts are made for the few samples that are shown only.
    splits = [split_of(runs, name, replace(known[name], asks=())) for name in names]
    if wanted.ids:
        found = by_id(splits, wanted.ids)
    else:
        counts = wanted.counts or {"any": FEW}
        found = {split.name: select(split, counts, wanted.sort, wanted.search) for split in splits}
    chosen = [(split, [with_prompts(one, known[split.name]) for one in found[split.name]]) for split in splits]
    write(runs, chosen, known, wanted)
    tell(chosen, wanted)


def check(paths: Sequence[Path], wanted: Wanted) -> None:
    """Raise ``UserError`` for options that do not go together."""
    if wanted.format not in FORMATS:
        raise UserError(f"--format {wanted.format}: there are {', '.join(FORMATS)}.")
    if wanted.sort is not None and wanted.sort not in SORTS:
        raise UserError(f"--sort {wanted.sort}: there are {', '.join(SORTS)}.")
    two = [f"--{name}" for name in wanted.counts if name in OF_TWO]
    two += [f"--sort {wanted.sort}"] if wanted.sort in OF_TWO else []
    if two and len(paths) < 2:
        raise UserError(f"{two[0]} is about two runs: give a second one, 'evalkit show {paths[0]} RUN_B {two[0]} …'.")
    if len(paths) > 1 and paths[0].resolve() == paths[1].resolve():
        raise UserError(f"{paths[0]} and {paths[1]} are the same run; give one, or another as the second.")
    if wanted.ids and (wanted.counts or wanted.search or wanted.sort):
        raise UserError("--id names the samples to show; leave the counts, --search and --sort out.")


def write(
    runs: Sequence[ScoredRun],
    chosen: Sequence[tuple[SplitShown, Sequence[Shown]]],
    known: Mapping[str, Known],
    wanted: Wanted,
) -> None:
    """Print the samples."""
    if wanted.format == "json":
        records = [
            record
            for split, samples in chosen
            for shown in samples
            for place, run in enumerate(runs)
            if (record := record_of(run, split, shown, place, known[split.name].samples.get(shown.id))) is not None
        ]
        # In ASCII, so that nothing in it steers the terminal, and nothing is lost.
        print(json.dumps(records, indent=2))
        return
    console = Console()
    for split, samples in chosen:
        for shown in samples:
            if wanted.format == "text" and console.is_terminal:
                on_terminal(console, split, shown)
            else:
                print(FORMS[wanted.format](split, shown))


def tell(chosen: Sequence[tuple[SplitShown, Sequence[Shown]]], wanted: Wanted) -> None:
    """Say on stderr what a reader must know."""
    console = Console(stderr=True, highlight=False)
    for split, samples in chosen:
        for note in split.notes:
            console.print(f"note: {split.name}: {note}", soft_wrap=True, markup=False)
        if endless(split) and {"wrong", "right", "flipped"} & set(wanted.counts):
            console.print(
                f"note: {split.name}: {split.metric} has no right and wrong: the lowest stand for the wrong ones, the "
                "highest for the right ones, the largest changes for the flipped ones.",
                soft_wrap=True, markup=False,
            )  # fmt: skip
        if not samples:
            console.print(f"{split.name}: no sample fits (of {len(split.samples):,})", soft_wrap=True, markup=False)
