"""``evalkit import``: make run folders of other harnesses' results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.importing.differences import DENOMINATOR, UNSCORED, Totals, totals
from evalkit.importing.discover import HARNESSES, Reading
from evalkit.reader import COORDINATES
from evalkit.results.tables import Table
from evalkit.results.terminal import OnTerminal, print_notes
from evalkit.runner.finish import print_leaderboard
from evalkit.runner.importing import ImportedResult, ImportOptions, import_results
from evalkit.runner.score_changes import formatted
from evalkit.runner.score_inputs import ScoreOptions
from evalkit.settings import effective

from .options import setting

SHOWN = 10
"""Samples with different scores that are printed."""
LONGEST = 32
STATED = 6


def import_(
    paths: Annotated[
        list[str],
        typer.Argument(help="Files or folders that the other harness wrote.", show_default=False),
    ],
    tasks: Annotated[list[str] | None, setting("tasks")] = None,
    data: Annotated[
        str | None,
        setting("data", help="Where the data is, as in 'evalkit run'.", show_default="$EVALKIT_DATA, else hub"),
    ] = None,
    out: Annotated[str | None, setting("out")] = None,
    name: Annotated[
        str | None, setting("name", rich_help_panel="Common", show_default="the harness's model and the time")
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="|".join(HARNESSES), rich_help_panel="Common", show_default="known by the content",
            help="The harness that wrote the files; results of others in a folder are passed over.",
        ),
    ] = None,
    split: Annotated[list[str] | None, setting("split")] = None,
    kind: Annotated[str | None, setting("kind")] = None,
    id_field: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="NAME", rich_help_panel="Data", show_default="found, and checked by the questions",
            help="The field of the harness's samples that has their ids; 'position' for their places in the split.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        setting("allow_missing", help="Score even if some samples have no answer; they count as wrong."),
    ] = False,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing", rich_help_panel="Data", help="Leave samples without an answer out of the score."
        ),
    ] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="NAME", rich_help_panel="Comparison", show_default="its first",
            help="The harness's score of a sample (for Inspect, the scorer) that is compared with ours.",
        ),
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="NAME", rich_help_panel="Comparison", show_default="its first",
            help="The filter of lm-evaluation-harness whose scores are compared with ours.",
        ),
    ] = None,
    family: Annotated[
        str | None,
        setting(
            "family",
            rich_help_panel="Parsing",
            help="Model family that gave the answers: they are parsed as its raw output, boxes in its coordinates.",
            show_default="none: answers are final texts, except letters",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            "--boxes", metavar="|".join(COORDINATES), rich_help_panel="Parsing", show_default="the family's",
            help="Coordinates of boxes and points, as for 'evalkit score'.",
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule", rich_help_panel="Parsing", show_default="the protocol's",
            help="Scoring rule, such as official or vlmevalkit-2025-08 ('evalkit tasks NAME' lists a task's).",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        setting(
            "protocol",
            rich_help_panel="Parsing",
            help="Protocol that decides the parsing: official, lmms-eval or vlmevalkit.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Import another harness's results: its answers, scored by our scorers, beside its own scores.

    Reads lmms-eval's and lm-evaluation-harness's samples, VLMEvalKit's tables, EvalScope's predictions and reviews, and
    Inspect's logs. Writes a run folder, for leaderboards, comparisons and reports, with the raw answers and, for each
    sample, both scores and why they differ. No pickle is read.

    Exit code: 0 if every answer was scored, 1 if samples failed (the harness recorded an error, or an image could not
    be read), 2 for a mistake in the command or its input.
    """
    if harness is not None and harness not in HARNESSES:
        raise UserError(f"--from {harness}: unknown; use one of {', '.join(HARNESSES)}.")
    given = {
        "tasks": tasks, "split": split, "data": data, "kind": kind, "out": out, "name": name, "protocol": protocol,
        "model": ["none"],  # the model in a settings file is for 'evalkit run'
    }  # fmt: skip
    scoring = ScoreOptions(
        paths, family=family, allow_missing=allow_missing, skip_missing=skip_missing, boxes=boxes, rule=rule or ""
    )
    options = ImportOptions(paths, scoring, harness, id_field, Reading(metric, filter_))
    done, entries, code = import_results(effective(given, Path.cwd()), options)
    print_comparison(done)
    print_leaderboard(entries)
    raise typer.Exit(code)


def print_comparison(done: Sequence[ImportedResult]) -> None:
    """Print both scores of every split, what their difference consists of, and some of the samples."""
    out = new_console()
    found = [totals(one.compared) for one in done]
    header = ["task", "from", "its value", "our value", "difference", "its n", "n"]
    rows = [_row(one, both) for one, both in zip(done, found, strict=True)]
    out.print(OnTerminal(Table(header, rows, 2)))
    notes = []
    for one in done:
        name, theirs = one.split.job.name, one.split.found
        if theirs.metric and one.column:
            notes.append(f"{name}: means over samples, in percent, of its {theirs.metric} and our {one.column}.")
        stated = ", ".join(f"{key} {value:g}" for key, value in list(theirs.stated.items())[:STATED])
        if stated:
            notes.append(f"{theirs.harness} states for {name}: {stated}.")
    print_notes(out, notes)
    for one, both in zip(done, found, strict=True):
        _print_reasons(one, both)


def _row(one: ImportedResult, both: Totals) -> list[str]:
    difference = None if both.ours is None or both.theirs is None else both.ours - both.theirs
    return [
        one.split.job.name, one.split.found.title, formatted(both.theirs), formatted(both.ours),
        "–" if difference is None else f"{difference:+.2f}", f"{both.n_theirs:,}", f"{both.n_ours:,}",
    ]  # fmt: skip


def _print_reasons(one: ImportedResult, both: Totals) -> None:
    out = new_console()
    name = one.split.job.name
    if not both.counts:
        out.print(f"{name}: every sample has the same score.", highlight=False)
        return
    if not both.n_theirs and set(both.counts) == {UNSCORED}:
        out.print(f"{name}: {one.split.found.harness} recorded no scores of single samples.", highlight=False)
        return
    rows = [
        [reason, f"{count:,}", "" if reason in DENOMINATOR else f"{both.points.get(reason, 0.0):+.2f}"]
        for reason, count in sorted(both.counts.items(), key=lambda item: -item[1])
    ]
    if "denominator" in both.points:
        rows.append(["denominator", "", f"{both.points['denominator']:+.2f}"])
    out.print(OnTerminal(Table(["reason", "samples", "points"], rows, 1, title=f"{name}: why the scores differ")))
    different = [sample for sample in one.compared if sample.reason and sample.reason != UNSCORED]
    shown = [
        [s.id[:LONGEST], s.reason, _short(s.theirs_read), _short(s.ours_read), _score(s.theirs), _score(s.ours)]
        for s in different[:SHOWN]
    ]
    if shown:
        out.print(OnTerminal(Table(["sample", "reason", "it read", "we read", "its score", "ours"], shown, 4)))
    more = f"; {len(different) - SHOWN:,} more" if len(different) > SHOWN else ""
    new_console(stderr=True).print(
        f"{name}: every sample's scores are in {one.file}{more}", soft_wrap=True, highlight=False
    )


def _short(read: object) -> str:
    if read is None:
        return "–"
    text = " ".join(str(read).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _score(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}"
