"""``evalkit score``: score answers that were made elsewhere."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from evalkit.reader import COORDINATES
from evalkit.runner.finish import print_leaderboard
from evalkit.runner.score import score_files, score_rules
from evalkit.runner.score_inputs import ScoreOptions
from evalkit.settings import effective, split_list, split_paths

from .options import given_choice, setting

COLLECT_AFTER = 100_000  # allocations; Python's default is 700


def score(
    tasks: Annotated[list[str] | None, setting("tasks")] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions", "-p", rich_help_panel="Common",
            help='The answers: JSON lines {"id": …, "text": …}, one object {"id": "answer", …}, a journal of a run, or '
            "a result file in the format of COCO, VQA, GQA, DocVQA, VizWiz, LLaVA or VLMEvalKit. One file per split, "
            "in the order of --tasks; comma-separated.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        setting("data", help="Where the data is, as in 'evalkit run'.", show_default="$EVALKIT_DATA, else hub"),
    ] = None,
    subset: Annotated[
        str | None,
        setting("subset", help="The answers are to the samples in a file of 'evalkit subset': estimate the score."),
    ] = None,
    out: Annotated[str | None, setting("out")] = None,
    name: Annotated[
        str | None, setting("name", rich_help_panel="Common", show_default="the predictions' name and the time")
    ] = None,
    split: Annotated[list[str] | None, setting("split")] = None,
    kind: Annotated[str | None, setting("kind")] = None,
    where: Annotated[str | None, setting("where", help="Score only the samples that fit an expression.")] = None,
    ids: Annotated[str | None, setting("ids", help="Score only the samples with the ids in a file.")] = None,
    limit: Annotated[
        str | None,
        setting("limit", rich_help_panel="Data", show_default="all, or those of the run of a journal"),
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
    family: Annotated[
        str | None,
        setting(
            "family",
            rich_help_panel="Parsing",
            help="Model family that gave the answers: they are parsed as its raw output, boxes in its coordinates.",
            show_default="the run's, for a journal; else none: answers are final texts, except letters",
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            "--field", metavar="NAME", rich_help_panel="Parsing", show_default="text, answer, prediction, …",
            help="Field of the predictions file that holds the answers, such as extraction.",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            "--boxes", metavar="|".join(COORDINATES), rich_help_panel="Parsing", show_default="the family's",
            help="Coordinates of boxes and points: pixels of the original image, thousandths or fractions of it, or "
            "pixels of the resized image (with --family).",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", rich_help_panel="Parsing", show_default="the protocol's",
            help="Scoring rule, such as official or vlmevalkit-2025-08 ('evalkit tasks NAME' lists a task's). "
            "Several, comma-separated: one run folder and one row of the table each.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        setting(
            "protocol",
            rich_help_panel="Parsing",
            help="Protocol of the family's prompts, which decides the parsing: official, lmms-eval or vlmevalkit.",
        ),
    ] = None,
    judge: Annotated[str | None, setting("judge")] = None,
    judge_base_url: Annotated[str | None, setting("judge_base_url")] = None,
    min_pixels: Annotated[
        int | None,
        setting(
            "min_pixels",
            rich_help_panel="Parsing",
            show_default="the family's",
            help="For boxes in pixels of the resized image: the processor's minimum number of pixels.",
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        setting("max_pixels", rich_help_panel="Parsing", help="The same: the maximum.", show_default="the family's"),
    ] = None,
) -> None:  # fmt: skip
    """Score answers that were made elsewhere: no model, no GPU, unless the benchmark needs a judge (--judge).

    Writes a run folder as 'evalkit run' does, for leaderboards and comparisons. Every sample of the split must have
    exactly one answer. A run's journal is parsed as the run did.

    Exit code: 0 if every answer was scored, 1 if samples failed (an image could not be read, or the run of a journal
    had failed samples), 2 for a mistake in the command or its input.
    """
    given = {
        "tasks": tasks, "split": split, "data": data, "kind": kind, "subset": subset, "out": out, "name": name,
        "protocol": protocol, "judge": judge, "judge_base_url": judge_base_url,
        "model": ["none"],  # the model in a settings file is for 'evalkit run'
    }  # fmt: skip
    chosen = effective(given, Path.cwd())
    options = ScoreOptions(
        split_paths(predictions),
        chosen=given_choice(where, ids, limit),
        family=family,
        allow_missing=allow_missing,
        skip_missing=skip_missing,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        boxes=boxes,
        field=field,
        judge=chosen.settings.judge,
        judge_base_url=chosen.settings.judge_base_url,
        subset=chosen.settings.subset,
    )
    # A split is hundreds of thousands of objects that stay: looking for garbage among them again and again takes a
    # quarter of the time.
    gc.set_threshold(COLLECT_AFTER, 50, 1000)
    rules = split_list(rule)
    entries, code = (
        score_rules(chosen, options, rules)
        if len(rules) > 1
        else score_files(chosen, replace(options, rule=rules[0] if rules else ""))
    )
    print_leaderboard(entries)
    raise typer.Exit(code)
