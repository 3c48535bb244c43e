"""``evalkit show``: samples of a finished run, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .tasks import complete_task


def show(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    run_b: Annotated[
        Path | None, typer.Argument(help="A second run, B, to set beside it.", metavar="[RUN_B]", show_default=False)
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_task,
            show_default="all that the run has",
            help="Tasks, splits (refcoco/testA) or groups of the run, with commas.",
        ),
    ] = None,
    wrong: Annotated[
        int | None, typer.Option("--wrong", min=1, metavar="N", help="N wrong answers (of CIDEr: the lowest).")
    ] = None,
    right: Annotated[
        int | None, typer.Option("--right", min=1, metavar="N", help="N right answers (of CIDEr: the highest).")
    ] = None,
    partly: Annotated[int | None, typer.Option("--partly", min=1, metavar="N", help="N partly right answers.")] = None,
    unparsed: Annotated[
        int | None, typer.Option("--unparsed", min=1, metavar="N", help="N answers in which nothing could be read.")
    ] = None,
    errors: Annotated[int | None, typer.Option("--errors", min=1, metavar="N", help="N samples that failed.")] = None,
    flipped: Annotated[
        int | None,
        typer.Option("--flipped", min=1, metavar="N", help="N samples that one run has right and the other has not."),
    ] = None,
    number: Annotated[
        int | None, typer.Option("--any", min=1, metavar="N", help="N samples, whatever became of them.")
    ] = None,
    id: Annotated[list[str] | None, typer.Option("--id", help="The sample of this id; may be repeated.")] = None,
    search: Annotated[
        str, typer.Option("--search", help="Only samples that have all these words.", show_default=False)
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
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the questions are now.", show_default="where they were when it ran"),
    ] = None,
) -> None:
    """Show samples: image, prompt, raw answer, what was read, references, scores.

    Counts are of each split, and may be combined: --wrong 5 --right 2. Without any, three samples of each split. With
    two runs, the counts go by the first, and both answers are shown.

    Exit code: 0, or 2 for a mistake in the command or its input.
    """
    from .showing import Wanted, execute

    counts = {
        "wrong": wrong, "partly": partly, "right": right, "unparsed": unparsed, "errors": errors, "flipped": flipped,
        "any": number,
    }  # fmt: skip
    chosen = {name: count for name, count in counts.items() if count is not None}
    execute([run] if run_b is None else [run, run_b], Wanted(tasks or (), chosen, id or (), search, sort, format, data))
