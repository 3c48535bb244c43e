"""The command line.  One file a verb; heavy imports only where a verb does its work."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from evalkit.errors import RunFailed, UserError

from . import baseline, check, compare, export, leaderboard, report, rescore, run, score, show, tasks, verify

app = typer.Typer(
    name="evalkit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="Evaluate vision-language models: official scores, error bars, one command.\n\n"
    "First try, offline and in under a minute: evalkit run --tasks refcoco,vqav2",
)
app.command("run")(run.run)
app.command("score")(score.score)
app.command("rescore")(rescore.rescore)
app.command("tasks")(tasks.tasks)
app.command("verify")(verify.verify)
app.command("baseline")(baseline.baseline)
app.command("check")(check.check)
app.command("compare")(compare.compare)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("report")(report.report)
app.command("show")(show.show)
app.command("export")(export.export)


def _version(wanted: bool) -> None:
    if wanted:
        from evalkit.installation import version_text

        print(f"evalkit {version_text()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print version and commit, and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the user's mistakes exit with 2, failed runs with 1, each with one sentence."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; what was answered is in the run's folder.", file=sys.stderr)
        sys.exit(130)
