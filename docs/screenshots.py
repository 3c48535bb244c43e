"""Make the images of the README and the documentation from runs of the bundled checkpoints.

    python docs/screenshots.py

``terminal.png`` shows the README's main command in a terminal of 110 columns. ``report.png`` shows the report of two
checkpoints in a browser. Needs evalkit and Debian's ``chromium``.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from html import escape
from io import StringIO
from pathlib import Path

from PIL import Image, ImageChops
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

DOCS = Path(__file__).resolve().parent
COLUMNS = 110
TASKS = "refcoco,vqav2"
LIMIT = 300 * 1024  # maximum size of an image, in bytes


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("chromium not found (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        output = in_a_terminal(["evalkit", "run", "--tasks", TASKS], folder)
        (folder / "terminal.html").write_text(terminal_page(f"evalkit run --tasks {TASKS}", output), encoding="utf-8")
        shoot(browser, f"file://{folder}/terminal.html", DOCS / "terminal.png", 1000, 800)
        in_a_terminal(["evalkit", "run", "--tasks", TASKS, "--model", "tiny-early"], folder)
        early, tiny = (next(folder.glob(f"runs/{name}")) for name in ("tiny-early-*", "tiny-[0-9a-f]*"))
        runs = [str(run.relative_to(folder)) for run in (early, tiny)]
        in_a_terminal(["evalkit", "report", *runs, "--out", "report"], folder)
        shoot(browser, f"file://{folder}/report/index.html", DOCS / "report.png", 1200, 1640)


def in_a_terminal(command: list[str], folder: Path) -> str:
    """Run ``command`` in a pseudo-terminal, and return its final screen, colours included."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "LINES": "50",
        "TERM": "xterm-256color",
        "HF_HUB_OFFLINE": "1",
    }
    program = str(Path(sys.executable).with_name(command[0]))
    with subprocess.Popen(
        [program, *command[1:]], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment
    ) as process:
        os.close(theirs)
        pieces = []
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
    if process.returncode:
        sys.exit(f"{' '.join(command)} exited with code {process.returncode}:\n{b''.join(pieces).decode()}")
    return final_screen(b"".join(pieces).decode("utf-8"))


def final_screen(written: str) -> str:
    """The final lines on the screen, after cursor movements and rewritten lines."""
    lines, row = [""], 0
    place = 0
    while place < len(written):
        sign = written[place]
        if sign == "\x1b" and written[place + 1 : place + 2] == "[":
            end = place + 2
            while not written[end].isalpha():
                end += 1
            code, value = written[end], written[place + 2 : end]
            if code == "m":
                lines[row] += written[place : end + 1]
            elif code == "A":
                row = max(row - int(value or 1), 0)
            elif code == "K":
                lines[row] = ""
            place = end + 1
            continue
        if sign == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif sign == "\r":
            if written[place + 1 : place + 2] != "\n":
                lines[row] = ""
        else:
            lines[row] += sign
        place += 1
    return "\n".join(line.rstrip() for line in lines).rstrip()


def terminal_page(command: str, output: str) -> str:
    """An HTML page that shows the terminal."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text.from_ansi(output), soft_wrap=True)
    body = console.export_html(theme=DIMMED_MONOKAI, inline_styles=True, code_format="{code}")
    return f"""<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fff; }}
pre {{ margin: 12px; padding: 16px 20px; border-radius: 8px; background: #191919; color: #d9d9d9;
      font: 14px/19px "DejaVu Sans Mono", monospace; }}
b {{ color: #8fbf6f; font-weight: normal; }}
</style><pre><b>$</b> {escape(command)}
{body}</pre>"""


def shoot(browser: str, address: str, path: Path, width: int, height: int) -> None:
    """Save a screenshot of a page, at most ``width`` × ``height`` pixels."""
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}",
         "--virtual-time-budget=4000", f"--screenshot={path}", address],
        check=True, capture_output=True,
    )  # fmt: skip
    with Image.open(path) as image:
        colours = image.convert("RGB")
        drawn = ImageChops.difference(
            colours, Image.new("RGB", colours.size, "white")
        ).getbbox()  # crop the empty part below
        assert drawn is not None
        colours.crop((0, 0, width, min(drawn[3] + drawn[1], height))).quantize(256, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
    size = path.stat().st_size
    if size > LIMIT:
        sys.exit(f"{path}: {size / 1024:.0f} kB, more than the limit of {LIMIT // 1024} kB")
    print(f"{path}: {size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
