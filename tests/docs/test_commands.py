"""What the README and the documentation tell people to type is typed here, on the bundled checkpoint and data.

A page runs in a folder of its own, in which ``Qwen/Qwen2.5-VL-7B-Instruct`` and ``ckpt-…`` are folders that hold the
bundled checkpoints and ``/data/vlm`` stands for the bundled data; a settings file there keeps runs short.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from evalkit.checkpoint import bundled_folder
from evalkit.cli import app
from evalkit.data import bundled_root

from .blocks import Block, blocks, calls, plain, steps
from .warm import commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STANDS_FOR = {"/data/vlm": str(bundled_root())}
CHECKPOINTS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": "tiny",
    "ckpt-1000": "tiny-early",
    "ckpt-2000": "tiny",
}
LIMIT = 12
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ROOT_OPTIONS = {"--help", "--install-completion", "--version", "--slow"}
"""Of ``evalkit`` itself, and of pytest in this project."""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the programs ``evalkit`` and ``python`` that a warm process answers."""
    folder = tmp_path_factory.mktemp("warm")
    address = folder / "socket"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    server = Path(__file__).with_name("warm.py")
    with subprocess.Popen([sys.executable, "-P", str(server), str(address)], cwd=folder, env=environment) as process:
        while not address.exists():
            assert process.poll() is None, "the warm process died"
            time.sleep(0.05)
        commands(folder / "bin", address)
        yield folder / "bin"
        process.terminate()


class Shell:
    """A page's folder, and bash in it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.past: list[str] = []
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = {
            **kept,
            "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "110",
            "CUDA_VISIBLE_DEVICES": "",  # what is said of devices is said on a machine without
            "OMP_NUM_THREADS": "1",
        }
        for name, bundled in CHECKPOINTS.items():
            path = folder / name
            shutil.copytree(bundled_folder(bundled), path)
        config = folder / "Qwen/Qwen2.5-VL-7B-Instruct/config.json"  # another model than ckpt-2000
        content = {**json.loads(config.read_text(encoding="utf-8")), "stands_for": "Qwen2.5-VL-7B-Instruct"}
        config.write_text(json.dumps(content), encoding="utf-8")
        (folder / "evalkit.toml").write_text(f"limit = {LIMIT}\n", encoding="utf-8")
        shutil.copytree(ROOT / "examples", folder / "examples")

    def run(self, script: str, options: str = "-euo") -> subprocess.CompletedProcess[str]:
        for name, real in STANDS_FOR.items():
            script = script.replace(name, real)
        done = subprocess.run(
            ["bash", options, "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=240,
        )  # fmt: skip
        self.past.append(f"$ {script}\n{done.stdout}[exit code {done.returncode}]")
        return done

    def told(self) -> str:
        """All that was typed so far, with what came of it: what fails may come of an earlier step."""
        return "\n\n".join(self.past)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path, programs: Path) -> None:
    found = blocks(page)
    if not any(block.is_run for block in found):
        return
    shell = Shell(tmp_path, programs)
    for block in found:
        if block.file:
            target = tmp_path / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif block.is_run:
            run(shell, block)


def run(shell: Shell, block: Block) -> None:
    if block.language == "console":
        for command, shown in steps(block):
            done = shell.run(command, "-uo")
            where = output = plain(done.stdout.replace(STANDS_FOR["/data/vlm"], "/data/vlm"))
            # What fails is on the page for what it then says.
            assert shown or done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{shell.told()}"
            for piece in shown:
                _, found, where = where.partition(plain(piece))
                assert found, (
                    f"{block.place}: {command!r} does not print\n{plain(piece)}\nbut\n{output}\n{shell.told()}"
                )
        return
    if block.language == "python":
        (shell.folder / "block.py").write_text(
            block.text.replace("/data/vlm", STANDS_FOR["/data/vlm"]), encoding="utf-8"
        )
        done = shell.run("python block.py")
    else:
        done = shell.run(block.text)
    assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{shell.told()}"


# ------------------------------------------------------------------------------------------ what needs no run to check


def every_block() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def test_blocks_are_run_or_say_why_not() -> None:
    found = every_block()
    assert len([block for block in found if block.is_run]) > 20
    for block in found:
        assert block.language, f"{block.place}: say what it is; text, if nothing else"
        assert block.language not in ("sh", "shell", "zsh", "py", "pycon"), f"{block.place}: bash, console or python"
        if block.reason:
            assert len(block.reason) > 8, f"{block.place}: say why it is not run"


def test_every_command_has_options_that_exist() -> None:
    count = 0
    for block in every_block():
        if block.language not in ("bash", "console"):
            continue
        for arguments in calls(block):
            if not arguments or arguments[0].startswith("-"):
                continue
            command = COMMANDS.get(arguments[0])
            assert command is not None, f"{block.place}: there is no command {arguments[0]}"
            if block.language == "console" and not block.reason:
                continue  # it may be a mistake that is shown on purpose; it is run
            try:
                command.make_context("evalkit", [word for word in arguments[1:] if word not in ("…", "...")])
            except Exception as error:  # typer's own click has its own classes
                if type(error).__name__ != "Exit":  # --help
                    pytest.fail(f"{block.place}: evalkit {' '.join(arguments)}: {error}")
            count += 1
    assert count > 40


def test_scripts_that_are_not_run_exist_with_their_options() -> None:
    count = 0
    for block in every_block():
        for path, options in re.findall(r"^(?:\S*/)?python ((?:docs|benchmarks)/\w+\.py)([^#\n]*)", block.text, re.M):
            source = (ROOT / path).read_text(encoding="utf-8")
            for option in re.findall(r"--[a-z-]+", options):
                assert f'"{option}"' in source, f"{block.place}: {path} has no {option}"
            count += 1
    assert count >= 2


def test_options_named_in_the_text_exist() -> None:
    known = {name for command in COMMANDS.values() for p in command.params for name in (*p.opts, *p.secondary_opts)}
    for page in PAGES:
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")):
            if not code.startswith(("evalkit ", "--")):
                continue  # another program's
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
                assert option in known | ROOT_OPTIONS, f"{page.name}: `{code}`: no command has {option}"


def test_python_json_and_toml_parse() -> None:
    for block in every_block():
        if block.language == "python":
            compile(textwrap.dedent(block.text), block.place, "exec")
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "jsonl":
            assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines()), block.place
        elif block.language == "toml":
            tomllib.loads(block.text)


def test_pages_name_no_machine() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path in (ROOT, ROOT.parent, Path.home()):
            # A clone may lie right below a folder that pages may name: /, /tmp.
            assert len(path.parts) < 3 or f"{path}/" not in text, page.name


assert shutil.which("bash")
