"""Run the examples of the README and the documentation as ``docs/examples.py`` does, and check what is not run."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from blocks import Block, blocks, calls, difference, steps

from evalkit.cli.app import app
from examples import PAGES, ROOT, differences, programs, run_page, update

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ROOT_OPTIONS = {"--help", "--install-completion", "--version", "--slow"}
"""Options of ``evalkit`` itself, and of pytest in this project."""


@pytest.fixture(scope="session")
def warm_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the programs ``evalkit`` and ``python``, served by a warm process."""
    with programs(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_page_shows(page: Path, tmp_path: Path, warm_programs: Path) -> None:
    diffs = [diff for result in run_page(page, tmp_path, warm_programs) for diff in differences(*result)]
    assert not diffs, "\n\n".join([*diffs, "python docs/examples.py --update writes the new output into the pages"])


def test_comparison_ignores_numbers_times_and_line_breaks() -> None:
    shown = "run folder: runs/tiny-0123456789\n accuracy  98.86 ± 1.12  12 samples in 0.4 s\n ─────"
    printed = "run folder: runs/tiny-abcdef0123\n accuracy\n 100.00 [90.4, 100.0]  8 samples in 12.0 s\n ───"
    assert difference(shown, printed) == ""
    assert "-verdict better" in difference("verdict better", "verdict not shown")


def test_update_keeps_output_that_differs_only_in_times(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "- list\n\n  ```console\n  $ a \\\n  b\n  took 0.1 s\n  $ c\n  old\n  ```\n\nend\n", encoding="utf-8"
    )
    (block,) = blocks(page)
    first, second = (replace(step, output=text) for step, text in zip(steps(block), ("took 9.9 s", "new"), strict=True))
    assert first.command == "a b"
    assert update(page, [(block, [first, second])])
    assert page.read_text(encoding="utf-8").splitlines()[4:9] == ["  b", "  took 0.1 s", "  $ c", "  new", "  ```"]


# ------------------------------------------------------------------------------------------ checks that run nothing


def every_block() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def test_blocks_are_run_or_give_reason() -> None:
    found = every_block()
    assert len([block for block in found if block.is_run]) > 20
    for block in found:
        assert block.language, f"{block.place}: name its language (text, if no other)"
        assert block.language not in ("sh", "shell", "zsh", "py", "pycon"), f"{block.place}: bash, console or python"
        if block.reason:
            assert len(block.reason) > 8, f"{block.place}: give a reason"


def test_every_command_has_options_that_exist() -> None:
    count = 0
    for block in every_block():
        if block.language not in ("bash", "console"):
            continue
        for arguments in calls(block):
            if not arguments or arguments[0].startswith("-"):
                continue
            command = COMMANDS.get(arguments[0])
            assert command is not None, f"{block.place}: unknown command {arguments[0]}"
            if block.language == "console" and not block.reason:
                continue  # it is run, and may show a mistake on purpose
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


def test_options_named_in_text_exist() -> None:
    known = {name for command in COMMANDS.values() for p in command.params for name in (*p.opts, *p.secondary_opts)}
    for page in PAGES:
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")):
            if not code.startswith(("evalkit ", "--")):
                continue  # of another program
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
