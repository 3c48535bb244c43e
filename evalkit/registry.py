"""Finds plugins by name, and imports them on first use.

A built-in plugin is a file: the task ``vqav2`` is ``tasks/vqa/vqav2.py``, the family ``qwen2.5-vl`` is
``model/families/qwen2_5_vl.py``.  A file may define several tasks (``TASKS``, by name) if their names begin with the
file's: ``refcoco+`` and ``refcocog`` are in ``refcoco.py``.  Other packages offer plugins through entry points
(``evalkit.tasks``, ``evalkit.metrics``, ``evalkit.families``, ``evalkit.backends``), named as the plugins are.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from evalkit.aggregation import Aggregation
from evalkit.errors import UserError
from evalkit.garbage import LoadedModules, garbage_collection_paused
from evalkit.interfaces import BackendFactory, Family, JudgedMetric, Metric, Task
from evalkit.types import JudgePrompt

P = TypeVar("P")


SERVERS = ("api", "lmdeploy", "ollama", "openai", "tgi", "trtllm", "tensorrt-llm", "llama.cpp")
"""Software whose OpenAI-compatible servers the backend ``server`` works with."""


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum() or character in "+/")


def module_name(name: str) -> str:
    """The file name of a plugin: ``refcoco+`` → ``refcoco_plus``, ``qwen2.5-vl`` → ``qwen2_5_vl``."""
    return name.replace("+", "_plus").replace("-", "_").replace(".", "_")


def _offered(group: str) -> EntryPoints:
    """The installed packages' entry points of a group.

    Finding them reads the metadata of every package, which takes 10 ms; they are found again only when a folder of the
    path has changed, as it does when something is installed.
    """
    return _found(group, tuple((place, _written(place)) for place in sys.path))


@lru_cache(maxsize=16)
def _found(group: str, places: tuple[tuple[str, int], ...]) -> EntryPoints:
    return entry_points(group=group)


def _written(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0


@dataclass(frozen=True)
class Group(Generic[P]):
    """A kind of plugin.

    Attributes:
        what: what messages call it.
        base: the class that plugins derive from.
        package: where the built-in ones are.
        attribute: the variable of a module with the plugin.
        plural: the variable of a module with several plugins by name.
        entry_point: the group of entry points for other packages' plugins.
    """

    what: str
    base: type
    package: str
    attribute: str
    plural: str
    entry_point: str

    def get(self, name: str) -> P:
        """The plugin called ``name``.  Raises ``UserError`` with the nearest names if there is none."""
        outside = self._entry_points()
        if name in outside:
            return self._load_entry_point(outside[name])
        modules = self._modules()
        wanted = module_name(name)
        for stem in sorted(filter(wanted.startswith, modules), key=len, reverse=True):
            found = self._load_module(modules[stem])
            if name in found:
                return found[name]
        names = self.names()
        near = [known for known in names if _plain(known) == _plain(name)]
        near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else self._advice(name, names)
        raise UserError(f"unknown {self.what} {name!r}: {hint}")

    def _advice(self, name: str, names: Sequence[str]) -> str:
        """What to do instead of asking for ``name``, which is like none of ``names``."""
        if self.entry_point == "evalkit.tasks":
            return (
                "'evalkit tasks' lists the benchmarks; your own questions are a task in a .toml or .jsonl file "
                "(--tasks FILE.toml), and a plugin can add a benchmark."
            )
        if self.entry_point == "evalkit.backends" and name.lower() in SERVERS:
            return (
                f"models behind {name} are evaluated with --backend server --base-url http://HOST:PORT/v1, after its "
                "OpenAI-compatible server was started."
            )
        return f"there are {', '.join(names)}."

    def all(self) -> list[P]:
        """Every plugin, sorted by name."""
        plugins: dict[str, P] = {}
        for path in self._modules().values():
            for name, plugin in self._load_module(path).items():
                if name in plugins:
                    raise UserError(f"two {self.what}s are called {name!r}; one of them is in {path}: rename it.")
                plugins[name] = plugin
        for name, point in self._entry_points().items():
            if name in plugins:
                raise self._taken(point)
            plugins[name] = self._load_entry_point(point)
        return [plugins[name] for name in sorted(plugins)]

    def names(self) -> list[str]:
        """Every plugin's name."""
        return [str(getattr(plugin, "name", "")) for plugin in self.all()]

    def _modules(self) -> dict[str, str]:
        """Built-in modules by file name, one level of sub-packages included; only packages are imported.

        A sub-package of shared helpers sets ``HOLDS_PLUGINS = False``.
        """
        found: dict[str, str] = {}
        packages = [self.package]
        while packages:
            package = packages.pop(0)
            loaded = importlib.import_module(package)
            if not getattr(loaded, "HOLDS_PLUGINS", True):
                continue
            for module in pkgutil.iter_modules(loaded.__path__):
                path = f"{package}.{module.name}"
                if module.name.startswith("_"):
                    continue
                if not module.ispkg:
                    if module.name in found:
                        raise UserError(f"two {self.what}s are called {module.name}: {found[module.name]} and {path}.")
                    found[module.name] = path
                elif package == self.package:
                    packages.append(path)
        return found

    def _load_module(self, path: str) -> Mapping[str, P]:
        """The plugins of a built-in module by name."""
        file = str(getattr(find_spec(path), "origin", path))
        had_torch = "torch" in sys.modules
        try:
            with garbage_collection_paused():  # torch's modules are many objects
                loaded = importlib.import_module(path)
        except TypeError as error:
            raise self._abstract(file, error) from error
        if not had_torch and "torch" in sys.modules:
            LoadedModules.imported()
        found = getattr(loaded, self.plural, None)
        if found is None:
            if not hasattr(loaded, self.attribute):
                raise UserError(
                    f"{file}: the {self.what} is missing; set {self.attribute} to an instance of its class "
                    f"(or {self.plural} to several, by name)."
                )
            plugin = self._checked(getattr(loaded, self.attribute), file)
            return {str(getattr(plugin, "name", "")): plugin}
        for name, plugin in found.items():
            self._checked(plugin, file)
            if plugin.name != name or not module_name(name).startswith(path.rpartition(".")[2]):
                raise UserError(
                    f"{file}: {self.plural} has {name!r} for the {self.what} {plugin.name!r}; keys must be the names, "
                    "which must begin with the file's name."
                )
        return cast(Mapping[str, P], found)

    def _entry_points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        modules = self._modules()
        for point in _offered(self.entry_point):
            if point.name in found or module_name(point.name) in modules:
                raise self._taken(point)
            found[point.name] = point
        return found

    def _taken(self, point: EntryPoint) -> UserError:
        return UserError(
            f"two {self.what}s are called {point.name!r}: the one in {point.value} must take another name "
            f"(entry point group {self.entry_point})."
        )

    def _load_entry_point(self, point: EntryPoint) -> P:
        try:
            plugin: Any = point.load()
        except TypeError as error:
            raise self._abstract(point.value, error) from error
        except Exception as error:  # another package's import may fail in any way; name it instead of a traceback
            raise UserError(
                f"the {self.what} {point.name!r} could not be loaded from {point.value}: {error}"
            ) from error
        found = self._checked(plugin, point.value)
        if getattr(found, "name", None) != point.name:
            raise UserError(
                f"{point.value}: the {self.what} is called {getattr(found, 'name', None)!r}, but its entry point "
                f"{point.name!r}; give both the same name."
            )
        return found

    def _abstract(self, where: str, error: TypeError) -> UserError:
        """What is wrong with a plugin whose class could not be instantiated."""
        todo = f"; define it (see evalkit.interfaces.{self.base.__name__})" if "abstract" in str(error) else ""
        return UserError(f"the {self.what} in {where} could not be loaded: {error}{todo}.")

    def _checked(self, plugin: Any, where: str) -> P:
        """``plugin`` if it has everything that is required.  Raises ``UserError`` naming ``where`` it is, and what."""
        base = self.base.__name__
        if not isinstance(plugin, self.base):
            raise UserError(
                f"{where}: a {self.what} must be an instance of a class derived from evalkit.interfaces.{base}, "
                f"and this is {plugin!r}; write class {type(plugin).__name__}({base})."
            )
        missing = _missing(plugin, self.base)
        if missing:
            raise UserError(
                f"{where}: the class {type(plugin).__name__} has no {', no '.join(missing)}; "
                f"define it (see evalkit.interfaces.{base})."
            )
        if isinstance(plugin, Metric):
            _check_metric(plugin, where)
        return cast(P, plugin)


