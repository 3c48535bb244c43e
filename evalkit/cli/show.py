"""``evalkit show``: samples of a finished run, in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.samples.context import context_of
from evalkit.results.samples.join import split_of, with_prompts
from evalkit.results.samples.records import chosen_splits, sample_records
from evalkit.results.samples.selection import OF_TWO, SORTS, by_id, endless, select
from evalkit.results.samples.text import FORMS, on_terminal
from evalkit.results.samples.view import SampleView, SplitContext, SplitView
from evalkit.results.store.scored_run import ScoredRun
from evalkit.settings import split_list

from .options import complete_task

FORMATS = (*FORMS, "json")
DEFAULT_COUNT = 3
"""Samples shown per split when no count is given."""


def show(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    run_b: Annotated[
        Path | None, typer.Argument(help="A second run, B, to compare with.", metavar="RUN_B", show_default=False)
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_task,
            show_default="all in the run",
            help="Tasks, splits (refcoco/testA) or groups of the run, comma-separated.",
        ),
    ] = None,
    wrong: Annotated[
        int | None, typer.Option("--wrong", min=1, metavar="N", help="N wrong answers (CIDEr: the lowest scores).")
    ] = None,
    right: Annotated[
        int | None, typer.Option("--right", min=1, metavar="N", help="N right answers (CIDEr: the highest scores).")
    ] = None,
    partly: Annotated[int | None, typer.Option("--partly", min=1, metavar="N", help="N partly right answers.")] = None,
    unparsed: Annotated[
        int | None, typer.Option("--unparsed", min=1, metavar="N", help="N answers that could not be parsed.")
    ] = None,
    errors: Annotated[int | None, typer.Option("--errors", min=1, metavar="N", help="N samples that failed.")] = None,
    flipped: Annotated[
        int | None,
        typer.Option("--flipped", min=1, metavar="N", help="N samples that only one of the two runs has right."),
    ] = None,
    number: Annotated[int | None, typer.Option("--any", min=1, metavar="N", help="N samples of any kind.")] = None,
    id: Annotated[list[str] | None, typer.Option("--id", help="The sample with this id; repeatable.")] = None,
    search: Annotated[
        str, typer.Option("--search", help="Only samples that contain all these words.", show_default=False)
    ] = "",
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            show_default="official order",
            help="official, worst, best, longest or random; with RUN_B also gains or losses of B.",
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="text, md (for an issue), or json.")] = "text",
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Show the complete reasoning before answers.")] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the data is now.", show_default="where it was during the run"),
    ] = None,
) -> None:
    """Show samples: image, prompt, raw answer, references, scores.

    Counts are per split and can be combined: --wrong 5 --right 2. Without any, three samples of each split are shown.
    With two runs, the counts refer to the first, and both answers are shown.

    Exit code: 0, or 2 for a mistake in the command or its input.
    """
    by_kind = {
        "wrong": wrong, "partly": partly, "right": right, "unparsed": unparsed, "errors": errors, "flipped": flipped,
        "any": number,
    }  # fmt: skip
    counts = {name: count for name, count in by_kind.items() if count is not None}
    options = ShowOptions(tasks or (), counts, id or (), search, sort, format, data, reasoning)
    show_samples([run] if run_b is None else [run, run_b], options)


@dataclass(frozen=True)
class ShowOptions:
    """The options of ``evalkit show``; ``counts`` are by kind of sample, in the order shown."""

    tasks: Sequence[str]
    counts: Mapping[str, int]
    ids: Sequence[str]
    search: str
    sort: str | None
    format: str
    data: str | None
    reasoning: bool = False


def show_samples(paths: Sequence[Path], options: ShowOptions) -> None:
    """Select and print the samples.

    Raises:
        UserError: options that exclude each other, or a run that cannot be read.
    """
    check_options(paths, options)
    runs = [ScoredRun.open(path) for path in paths]
    names = chosen_splits(runs, split_list(options.tasks))
    contexts = {name: context_of(runs, name, options.data) for name in names}
    # Prompts are rendered only for the samples that are shown.
    splits = [split_of(runs, name, replace(contexts[name], render_prompt=())) for name in names]
    if options.ids:
        found = by_id(splits, options.ids)
    else:
        counts = options.counts or {"any": DEFAULT_COUNT}
        found = {split.name: select(split, counts, options.sort, options.search) for split in splits}
    chosen = [(split, [with_prompts(one, contexts[split.name]) for one in found[split.name]]) for split in splits]
    print_samples(runs, chosen, contexts, options)
    print_notes(chosen, options)


def check_options(paths: Sequence[Path], options: ShowOptions) -> None:
    """Raise ``UserError`` for unknown values and options that exclude each other."""
    if options.format not in FORMATS:
        raise UserError(f"--format {options.format}: unknown; use one of {', '.join(FORMATS)}.")
    if options.sort is not None and options.sort not in SORTS:
        raise UserError(f"--sort {options.sort}: unknown; use one of {', '.join(SORTS)}.")
    needs_two = [f"--{name}" for name in options.counts if name in OF_TWO]
    needs_two += [f"--sort {options.sort}"] if options.sort in OF_TWO else []
    if needs_two and len(paths) < 2:
        option = needs_two[0]
        raise UserError(f"{option} compares two runs: add a second one, 'evalkit show {paths[0]} RUN_B {option} …'.")
    if len(paths) > 1 and paths[0].resolve() == paths[1].resolve():
        raise UserError(f"{paths[0]} and {paths[1]} are the same run; give one, or two different runs.")
    if options.ids and (options.counts or options.search or options.sort):
        raise UserError("--id names the samples to show; drop the counts, --search and --sort.")


def print_samples(
    runs: Sequence[ScoredRun],
    chosen: Sequence[tuple[SplitView, Sequence[SampleView]]],
    contexts: Mapping[str, SplitContext],
    options: ShowOptions,
) -> None:
    """Print the samples in the chosen format."""
    if options.format == "json":
        records = [
            record
            for split, samples in chosen
            for shown in samples
            for place, run in enumerate(runs)
            for record in sample_records(run, split, shown, place, contexts[split.name].samples.get(shown.id))
        ]
        # ASCII only: no control characters reach the terminal, and nothing is lost.
        print(json.dumps(records, indent=2))
        return
    console = new_console()
    for split, samples in chosen:
        for shown in samples:
            if options.format == "text" and console.is_terminal:
                on_terminal(console, split, shown, unfold=options.reasoning)
            else:
                print(FORMS[options.format](split, shown, unfold=options.reasoning))


def print_notes(chosen: Sequence[tuple[SplitView, Sequence[SampleView]]], options: ShowOptions) -> None:
    """Print notes about the splits on stderr."""
    console = new_console(stderr=True, highlight=False)
    for split, samples in chosen:
        for note in split.notes:
            console.print(f"note: {split.name}: {note}", soft_wrap=True)
        if endless(split) and {"wrong", "right", "flipped"} & set(options.counts):
            console.print(
                f"note: {split.name}: {split.metric} has no right and wrong: showing the lowest scores as wrong, the "
                "highest as right, the largest changes as flipped.",
                soft_wrap=True,
            )  # fmt: skip
        if not samples:
            console.print(f"{split.name}: no sample matches (of {len(split.samples):,})", soft_wrap=True)
