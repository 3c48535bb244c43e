"""Finding plugins by name, when asked and not before.

A plugin of evalkit's own is a file: the task ``vqav2`` is ``tasks/vqa/vqav2.py``, the family ``qwen2.5-vl`` is
``model/families/qwen2_5_vl.py``.  Other packages offer theirs through entry points (``evalkit.tasks``,
``evalkit.metrics``, ``evalkit.families``, ``evalkit.backends``), whose names are the plugins' names.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from evalkit.errors import UserError
from evalkit.interfaces import BackendFactory, Family, Metric, Task

P = TypeVar("P")


def module_name(name: str) -> str:
    """The file name of a plugin: ``refcoco+`` → ``refcoco_plus``, ``qwen2.5-vl`` → ``qwen2_5_vl``."""
    return name.replace("+", "_plus").replace("-", "_").replace(".", "_")


@dataclass(frozen=True)
class Group(Generic[P]):
    """One sort of plugin: the package its own files live in, and the module attribute that holds the plugin."""

    what: str
    package: str
    attribute: str
    entry_point: str

    def _outside(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        own = self._modules()
        for point in entry_points(group=self.entry_point):
            if point.name in found or module_name(point.name) in own:
                raise UserError(
                    f"two {self.what}s are called {point.name!r}: the one in {point.value} must take another name "
                    f"(entry point group {self.entry_point})."
                )
            found[point.name] = point
        return found

    def _modules(self) -> dict[str, str]:
        """Plugin file name to module, one level of sub-packages included; only packages are imported."""
        found: dict[str, str] = {}
        packages = [self.package]
        while packages:
            package = packages.pop(0)
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
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

    def _own(self, path: str) -> P:
        loaded = importlib.import_module(path)
        try:
            return cast(P, getattr(loaded, self.attribute))
        except AttributeError:
            raise UserError(f"{loaded.__file__} defines no {self.attribute}, so it is no {self.what}.") from None

    def _load_outside(self, point: EntryPoint) -> P:
        try:
            plugin: Any = point.load()
        except Exception as error:  # another package's import may fail in any way; name it instead of a traceback
            raise UserError(
                f"the {self.what} {point.name!r} could not be loaded from {point.value}: {error}"
            ) from error
        return cast(P, plugin)

    def get(self, name: str) -> P:
        """The plugin called ``name``.  Raises ``UserError`` with the nearest names when there is none."""
        outside = self._outside()
        if name in outside:
            return self._load_outside(outside[name])
        own = self._modules()
        if module_name(name) in own:
            plugin = self._own(own[module_name(name)])
            if getattr(plugin, "name", name) == name:
                return plugin
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}."
        raise UserError(f"unknown {self.what} {name!r}: {hint}")

    def all(self) -> list[P]:
        """Every plugin, by name."""
        plugins = [self._own(path) for path in self._modules().values()] + [
            self._load_outside(p) for p in self._outside().values()
        ]
        return sorted(plugins, key=lambda p: str(getattr(p, "name", "")))

    def names(self) -> list[str]:
        """Every plugin's name."""
        return [str(getattr(plugin, "name", "")) for plugin in self.all()]


tasks: Group[Task] = Group("task", "evalkit.tasks", "TASK", "evalkit.tasks")
metrics: Group[Metric] = Group("metric", "evalkit.metrics", "METRIC", "evalkit.metrics")
families: Group[Family] = Group("model family", "evalkit.model.families", "FAMILY", "evalkit.families")
backends: Group[BackendFactory] = Group("backend", "evalkit.model.backends", "BACKEND", "evalkit.backends")


@cache
def family_by_model_type() -> dict[str, str]:
    """Which family a checkpoint's ``model_type`` belongs to."""
    return {model_type: family.name for family in families.all() for model_type in family.model_types}


def family_name(model_type: str, model: str, chat_format: object = None) -> str | None:
    """The family that a model belongs to; None where none knows its ``model_type``.

    Qwen-VL and Qwen-VL-Chat have one ``config.json``; the ``chat_format`` of ``generation_config.json`` tells them
    apart (``raw`` and ``chatml``), and where that is absent, whether ``model``, the name, has "chat" in it.
    """
    name = family_by_model_type().get(model_type)
    if name != "qwen-vl":
        return name
    chat = chat_format == "chatml" if chat_format in ("raw", "chatml") else "chat" in model.lower()
    return "qwen-vl-chat" if chat else name
