"""Imports point one way: plugins import the core and their siblings, the core imports no plugin."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ("tasks", "metrics", "model", "results")
HEAVY = ("torch", "transformers", "pandas", "datasets", "numpy", "PIL", "pycocoevalcap")


def _absolute(node: ast.stmt, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
        module = f"{base}.{node.module}" if node.level and node.module else (base if node.level else node.module or "")
        return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def imports_of(path: Path, package: str) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) if isinstance(node, ast.stmt) for name in _absolute(node, package)}


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parent.parts
    return ".".join(parts if parts[0] == "evalkit" else ("evalkit", *parts))


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugins_import_the_core_and_siblings_only(folder: str) -> None:
    assert files(folder)
    for path in files(folder):
        for name in imports_of(path, package_of(path)):
            others = [other for other in PLUGINS if other != folder]
            assert not any(f"{name}.".startswith(f"evalkit.{other}.") for other in others), f"{path} imports {name}"
            for joining in ("cli", "runner", "progress"):
                assert not f"{name}.".startswith(f"evalkit.{joining}."), f"{path} imports {name}"


def test_core_imports_no_plugin_and_only_cli_runner_and_progress_import_results() -> None:
    for path in files("evalkit"):
        # The package's front door offers load_run beside what the core has.
        joins = {"cli", "runner", "progress"} & set(path.relative_to(ROOT).parts)
        in_cli = joins or path == ROOT / "evalkit" / "__init__.py"
        for name in imports_of(path, package_of(path)):
            for plugin in PLUGINS:
                if f"{name}.".startswith(f"evalkit.{plugin}."):
                    assert in_cli, f"{path} imports {name}"
                    assert plugin == "results", f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["tasks", "metrics", "results"])
def test_no_torch_outside_the_models(folder: str) -> None:
    for path in files(folder):
        assert not {n.split(".")[0] for n in imports_of(path, package_of(path))} & {"torch", "transformers"}, path


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["tasks"], ["tasks", "refcoco"], ["--version"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom evalkit.cli import main\n"
        f"sys.argv = ['evalkit', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        f"print('HEAVY', sorted(set(sys.modules) & set({HEAVY!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout[-300:]
