"""``evalkit rescore``: a finished run's answers, read and scored again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rescore(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the questions are now.", show_default="where they were when it ran"),
    ] = None,
) -> None:
    """Score a run again from its recorded answers: no model, no GPU.

    The raw answers are read anew and the scores and the run's leaderboard are written again, with today's reading
    rules, metrics and annotations; what changed is said. The recorded answers stay as they are.

    Exit code: 0 when every sample is scored, 1 when some have no answer, 2 for a mistake in the command or its input.
    """
    from .rescoring import execute

    raise typer.Exit(execute(run, data))
