"""What ``evalkit verify`` does: it finds the checkpoint, has the backend look at it, and shows what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalkit import registry
from evalkit.checkpoint import Checkpoint, fetched, resolve_checkpoint
from evalkit.runner.manifest import quiet_logging
from evalkit.types import Check

MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}


@dataclass(frozen=True)
class Wanted:
    """The options of ``evalkit verify``."""

    checkpoint: str
    forward: bool
    as_json: bool
    device: str
    dtype: str
    backend: str
    trust_remote_code: bool
    allow_pickled_weights: bool


def execute(wanted: Wanted) -> int:
    """Check the checkpoint; returns the exit code."""
    console = Console(stderr=True, highlight=False)
    quiet_logging()
    found = resolve_checkpoint(
        wanted.checkpoint,
        trust_remote_code=wanted.trust_remote_code,
        allow_pickled_weights=wanted.allow_pickled_weights,
        whole=False,
    )
    with console.status(f"looking for {found.name}"):
        found = fetched(found)
        factory = registry.backends.get(wanted.backend)
    checks = []
    with console.status(f"checking {found.name}") as status:
        for check in factory.verify(found, device=wanted.device, dtype=wanted.dtype, forward=wanted.forward):
            checks.append(check)
            status.update(f"checking {found.name} (last: {check.name})")
    passed = all(check.ok is not False for check in checks)
    if wanted.as_json:
        print(json.dumps(as_record(found, checks, passed), ensure_ascii=False, indent=1))
    else:
        show(found, checks)
    return 0 if passed else 1


def as_record(checkpoint: Checkpoint, checks: Sequence[Check], passed: bool) -> dict[str, object]:
    """The checks as JSON has them; ``ok`` is null for what was not looked at."""
    return {
        "checkpoint": checkpoint.name,
        "location": checkpoint.location,
        "model_type": checkpoint.model_type,
        "ok": passed,
        "checks": [asdict(check) for check in checks],
    }


def show(checkpoint: Checkpoint, checks: Sequence[Check]) -> None:
    """Print the checks as a table."""
    table = Table(title=f"{checkpoint.name} ({checkpoint.model_type})", title_justify="left", show_header=False)
    for column in ("mark", "check", "found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        mark, style = MARKS[check.ok]
        table.add_row(Text(mark, style=style), check.name, Text("\n".join((check.said, *check.details))))
    Console(highlight=False).print(table)
