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
def test_plugins_import_core_and_siblings_only(folder: str) -> None:
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


def name_of(path: Path) -> str:
    return package_of(path) if path.stem == "__init__" else f"{package_of(path)}.{path.stem}"


def module_imports(*, inside_functions: bool) -> dict[str, set[str]]:
    """The modules of the package that each module imports, for annotations too."""
    paths = {name_of(path): path for folder in ("evalkit", *PLUGINS) for path in files(folder)}
    found = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes: list[ast.AST] = [tree]
        imported: set[str] = set()
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.stmt):
                imported.update(_absolute(node, package_of(path)))
            if inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                nodes += ast.iter_child_nodes(node)
        # "from a.b import c" names the package a.b as well as the module a.b.c.
        modules = {n for n in imported if n in paths and not any(m.startswith(f"{n}.") for m in imported if m in paths)}
        found[name] = modules - {name}
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components with more than one node."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for node in graph.get(todo.pop(), set()) - seen:
                seen.add(node)
                todo.append(node)
        return seen

    reach = {node: reachable(node) for node in graph}
    components = {frozenset({n, *(m for m in reach[n] if n in reach.get(m, ()))}) for n in graph}
    return sorted(sorted(component) for component in components if len(component) > 1)


def sub_package(module: str) -> str:
    """``evalkit.model.engine`` of ``evalkit.model.engine.patches.mlp``; a module outside of sub-packages is its own."""
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1] in PLUGINS else 2])


def test_no_import_cycle_between_modules() -> None:
    assert cycles(module_imports(inside_functions=False)) == []


def test_no_import_cycle_between_sub_packages() -> None:
    """Imports inside functions count here.  The front door ``evalkit`` offers ``load_run`` of ``evalkit.results``."""
    graph: dict[str, set[str]] = {}
    for module, imported in module_imports(inside_functions=True).items():
        if module != "evalkit":
            graph.setdefault(sub_package(module), set()).update(map(sub_package, imported - {"evalkit"}))
    graph = {node: targets - {node} for node, targets in graph.items()}
    assert cycles(graph) == []


def test_backends_hold_only_what_option_can_name() -> None:
    from evalkit import registry

    modules = {path.stem for path in files("model/backends")} - {"__init__"}
    assert modules == set(registry.backends.names())


@pytest.mark.parametrize("folder", ["tasks", "metrics", "results"])
def test_no_torch_outside_models(folder: str) -> None:
    for path in files(folder):
        assert not {n.split(".")[0] for n in imports_of(path, package_of(path))} & {"torch", "transformers"}, path


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["tasks"], ["tasks", "refcoco"], ["--version"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    unneeded = ("evalkit.types", "evalkit.interfaces", "statistics")
    code = (
        "import sys\nfrom evalkit.cli import main\n"
        f"sys.argv = ['evalkit', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        f"print('HEAVY', sorted(set(sys.modules) & {{*{HEAVY!r}, *({unneeded!r} if '--help' in sys.argv else ())}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout[-300:]


def test_tests_import_no_private_names() -> None:
    """Tests go through public interfaces, so that a refactoring that keeps them breaks no test."""
    for path in files("tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evalkit"):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                private = [part for part in parts if part.startswith("_") and not part.startswith("__")]
                assert not private, f"{path}, line {node.lineno}: {private}"
