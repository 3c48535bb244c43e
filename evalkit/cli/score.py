"""``evalkit score``: answers that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .run import KindName, Out, Splits, Tasks

Predictions = Annotated[
    list[str] | None,
    typer.Option(
        "--predictions", "-p",
        help='The answers: lines {"id": …, "text": …}, or a result file in the format of COCO, VQA, GQA, '
        "DocVQA or VizWiz. One file a split, in the order of --tasks; with commas.",
    ),
]  # fmt: skip
DataRoot = Annotated[
    str | None,
    typer.Option(
        "--data", show_default="$EVALKIT_DATA, else hub",
        help="Where the questions are: as in 'evalkit run'.",
    ),
]  # fmt: skip
FamilyName = Annotated[
    str | None,
    typer.Option(
        "--family",
        help="The model family that gave the answers: they are read as its raw text, boxes in its coordinates.",
        show_default="none: answers are final texts",
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="By whose prompts the family's answers were given, and so are read: official, lmms-eval or vlmevalkit.",
        show_default="official",
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Score though some samples have no answer; they count as errors.")
]
MinPixels = Annotated[
    int | None,
    typer.Option(
        "--min-pixels", show_default="the family's",
        help="For boxes in pixels of the resized image: the least that the model's processor was set to.",
    ),
]  # fmt: skip
MaxPixels = Annotated[int | None, typer.Option("--max-pixels", help="The same, the most.", show_default="the family's")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="The run's folder in --out.", show_default="the predictions' name and the time"),
]


def score(
    tasks: Tasks = None,
    predictions: Predictions = None,
    data: DataRoot = None,
    split: Splits = None,
    family: FamilyName = None,
    protocol: ProtocolName = None,
    allow_missing: AllowMissing = False,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    kind: KindName = None,
    out: Out = None,
    name: Name = None,
) -> None:
    """Score somebody else's answers: no model, no GPU.

    It makes a run like evalkit run does, for leaderboards and comparisons. Every sample of the split must
    have exactly one answer.

    Exit code: 0 when every answer was scored (missing ones aside, if allowed), 1 when an image could not be read, 2
    for a mistake in the command or its input.
    """
    given = {
        "tasks": tasks, "split": split, "data": data, "kind": kind, "out": out, "name": name,
        "protocol": protocol,
        "model": ["none"],  # whatever a settings file names is for 'evalkit run'
    }  # fmt: skip
    from evalkit.settings import effective, split_list

    chosen = effective(given, Path.cwd())
    from .scoring import Given, execute

    raise typer.Exit(execute(chosen, Given(split_list(predictions), family, allow_missing, min_pixels, max_pixels)))