def _check_metric(metric: Metric, where: str) -> None:
    """Check a metric's declarations.  Raises ``UserError``."""
    if not isinstance(metric.running_score, bool):
        raise UserError(f"{where}: running_score is {metric.running_score!r}; expected True or False.")
    if isinstance(metric, JudgedMetric):
        prompts = getattr(metric, "prompts", None)
        if not isinstance(prompts, Sequence) or not all(isinstance(prompt, JudgePrompt) for prompt in prompts):
            raise UserError(f"{where}: prompts is {prompts!r}; expected a list of evalkit.types.JudgePrompt.")
    if not isinstance(metric.aggregation, Mapping):
        raise UserError(
            f"{where}: aggregation is {metric.aggregation!r}; expected a dictionary from the names of values to how "
            "they are computed (evalkit.aggregation)."
        )
    for name, declared in metric.aggregation.items():
        if not isinstance(declared, Aggregation):
            raise UserError(
                f"{where}: aggregation[{name!r}] is {declared!r}; expected an instance of a class in "
                "evalkit.aggregation (Mean, MeanOfGroups, MeanWhere, SumOfMeans, OfSums, Corpus)."
            )


def _missing(plugin: object, base: type) -> list[str]:
    """What ``base`` requires and ``plugin`` lacks: attributes that ``base`` annotates without a value."""
    found = [name for name in base.__annotations__ if not hasattr(base, name) and not hasattr(plugin, name)]
    if isinstance(plugin, Task) and all(
        getattr(type(plugin), method) is getattr(Task, method) for method in ("load", "from_files", "from_hub")
    ):
        found.append("from_files or from_hub")
    return found


tasks: Group[Task] = Group("task", Task, "evalkit.tasks", "TASK", "TASKS", "evalkit.tasks")
metrics: Group[Metric] = Group("metric", Metric, "evalkit.metrics", "METRIC", "METRICS", "evalkit.metrics")
families: Group[Family] = Group(
    "model family", Family, "evalkit.model.families", "FAMILY", "FAMILIES", "evalkit.families"
)
backends: Group[BackendFactory] = Group(
    "backend", BackendFactory, "evalkit.model.backends", "BACKEND", "BACKENDS", "evalkit.backends"
)


def family_name(model_type: str, name: str, chat_format: object = None) -> str | None:
    """The family that claims a checkpoint (see ``Family.claims``); None if none does.

    Raises:
        UserError: several families claim it.
    """
    claiming = [family.name for family in families.all() if family.claims(model_type, name, chat_format)]
    if len(claiming) > 1:
        raise UserError(
            f"{name} (model_type {model_type!r}) is claimed by the model families {' and '.join(claiming)}; "
            "choose one with --family."
        )
    return claiming[0] if claiming else None
