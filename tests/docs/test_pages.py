"""Quoted messages are in the source, excerpts are in the files they name, and the site builds without broken links."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
QUOTED = re.compile(r"^<!-- (in the source|part of: (?P<path>\S+)) -->\n```\w+\n(?P<text>.*?)^```$", re.M | re.S)


def texts(path: Path) -> Iterator[str]:
    """The string constants of a module, with ``…`` for the values in f-strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)


def test_quoted_messages_are_in_source() -> None:
    folders = ("evalkit", "model", "metrics", "results", "tasks")
    source = [text for folder in folders for path in (ROOT / folder).rglob("*.py") for text in texts(path)]
    quoted = [
        m["text"].strip() for m in QUOTED.finditer((DOCS / "faq.md").read_text(encoding="utf-8")) if not m["path"]
    ]
    assert len(quoted) >= 8
    for message in quoted:
        known = [message, re.sub(r"; install both with.*", "; …", message)]  # comes from a constant
        assert any(text.endswith(one) or one in text for text in source for one in known), message


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_excerpts_are_in_files_they_name(page: Path) -> None:
    for found in QUOTED.finditer(page.read_text(encoding="utf-8")):
        if found["path"]:
            assert found["text"] in (ROOT / found["path"]).read_text(encoding="utf-8"), f"{page.name}: {found['path']}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_within_repository_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link.partition("#")[0]).exists(), f"{page}: {link}"
    for image in re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", text):
        assert (ROOT / image).stat().st_size < 300 * 1024, image


# ------------------------------------------------------------------------------------------------------------ the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built by the documented command."""
    for module in ("zensical", "griffe"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed (the extra 'docs')")
    folder = tmp_path_factory.mktemp("documentation")
    build = [sys.executable, str(DOCS / "build.py"), "--out", str(folder)]
    done = subprocess.run(build, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no broken links" in done.stdout
    return folder


def test_benchmark_pages_contain_what_command_line_prints(site: Path) -> None:
    from contextlib import redirect_stdout
    from io import StringIO

    from evalkit.cli.tasks import show_task
    from evalkit.text_console import TextConsole

    for task in registry.tasks.all():
        page = (site / "docs" / "benchmarks" / f"{registry.module_name(task.name)}.md").read_text(encoding="utf-8")
        with redirect_stdout(StringIO()) as printed:
            show_task(TextConsole(width=10_000, color_system=None), task, None, "official", None)
        _, _, facts = printed.getvalue().partition("\nkind ")
        assert facts
        known = " ".join(page.split())
        for line in facts.splitlines()[1:]:
            said = line.strip()
            if not said:  # in a prompt of several paragraphs
                continue
            if said.startswith("prompt "):
                said = f"`{said.split()[1].removesuffix(':')}`"
            elif said.startswith("signature "):
                said = said.removeprefix("signature ")
            elif said.startswith("--data hub"):
                said = f"`{task.hub}`" if task.hub else ""
            elif said and line.startswith("  ") and (split := said.split()[0]) in task.splits:
                said = f"`{split}`"
                assert task.splits[split].about in known, f"{task.name}: {split}"
            assert " ".join(said.split()) in known or said == "--data ROOT", f"{task.name}: {line!r}"


def test_each_family_and_scorer_is_described(site: Path) -> None:
    families = (site / "docs" / "families.md").read_text(encoding="utf-8")
    for family in registry.families.all():
        assert f"## {family.name}\n" in families
        assert family.coordinates.replace("<", "&lt;").replace(">", "&gt;") in families
    scorers = (site / "docs" / "scorers.md").read_text(encoding="utf-8")
    for metric in registry.metrics.all():
        assert f"## {metric.name}\n" in scorers
        assert metric.score(()).signature in scorers


def test_each_command_and_option_is_in_reference(site: Path) -> None:
    import typer

    from evalkit.cli.app import app

    text = (site / "docs" / "commands.md").read_text(encoding="utf-8")
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        _, _, section = text.partition(f"## evalkit {name}\n")
        section = section.partition("\n## ")[0]
        for parameter in command.params:
            assert all(option in section for option in parameter.opts if option.startswith("--")), (
                name,
                parameter.name,
            )


def test_broken_link_fails_build(site: Path, tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    page = tmp_path / "docs" / "speed.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[a](gone.md) [b](faq.md#gone)\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "docs" / "build.py"), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "page does not exist" in done.stderr
    assert "anchor does not exist" in done.stderr


def test_links_of_built_site_are_checked(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    build = importlib.import_module("build")
    assert build.broken(site / "site") == []
    (tmp_path / "image.png").write_bytes(b"")
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1> <a href="a.html#top"></a> <a href="#gone"></a> <a href="gone.html"></a> <a href="https://x.y/z"></a>'
        ' <img src="image.png"> <img src="gone.png">',
        encoding="utf-8",
    )
    assert build.broken(tmp_path) == [
        "a.html: #gone: no such heading",
        "a.html: gone.html: no such file",
        "a.html: gone.png: no such file",
    ]


def test_every_page_is_in_navigation(site: Path) -> None:
    import yaml

    def targets(entries: list[Any]) -> Iterator[str]:
        for entry in entries:
            value = entry if isinstance(entry, str) else next(iter(entry.values()))
            if isinstance(value, list):
                yield from targets(value)
            else:
                yield value

    config = yaml.safe_load((site / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [str(path.relative_to(site / "docs")) for path in (site / "docs").rglob("*.md")]
    assert sorted(targets(config["nav"])) == sorted(pages)
