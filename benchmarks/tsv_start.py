"""How fast a command starts on a large TSV file: ``python benchmarks/tsv_start.py [--rows 10000] [--folder DIR]``.

A multiple-choice file with an image of 100 kB in each row is written, and read again in three ways, each in a process
of its own: as a task (``read_tsv_task``), by ``evalkit score`` with an answer to each row, and by ``evalkit run
--dry-run`` with the bundled checkpoint.  Printed are CPU time, wall time and peak memory, beside those of the same
command on a file of ten rows: the difference is what the file costs, and grows with its rows.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

FEW = 10
IMAGE_BYTES = 100_000
COLUMNS = ("index", "image", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category", "split")
READ = (
    "import sys; from pathlib import Path; from evalkit.tsv_task import read_tsv_task; read_tsv_task(Path(sys.argv[1]))"
)


def write(path: Path, rows: int) -> None:
    """A file of ``rows`` rows, each with an image of its own: a JPEG with a different end."""
    file = io.BytesIO()
    Image.frombytes("RGB", (200, 150), os.urandom(200 * 150 * 3)).save(file, "JPEG", quality=90)
    image = file.getvalue() + os.urandom(IMAGE_BYTES - len(file.getvalue()))
    with path.open("wb") as out:
        out.write("\t".join(COLUMNS).encode() + b"\n")
        for number in range(rows):
            text = base64.b64encode(image[:-9] + f"{number:09}".encode())
            cells = (
                f"What is in the middle of image {number}?", "", "a red circle", "a blue square", "a green triangle",
                "a yellow star", "ABCD"[number % 4], f"category {number % 20}", f"group {number % 6}", "dev",
            )  # fmt: skip
            out.write(f"{number}\t".encode() + text + b"\t" + "\t".join(cells).encode() + b"\n")


def measured(command: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """(CPU seconds, wall seconds, peak memory in MB) of a command."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: {said}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    args = parser.parse_args()
    evalkit = shutil.which("evalkit", path=str(Path(sys.executable).parent)) or "evalkit"
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        print(f"{'command':<20} {'rows':>8} {'CPU s':>8} {'wall s':>8} {'peak MB':>8}")
        for rows in (FEW, args.rows):
            write(folder / f"f{rows}.tsv", rows)
            (folder / f"p{rows}.tsv").write_text(
                "index\tprediction\n" + "".join(f"{number}\tB\n" for number in range(rows))
            )
        for label, command in (
            ("read_tsv_task", (sys.executable, "-c", READ, "f{}.tsv")),
            ("evalkit score", (evalkit, "score", "--tasks", "f{}.tsv", "-p", "p{}.tsv", "--name", "s{}")),
            ("evalkit run", (evalkit, "run", "--tasks", "f{}.tsv", "--model", "tiny", "--device", "cpu", "--dry-run")),
        ):
            for rows in (FEW, args.rows):
                cpu, wall, peak = measured([part.format(rows) for part in command], folder)
                print(f"{label:<20} {rows:>8,} {cpu:>8.1f} {wall:>8.1f} {peak:>8,.0f}", flush=True)


if __name__ == "__main__":
    main()
