"""Writes the commit into wheels and source distributions; everything else is in pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
NAME = "_commit.py"


def commit() -> str | None:
    """The checkout's commit, or the one that the source distribution was made from."""
    written = ROOT / "evalkit" / NAME
    if written.exists():
        return str(runpy.run_path(str(written))["COMMIT"])
    found = runpy.run_path(str(ROOT / "evalkit" / "commit.py"))["checkout_commit"](ROOT)
    return None if found is None else str(found)


def write(package: Path) -> None:
    found = commit()
    if found is not None:
        package.mkdir(parents=True, exist_ok=True)
        (package / NAME).write_text(f'COMMIT = "{found}"\n', encoding="utf-8")


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            write(Path(self.build_lib) / "evalkit")


class Sdist(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write(Path(base_dir) / "evalkit")


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
