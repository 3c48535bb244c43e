"""Full and read-only disks, in a mount namespace of their own: one sentence, and exit code 1 or 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

COMMANDS = """
set -e
mkdir full ro
mount -t tmpfs -o size=4k tmpfs full
mount -t tmpfs tmpfs ro
"$@" score --tasks mine.jsonl --predictions p.jsonl --out ro --name R > log 2>&1
mount -o remount,ro ro
set +e
for command in \\
    'rescore ro/R' \\
    'report ro/R' \\
    'export ro/R --to csv' \\
    'baseline ro/R --out ro/b.json' \\
    'leaderboard ro --out ro/board' \\
    'score --tasks mine.jsonl --predictions p.jsonl --out ro --name S' \\
    'run --fresh --tasks mine.jsonl --data tiny --out ro --name R' \\
    'run --tasks mine.jsonl --data tiny --out full --name R'
do
    "$@" $command > log 2>&1
    echo "$? $(tail -n 1 log)"
    if grep -q Traceback log; then cat log; fi
done
head -c 4096 /dev/zero > full/fill 2> /dev/null
"$@" score --tasks mine.jsonl --predictions p.jsonl --out full --name S > log 2>&1
echo "$? $(tail -n 1 log)"
"""


def test_full_or_read_only_disk_is_reported(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    Image.new("RGB", (56, 56), (255, 0, 0)).save(tmp_path / "0.png")
    line = {"id": "0", "image": "0.png", "question": "What color is it?", "answers": ["red"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "0", "text": "red"}))
    command = [
        unshare,
        "-rm",
        "bash",
        "-c",
        COMMANDS,
        "-",
        sys.executable,
        "-P",
        "-c",
        "from evalkit.cli import main; main()",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 9, done.stdout + done.stderr
    for said in lines:
        assert said.startswith(("1 failed: ", "2 error: ")), done.stdout
