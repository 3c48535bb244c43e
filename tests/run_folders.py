"""What tests read from run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a file with a checksum as a user would who means it: the checksum is deleted."""
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    change(content)
    path.write_text(json.dumps(content))


def lines_of(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def compared(run: Path) -> dict[str, list[str]]:
    """Every journal's lines sorted by id, without checksum and timing."""
    found = {}
    for path in sorted(run.glob("*.jsonl")):
        if not path.name.endswith(".scores.jsonl"):
            rows = sorted(lines_of(path), key=lambda row: row["id"])
            found[path.name] = [json.dumps({k: v for k, v in r.items() if k not in ("sum", "seconds")}) for r in rows]
    return found


def values_of(run: Path) -> dict[str, Any]:
    rows = json.loads((run / "scores.json").read_text())["results"]
    return {f"{r['task']}/{r['split']}": (r["value"], r["stderr"], r["n"], r["signature"]) for r in rows}


def state_of(run: Path) -> str:
    return str(json.loads((run / "manifest.json").read_text())["state"])


def runs_in(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "runs").iterdir() if not p.name.startswith("."))


def raw_lines(run: Path) -> dict[str, list[str]]:
    """The complete lines of every journal."""
    found = {}
    for path in run.glob("*.jsonl"):
        if not path.name.endswith(".scores.jsonl"):
            found[path.name] = path.read_text(errors="replace").split("\n")[:-1]
    return found


def complete_lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0
