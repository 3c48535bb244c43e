"""Writes what evalkit says of runs, for a test to compare with: python expected.py EVALKIT FILE, beside runs/."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

COMMANDS = [
    "leaderboard runs --format csv",
    "leaderboard runs/complete runs/early runs/grounding --means --format csv",
    "compare runs/complete runs/early --format json --show-flips 2",
    "compare runs/complete runs/likelihood --format json",
    "check runs/complete --baseline baseline.json",
    "check runs/complete --baseline baseline.json --mode exact",
    "check runs/early --baseline baseline.json",
    "check runs/early --baseline baseline.json --mode exact",
    "check runs/early --baseline baseline.json --mode tolerance --tolerance 1",
    "export runs/shots runs/likelihood runs/drawn --to csv --out rows.csv",
    "show runs/complete --any 1 --format json",
    "show runs/complete runs/early --flipped 1 --format json",
    "show runs/shots --any 1 --format json",
    "show runs/anywhere --any 4 --format json",
]


def main(evalkit: str, to: str) -> None:
    found = []
    for command in COMMANDS:
        done = subprocess.run([evalkit, *command.split()], capture_output=True, text=True, check=False)
        if command.startswith("export"):
            with Path("rows.csv").open(newline="", encoding="utf-8") as file:
                rows = [dict(row) for row in csv.DictReader(file)]
            found.append({"command": command, "code": done.returncode, "out": rows})
            continue
        out = json.loads(done.stdout) if done.stdout[:1] in "[{" and done.stdout else done.stdout.splitlines()
        found.append({"command": command, "code": done.returncode, "out": out})
    Path(to).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


main(*sys.argv[1:])
