"""The distribution: its name, its packages, and what messages say of how it was installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from evalkit import installation
from evalkit.commit import checkout_commit
from evalkit.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"evalkit": ".", **{f"evalkit.{name}": name for name in ("tasks", "metrics", "model", "results")}}

CHECKOUT = {"url": "file:///home/me/my%20evalkit", "dir_info": {"editable": True}}
FOLDER = {"url": "file:///home/me/evalkit", "dir_info": {}}
REPOSITORY = {"url": "https://example.org/evalkit", "vcs_info": {"vcs": "git", "commit_id": "1a2b3c"}}
WHEEL = {"url": "file:///srv/wheels/evalkit_vlm-1-py3-none-any.whl", "archive_info": {}}


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (CHECKOUT, "pip install -e '.[plot]' in /home/me/my evalkit"),
        (FOLDER, "pip install '.[plot]' in /home/me/evalkit"),
        (REPOSITORY, "pip install 'evalkit-vlm[plot] @ git+https://example.org/evalkit@1a2b3c'"),
        (WHEEL, "pip install 'evalkit-vlm[plot] @ file:///srv/wheels/evalkit_vlm-1-py3-none-any.whl'"),
        (None, "pip install 'evalkit-vlm[plot]'"),
        ("not an object", "pip install 'evalkit-vlm[plot]'"),
    ],
)
def test_install_command_follows_installation(source: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if source is None else json.dumps(source)

    monkeypatch.setattr(installation, "distribution", lambda name: Installed())
    assert installation.install_command("plot") == command


def test_extras_named_in_messages_exist() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    assert extras == set(distribution("evalkit-vlm").metadata.get_all("Provides-Extra") or ())
    assert {"caption", "plot", "peft", "ray", "qwen-vl", "tensorboard", "wandb", "docs"} <= extras


def test_every_package_is_listed() -> None:
    """Packages are listed by name in pyproject.toml; one that is left out would be missing from the wheel only."""
    found = {"evalkit"}
    for name, folder in FOLDERS.items():
        base = ROOT / ("evalkit" if folder == "." else folder)
        for init in base.rglob("__init__.py"):
            found.add(".".join((name, *init.parent.relative_to(base).parts)))
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


def test_commit_of_checkout(tmp_path: Path) -> None:
    assert checkout_commit(tmp_path) is None
    (tmp_path / "inside").mkdir()
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-q", "-m", "one")
    commit = checkout_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 12
    assert checkout_commit(tmp_path / "inside") is None, "a folder of another repository has no commit of its own"
    (tmp_path / "a").write_text("2")
    assert checkout_commit(tmp_path) == f"{commit}-dirty"


def test_version_names_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "commit", lambda: "1a2b3c")
    assert installation.version_text() == f"{__version__} (commit 1a2b3c)"
    monkeypatch.setattr(installation, "commit", lambda: None)
    assert installation.version_text() == __version__


def test_command_line_prints_version() -> None:
    code = "import sys; sys.argv = ['evalkit', '--version']; from evalkit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"evalkit {installation.version_text()}\n"
