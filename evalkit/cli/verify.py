"""``evalkit verify``: is a downloaded checkpoint complete, and does it work?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from evalkit import registry
from evalkit.checkpoint import Checkpoint, fetched, resolve_checkpoint
from evalkit.console import encodable, new_console, print_document
from evalkit.logs import quiet_logging
from evalkit.types import Check

MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}


def verify(
    checkpoint: Annotated[
        str, typer.Argument(help="As in 'evalkit run --model': a folder, a hub id, tiny or tiny-early.")
    ],
    forward: Annotated[
        bool, typer.Option("--forward/--no-forward", help="Load the model and run it once on a synthetic image.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
    device: Annotated[
        str, typer.Option("--device", help="Device of the forward pass: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Precision of the forward pass: auto, float32, bfloat16 or float16.")
    ] = "auto",
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="Check a LoRA adapter for the checkpoint too: a folder or hub id.")
    ] = None,
    processor: Annotated[
        str | None, typer.Option("--processor", help="Folder or hub id of the processor, if the checkpoint has none.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="The backend that loads the checkpoint.")] = "hf",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with the checkpoint.")
    ] = False,
    allow_pickled_weights: Annotated[
        bool, typer.Option("--allow-pickled-weights", help="Download pickled weights of a hub id too.")
    ] = False,
) -> None:
    """Check that a checkpoint is complete and works.

    Checks files, tensors, the processor and the adapter, runs one forward pass, and generates a few tokens as in a run.
    Works for every model family.
    Pickled weights are read safely: nothing in them is executed (weights_only=True).

    Exit code: 0 if no check fails (some may be skipped), 1 if one fails, 2 for a mistake in the command or its input.
    """
    options = VerifyOptions(
        checkpoint, forward=forward, as_json=as_json, device=device, dtype=dtype, backend=backend,
        trust_remote_code=trust_remote_code, allow_pickled_weights=allow_pickled_weights, adapter=adapter,
        processor=processor,
    )  # fmt: skip
    raise typer.Exit(run_checks(options))


@dataclass(frozen=True)
class VerifyOptions:
    """The options of ``evalkit verify``."""

    checkpoint: str
    forward: bool
    as_json: bool
    device: str
    dtype: str
    backend: str
    trust_remote_code: bool
    allow_pickled_weights: bool
    adapter: str | None = None
    processor: str | None = None


def run_checks(options: VerifyOptions) -> int:
    """Find the checkpoint, have the backend check it, and print the checks; returns the exit code."""
    console = new_console(stderr=True, highlight=False)
    quiet_logging()
    found = resolve_checkpoint(
        options.checkpoint,
        trust_remote_code=options.trust_remote_code,
        allow_pickled_weights=options.allow_pickled_weights,
        with_weights=False,
    )
    with console.status(f"looking for {found.name}"):
        found = fetched(replace(found, adapter=options.adapter, processor=options.processor))
        factory = registry.backends.get(options.backend)
    checks = []
    with console.status(f"checking {found.name}") as status:
        for check in factory.verify(found, device=options.device, dtype=options.dtype, forward=options.forward):
            checks.append(check)
            status.update(Text(f"checking {found.name} (last: {check.name})"))
    passed = all(check.ok is not False for check in checks)
    if options.as_json:
        print_document(json.dumps(as_record(found, checks, passed), ensure_ascii=False, indent=1) + "\n", "json")
    else:
        show(found, checks)
    return 0 if passed else 1


def as_record(checkpoint: Checkpoint, checks: Sequence[Check], passed: bool) -> dict[str, object]:
    """The checks for ``--json``; a check's ``ok`` is null if it was skipped."""
    return {
        "checkpoint": checkpoint.name,
        "location": checkpoint.location,
        "model_type": checkpoint.model_type,
        "ok": passed,
        "checks": [asdict(check) for check in checks],
    }


def show(checkpoint: Checkpoint, checks: Sequence[Check]) -> None:
    """Print the checks as a table."""
    console = new_console(highlight=False)
    table = Table(title=f"{checkpoint.name} ({checkpoint.model_type})", title_justify="left", show_header=False)
    for column in ("mark", "check", "found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        mark, style = MARKS[check.ok]
        texts = (mark, check.name, "\n".join((check.finding, *check.details)))
        shown = [encodable(text, console.encoding) for text in texts]
        table.add_row(Text(shown[0], style=style), Text(shown[1]), Text(shown[2]))
    console.print(table)
