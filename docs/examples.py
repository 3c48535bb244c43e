"""Run the examples of the README and the documentation, and write their output into the pages.

    python docs/examples.py                        # list the pages whose output has changed; exit code 1 if any
    python docs/examples.py --update [PAGE ...]    # write the new output into the pages

Each page runs in its own folder. There, ``Qwen/Qwen2.5-VL-7B-Instruct`` and ``ckpt-…`` are folders with the bundled
checkpoints and ``/data/vlm`` stands for the bundled data. A settings file limits each split to a few samples, unless
the page says ``<!-- examples: complete splits -->``.
``tests/docs`` runs the pages the same way and compares loosely (``blocks.difference``).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import warm
from blocks import Block, Step, blocks, console, difference, same, steps

from evalkit.checkpoint import bundled_folder
from evalkit.data import bundled_root

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
DATA = "/data/vlm"  # what the pages call the bundled data
CHECKPOINTS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": "tiny",
    "ckpt-1000": "tiny-early",
    "ckpt-2000": "tiny",
}
LIMIT = 12
COMPLETE = "<!-- examples: complete splits -->"
COLUMNS = 80


class ExampleFailed(Exception):
    """A command failed that a page shows as working, with everything that ran on the page before it."""


@contextmanager
def programs(folder: Path) -> Iterator[Path]:
    """Start the warm process; yields the folder of the programs ``evalkit`` and ``python`` that it serves."""
    address = folder / "socket"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    server = [sys.executable, "-P", warm.__file__, str(address)]
    with subprocess.Popen(server, cwd=folder, env=environment) as process:
        while not address.exists():
            if process.poll() is not None:
                raise RuntimeError(f"the warm process ended with exit code {process.returncode}")
            time.sleep(0.05)
        warm.commands(folder / "bin", address)
        try:
            yield folder / "bin"
        finally:
            process.terminate()


class Shell:
    """A page's folder, and bash in it."""

    def __init__(self, folder: Path, programs: Path, limit: int | None = LIMIT) -> None:
        self.folder = folder
        self.past: list[str] = []
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = {
            **kept,
            "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": str(COLUMNS),
            "CUDA_VISIBLE_DEVICES": "",  # the same messages about devices on a machine with a GPU
            "OMP_NUM_THREADS": "1",
        }
        for name, bundled in CHECKPOINTS.items():
            shutil.copytree(bundled_folder(bundled), folder / name)
        config = folder / "Qwen/Qwen2.5-VL-7B-Instruct/config.json"  # a different model than ckpt-2000
        content = {**json.loads(config.read_text(encoding="utf-8")), "stands_for": "Qwen2.5-VL-7B-Instruct"}
        config.write_text(json.dumps(content), encoding="utf-8")
        if limit is not None:
            (folder / "evalkit.toml").write_text(f"limit = {limit}\n", encoding="utf-8")
        shutil.copytree(ROOT / "examples", folder / "examples")

    def run(self, script: str, options: str = "-euo") -> subprocess.CompletedProcess[str]:
        """Run a script in bash; standard error goes to standard output."""
        script = script.replace(DATA, str(bundled_root()))
        done = subprocess.run(
            ["bash", options, "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=1200,
        )  # fmt: skip
        self.past.append(f"$ {script}\n{done.stdout}[exit code {done.returncode}]")
        return done

    def check(self, block: Block, done: subprocess.CompletedProcess[str]) -> None:
        """Raise ``ExampleFailed`` if a command failed."""
        if done.returncode:
            past = "\n\n".join(self.past)  # the cause may be an earlier step
            raise ExampleFailed(f"{block.place}: exit code {done.returncode}\n{past}")

    def output(self, done: subprocess.CompletedProcess[str]) -> str:
        """A command's output as a page shows it: no colours, and the pages' paths."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        text = text.replace(str(bundled_root()), DATA).replace(f"{self.folder}/", "")
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def run_page(page: Path, folder: Path, programs: Path) -> Iterator[tuple[Block, list[Step]]]:
    """Run the blocks of ``page`` in ``folder``; yields each console block with what its commands printed.

    Raises:
        ExampleFailed: A command of a ``bash`` or ``python`` block failed, or one of a ``console`` block that shows no
            output.
    """
    found = blocks(page)
    if not any(block.is_run for block in found):
        return
    shell = Shell(folder, programs, None if COMPLETE in page.read_text(encoding="utf-8") else LIMIT)
    for block in found:
        if block.file:
            target = folder / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif not block.is_run:
            continue
        elif block.language == "console":
            printed = []
            for step in steps(block):
                done = shell.run(step.command, "-uo")
                printed.append(Step(step.typed, shell.output(done)))
                if not printed[-1].output:
                    shell.check(block, done)
            yield block, printed
        elif block.language == "python":
            program = block.text.replace(DATA, str(bundled_root()))
            (folder / "block.py").write_text(program, encoding="utf-8")
            shell.check(block, shell.run("python block.py"))
        else:
            shell.check(block, shell.run(block.text))


def differences(block: Block, printed: list[Step]) -> list[str]:
    """Differences between the output of a console block's commands and the page, as diffs."""
    pairs = zip(steps(block), printed, strict=True)
    found = ((step, difference(step.output, new.output)) for step, new in pairs)
    return [f"{block.place}: $ {step.command}\n{diff}" for step, diff in found if diff]


def update(page: Path, results: list[tuple[Block, list[Step]]]) -> bool:
    """Write new output into a page; returns whether the page changed. Times and hashes alone change nothing."""
    text = before = page.read_text(encoding="utf-8")
    for block, printed in reversed(results):
        pairs = zip(steps(block), printed, strict=True)
        kept = [replace(new, output=old.output) if same(old.output, new.output) else new for old, new in pairs]
        length = len(block.text) + len(block.indent) * block.text.count("\n")
        lines = console(kept).splitlines(keepends=True)
        body = "".join(block.indent + line if line.strip() else line for line in lines)
        text = text[: block.start] + body + text[block.start + length :]
    page.write_text(text, encoding="utf-8")
    return text != before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the output into the pages")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="default: all")
    options = parser.parse_args()
    changed = False
    with tempfile.TemporaryDirectory() as work, programs(Path(work)) as bin_folder:
        for page in options.pages or PAGES:
            folder = Path(work, "pages", page.name)
            folder.mkdir(parents=True)
            before = page.read_bytes()
            try:
                results = list(run_page(page, folder, bin_folder))
            except ExampleFailed as error:
                sys.exit(str(error))
            if options.update and page.read_bytes() != before:  # the output would go to other lines
                sys.exit(f"{page.name} has changed while its examples ran; run them again.")
            if options.update and update(page, results):
                print(f"{page.name}: updated")
            elif not options.update and (diffs := [diff for result in results for diff in differences(*result)]):
                print("\n\n".join(diffs))
                changed = True
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
