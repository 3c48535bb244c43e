"""``evalkit subset``: choose the samples of a small run that estimates a complete benchmark's score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.store.files import make_folder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.subsets.chosen import FURTHER_QUESTION, Split, choose, size_to_detect
from evalkit.results.subsets.subset_file import SplitSubset, Subset
from evalkit.results.tables import Table
from evalkit.results.terminal import OnTerminal, print_notes
from evalkit.settings import split_list
from evalkit.task_groups import expand

SIZE = 100


def subset(
    runs: Annotated[list[Path], typer.Argument(help="Finished runs of the complete splits.", show_default=False)],
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, help="Samples per split.", show_default=f"{SIZE}, or as many as --detect needs"),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=1, show_default=False,
            help="Cost per split instead of --size, in samples that share no image: whole images may be chosen.",
        ),
    ] = None,
    question_cost: Annotated[
        float,
        typer.Option("--question-cost", min=0, max=1, help="With --budget: cost of another question about an image."),
    ] = FURTHER_QUESTION,
    detect: Annotated[
        float | None,
        typer.Option(
            "--detect", show_default=False,
            help="Print how many samples find a loss of this many points with 80 % power, and choose as many.",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", "-t", help="Tasks or splits, comma-separated.", show_default="all that the runs share"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random draw.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, for 'evalkit run --subset'.", show_default="none")
    ] = None,
) -> None:  # fmt: skip
    """Choose samples that estimate a complete benchmark's score.

    The runs are references: yours, or predictions of other models that 'evalkit score' scored. Which samples are drawn,
    and how the score is estimated from them, is chosen by cross-validation: each run is left out in turn.
    """
    if size is not None and budget is not None:
        raise UserError(f"--size {size} and --budget {budget:g}: give one of the two.")
    if detect is not None and not detect > 0:
        raise UserError(f"--detect {detect:g}: give a loss in points, such as 2.0.")
    opened = [ScoredRun.open(path) for path in runs]
    console = new_console(highlight=False)
    chosen: dict[str, SplitSubset] = {}
    for name in _names(opened, split_list(tasks)):
        split = Split.of(opened, name)
        wanted = size
        if detect is not None:
            needed = size_to_detect(split, detect)
            console.print(_needed(name, len(split.ids), detect, needed), soft_wrap=True)
            if size is None and budget is None:
                if needed is None:
                    continue
                wanted = needed
        wanted = SIZE if wanted is None and budget is None else wanted
        chosen[name] = choose(split, size=wanted, budget=budget, further=question_cost, seed=seed)
    if not chosen:
        raise UserError("no subset was chosen: run the complete splits.")
    console.print(OnTerminal(table_of(chosen)))
    print_notes(console, notes_of(chosen, len(opened)))
    if out is not None:
        found = Subset(seed, chosen)
        make_folder(out.parent)
        found.write(out)
        console.print(f"{out}: {found.digest}, {out.stat().st_size / 1000:,.0f} kB", soft_wrap=True)


def _names(runs: list[ScoredRun], wanted: tuple[str, ...]) -> list[str]:
    """The splits to choose from.

    Raises:
        UserError: the runs share none, or not those wanted.
    """
    shared = [name for name in runs[0].splits if all(name in run.splits for run in runs)]
    if not shared:
        raise UserError(f"the {len(runs)} runs have no scored split in common." if len(runs) > 1
                        else f"{runs[0].path} has no scored split.")  # fmt: skip
    if not wanted:
        return shared
    found = []
    for one in expand(wanted):
        names = [name for name in shared if one in (name, name.rpartition("/")[0])]
        if not names:
            raise UserError(f"--tasks {one}: not scored in all of the runs; they share {', '.join(shared)}.")
        found += names
    return list(dict.fromkeys(found))


def _needed(name: str, complete: int, loss: float, needed: int | None) -> str:
    if needed is None:
        return f"{name}: no subset finds a loss of {loss:g} with 80 % power; run all {complete:,} samples."
    return f"{name}: {needed:,} of {complete:,} samples find a loss of {loss:g} with 80 % power (one-sided, 5 %)."


def table_of(chosen: dict[str, SplitSubset]) -> Table:
    """One row per split: what was chosen, and what to expect of it."""
    rows = []
    for name, held in chosen.items():
        e = held.expected
        rows.append([
            name, f"{len(held.ids):,} of {held.size:,}", f"{held.cost:,.1f}".removesuffix(".0"),
            *("–" if value is None else f"{factor * value:.1f}"
              for factor, value in ((1.96, e.error), (1.96, e.random), (1.0, e.detectable))),
        ])  # fmt: skip
    return Table(["task", "samples", "cost", "±", "± random", "detects"], rows, 1)


def notes_of(chosen: dict[str, SplitSubset], runs: int) -> list[str]:
    """What the columns mean, and the method of each split."""
    found = [f"{name}: {held.unit}s, {held.method}." for name, held in chosen.items()]
    folds = max(held.expected.folds for held in chosen.values())
    if folds:
        found.append(
            f"±: expected 95 % interval of the estimate; ± random: of as many random samples. Both by leaving out each "
            f"of {folds} runs."
        )
        found.append("detects: the loss that 'evalkit check' finds with 80 % power, against a run of all samples.")
    if any(not held.expected.folds for held in chosen.values()):
        found.append(
            "Not cross-validated: that needs two runs with different scores. Intervals hold all the same, and may be "
            "no narrower than a random subset's."
        )
    if 0 < folds < runs:
        found.append(f"{runs} runs have {folds} different sets of scores; equal ones count once.")
    return found
