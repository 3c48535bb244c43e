"""``evalkit run``: evaluate checkpoints on benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import with_settings


@contextmanager
def stopped_while_starting() -> Iterator[None]:
    """Report Ctrl-C before the run can do so itself."""
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped at 0 samples. Run the same command to resume.", file=sys.stderr)


@with_settings
def run(
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the full prompts and exit without loading weights.", rich_help_panel="Common"
        ),
    ] = False,
    log_to: Annotated[
        list[str] | None,
        typer.Option(
            "--log-to", metavar="TRACKER", rich_help_panel="Output",
            help="Log each finished run: tensorboard[:FOLDER] or wandb[:PROJECT]. Repeatable.",
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", rich_help_panel="Output",
            help="Write progress and results to stdout as JSON lines; everything else goes to stderr.",
        ),
    ] = False,
    **given: Any,
) -> None:  # fmt: skip
    """Evaluate checkpoints on benchmarks and print the leaderboard.

    First try: evalkit run --tasks refcoco,vqav2

    Each model gets a run folder with a manifest, every answer as it arrives, the scores, and leaderboard.md and .csv.
    Run the same command again to resume a run that was interrupted. Options can also be set in evalkit.toml, or in
    pyproject.toml under [tool.evalkit].

    Exit code: 0 if every sample was answered, 1 if some failed or the run was interrupted, 2 for a mistake in the
    command or its input.
    """
    from evalkit.errors import UserError
    from evalkit.progress.events import events_on_stdout
    from evalkit.settings import effective

    code = 1
    with events_on_stdout(json) as events, stopped_while_starting():
        settings = effective(given, Path.cwd())
        if json and dry_run:
            raise UserError("--json reports on a run, and --dry-run runs nothing: drop one of the two.")
        from evalkit.console import new_console
        from evalkit.logs import quiet_logging
        from evalkit.runner.execute import execute
        from evalkit.runner.finish import print_leaderboard

        quiet_logging()
        console = new_console(stderr=True, highlight=False)
        code = execute(
            settings, console=console, show=print_leaderboard, dry=dry_run, events=events, log_to=log_to or ()
        )
    raise typer.Exit(code)
